//! What the journal alone knows: whose log it is, its lives, what a person has written off of them, and every
//! decision that is still owed. Folded from its records, in the live path and at the start alike.

use std::collections::BTreeMap;

use votum_proto::names::{Gtid, Life};

use super::{KnownLife, LogPosition, TransactionHistory};
use crate::protocol::record::{Carried, Decision, EpochBegun, Identity, Record, WrittenOff};

/// How many lives a change of halves carries at least; the store keeps them all.
const LIVES_CARRIED: usize = 1024;

/// A life, as far as the journal knows it.
#[derive(Debug, Clone)]
struct SeenLife {
    begun: EpochBegun,
    at: (LogPosition, u64),
    lease: Option<(LogPosition, u64, u64)>,
}

/// What the journal alone knows.
#[derive(Debug, Clone, Default)]
pub struct Image {
    identity: Option<(LogPosition, u64, Identity)>,
    lives: BTreeMap<Life, SeenLife>,
    written_off: Option<(LogPosition, u64, WrittenOff)>,
    owed: BTreeMap<Gtid, TransactionHistory>,
}

impl Image {
    /// Folds one record.
    pub fn apply(&mut self, position: LogPosition, running_ms: u64, record: &Record) {
        match record {
            Record::Identity(identity) => self.identity = Some((position, running_ms, identity.clone())),
            Record::Epoch(begun) => {
                let seen = SeenLife { begun: begun.clone(), at: (position, running_ms), lease: None };
                self.lives.entry(begun.life).or_insert(seen);
            }
            Record::Lease { life, until } => {
                if let Some(seen) = self.lives.get_mut(life)
                    && seen.lease.is_none_or(|(_, _, leased)| *until > leased)
                {
                    seen.lease = Some((position, running_ms, *until));
                }
            }
            Record::Begun(_) => {}
            Record::Decided(decided) => match decided.decision {
                Decision::Commit => self.owe(&decided.gtid, position, running_ms, record),
                Decision::Abort(_) => {
                    self.owed.remove(&decided.gtid);
                }
            },
            Record::Delegated(decided) => self.owe(&decided.gtid, position, running_ms, record),
            Record::Ended { gtid } => {
                self.owed.remove(gtid);
            }
            Record::Heuristic(heuristic) => self.note(&heuristic.gid.gtid, position, running_ms, record),
            Record::Resolved(resolved) => self.note(&resolved.gid.gtid, position, running_ms, record),
            Record::Acknowledged(acknowledged) => {
                self.note(&acknowledged.gid.gtid, position, running_ms, record);
            }
            Record::WrittenOff(written_off) => {
                let through = self.written_off().map(|before| before.through);
                if through <= Some(written_off.through) {
                    self.written_off = Some((position, running_ms, written_off.clone()));
                }
            }
            // Nothing is owed of it, and the store holds it before this half is given up.
            Record::Compared(_) => {}
            Record::Carried(carried) => self.apply(carried.position, carried.running_ms, &carried.record),
        }
    }

    fn owe(&mut self, gtid: &Gtid, position: LogPosition, running_ms: u64, record: &Record) {
        self.owed.entry(gtid.clone()).or_default().add(position, running_ms, record.clone());
    }

    fn note(&mut self, gtid: &Gtid, position: LogPosition, running_ms: u64, record: &Record) {
        if let Some(history) = self.owed.get_mut(gtid) {
            history.add(position, running_ms, record.clone());
        }
    }

    /// Whose log it is.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref().map(|(_, _, identity)| identity)
    }

    /// What a person has written off last: the furthest.
    pub fn written_off(&self) -> Option<&WrittenOff> {
        self.written_off.as_ref().map(|(_, _, written_off)| written_off)
    }

    /// The newest life; `None` before the first start.
    pub fn newest_life(&self) -> Option<Life> {
        self.lives.keys().next_back().copied()
    }

    /// The lives that the journal knows, oldest first; the last one reaches to `position`.
    pub fn lives(&self, position: LogPosition) -> Vec<KnownLife> {
        let seen =
            self.lives.values().map(|seen| (seen.begun.clone(), seen.lease.map_or(0, |(_, _, until)| until)));
        known_lives(seen.collect(), position)
    }

    /// Every transaction whose commit is still owed, with its records from the decision on.
    pub fn owed(&self) -> impl Iterator<Item = &TransactionHistory> {
        self.owed.values()
    }

    /// What the first batch of the other half must hold, so that no decision still owed rests on this one.
    pub fn carried(&self) -> Vec<Record> {
        let carry = |position: LogPosition, running_ms: u64, record: Record| {
            Record::Carried(Box::new(Carried { position, running_ms, record }))
        };
        let mut records = Vec::new();
        if let Some((position, running_ms, identity)) = &self.identity {
            records.push(carry(*position, *running_ms, Record::Identity(identity.clone())));
        }
        for (life, seen) in self.lives_to_carry() {
            records.push(carry(seen.at.0, seen.at.1, Record::Epoch(seen.begun.clone())));
            if let Some((position, running_ms, until)) = seen.lease {
                records.push(carry(position, running_ms, Record::Lease { life: *life, until }));
            }
        }
        if let Some((position, running_ms, written_off)) = &self.written_off {
            records.push(carry(*position, *running_ms, Record::WrittenOff(written_off.clone())));
        }
        for history in self.owed.values() {
            for (position, running_ms, record) in &history.records {
                records.push(carry(*position, *running_ms, record.clone()));
            }
        }
        records
    }

    /// The newest lives, back to the oldest that still owes something: without a hole, so that each one's
    /// last position follows from the next one's first.
    fn lives_to_carry(&self) -> impl Iterator<Item = (&Life, &SeenLife)> {
        let oldest_owed = self.owed.keys().next().map(|gtid| gtid.life);
        let recent = self.lives.keys().rev().nth(LIVES_CARRIED - 1).copied();
        let from = match (recent, oldest_owed) {
            (Some(recent), Some(owed)) => Some(recent.min(owed)),
            (recent, None) => recent,
            (None, Some(_)) => None,
        };
        self.lives.iter().filter(move |(life, _)| from.is_none_or(|from| **life >= from))
    }
}

/// Lives in order, with the last position of each: the one before the next one's first.
pub fn known_lives(seen: Vec<(EpochBegun, u64)>, position: LogPosition) -> Vec<KnownLife> {
    let nexts: Vec<LogPosition> = seen
        .iter()
        .skip(1)
        .map(|(begun, _)| begun.first_position.saturating_sub(1))
        .chain([position])
        .collect();
    seen.into_iter()
        .zip(nexts)
        .map(|((begun, leased_until), last_position)| KnownLife { begun, leased_until, last_position })
        .collect()
}
