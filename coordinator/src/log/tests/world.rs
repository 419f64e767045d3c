//! What the tests share: records, a world of a disk and a store in memory, real logs in temporary folders.

use std::sync::Arc;

use votum_proto::names::{CoordinatorId, Epoch, Gid, Gtid, Incarnation, Life};

use crate::log::config::Limits;
use crate::log::count::count;
use crate::log::discipline::{Birth, Core, Failure, Started};
use crate::log::journal::Journal;
use crate::log::memory::{MemoryDisk, MemoryStore};
use crate::log::{Entry, LogEvent, Refusal, Token, codec};
use crate::protocol::record::*;

pub(super) fn acme() -> CoordinatorId {
    "acme".parse().unwrap()
}

pub(super) fn life(epoch: u64) -> Life {
    Life { epoch: Epoch(epoch), incarnation: Incarnation::from_low_bits(0x3f_9ac2) }
}

pub(super) fn gtid(life: Life, seq: u64) -> Gtid {
    Gtid { coordinator_id: acme(), life, seq }
}

pub(super) fn branch(number: u16, participant: &str) -> PreparedBranch {
    PreparedBranch {
        number,
        participant: participant.parse().unwrap(),
        xid8: 700 + u64::from(number),
        system_identifier: 7_300_000_000_000_000_001,
        timeline: 1,
        marker: false,
    }
}

pub(super) fn commit(gtid: &Gtid) -> Decided {
    Decided {
        gtid: gtid.clone(),
        decision: Decision::Commit,
        branches_named: 2,
        branches: vec![branch(0, "bank-a"), branch(1, "bank-b")],
        key: Some(KeyRecord {
            client: "shop".into(),
            key: format!("order-{}", gtid.seq),
            request_hash: [7; 32],
        }),
        label: "transfer".into(),
    }
}

pub(super) fn abort(gtid: &Gtid) -> Decided {
    let reason = AbortReason {
        kind: AbortKind::VotedNo,
        participant: Some("bank-b".parse().unwrap()),
        sqlstate: "23505".into(),
        message: "duplicate key".into(),
    };
    Decided { decision: Decision::Abort(reason), key: None, ..commit(gtid) }
}

pub(super) fn begun(gtid: &Gtid) -> Record {
    Record::Begun(Begun {
        gtid: gtid.clone(),
        label: "transfer".into(),
        client: "shop".into(),
        timeout_ms: 60_000,
    })
}

pub(super) fn heuristic(gtid: &Gtid, kind: HeuristicKind) -> Record {
    Record::Heuristic(Heuristic {
        gid: Gid { gtid: gtid.clone(), branch: 1, branches: 2 },
        participant: "bank-b".parse().unwrap(),
        xid8: 701,
        kind,
        detail: "gone".into(),
    })
}

pub(super) fn resolved(gtid: &Gtid) -> Record {
    Record::Resolved(Resolved {
        gid: Gid { gtid: gtid.clone(), branch: 1, branches: 2 },
        participant: "bank-b".parse().unwrap(),
        xid: 701,
        commit: false,
        operator: "ann".into(),
        reason: "the disk of bank-b is gone".into(),
    })
}

pub(super) fn acknowledged(gtid: &Gtid) -> Record {
    Record::Acknowledged(Acknowledged {
        gid: Gid { gtid: gtid.clone(), branch: 1, branches: 2 },
        participant: "bank-b".parse().unwrap(),
        operator: "op".into(),
        reason: "repaid by hand".into(),
    })
}

pub(super) fn written_off(through: u64) -> Record {
    Record::WrittenOff(WrittenOff {
        through: Epoch(through),
        seen: "agent bank-b: epoch 9".into(),
        operator: "ann".into(),
        reason: "the disk is gone".into(),
    })
}

pub(super) fn compared(timeline: u32) -> Compared {
    Compared {
        participant: "bank-b".parse().unwrap(),
        system_identifier: 7_300_000_000_000_000_001,
        timeline,
        unproven: 12,
        operator: "ann".into(),
        reason: "compared, nothing is missing".into(),
    }
}

pub(super) fn forced(token: Token, record: Record) -> Entry {
    Entry { token, record, forced: true }
}

pub(super) fn buffered(token: Token, record: Record) -> Entry {
    Entry { token, record, forced: false }
}

pub(super) fn identity() -> Identity {
    Identity { coordinator_id: acme(), key: [9; 32] }
}

pub(super) const HALF: u64 = 16 << 10;

pub(super) fn limits() -> Limits {
    Limits { half_bytes: HALF, ..Limits::default() }
}

/// A machine with a disk and a store, on which a log was initialized.
pub(super) struct World {
    pub(super) disk: MemoryDisk,
    pub(super) store: MemoryStore,
    pub(super) limits: Limits,
    incarnations: u32,
}

pub(super) type TestCore = Core<MemoryDisk, MemoryStore>;

impl World {
    pub(super) fn new() -> Self {
        Self::sized(HALF)
    }

    /// One whose halves begin with so many bytes.
    pub(super) fn sized(half_bytes: u64) -> Self {
        let disk = MemoryDisk::new();
        let first = codec::encode(&Record::Identity(identity())).unwrap();
        Journal::format(disk.clone(), half_bytes, &[first]).unwrap();
        disk.restart();
        let limits = Limits { half_bytes, ..Limits::default() };
        Self { disk, store: MemoryStore::new(), limits, incarnations: 0 }
    }

    /// The same bytes on another machine.
    pub(super) fn copy(&self) -> Self {
        Self {
            disk: self.disk.copy(),
            store: self.store.copy(),
            limits: self.limits.clone(),
            incarnations: self.incarnations,
        }
    }

    /// Starts, without the store.
    pub(super) fn begin(&mut self) -> Result<Started<MemoryDisk, MemoryStore>, Refusal> {
        self.incarnations += 1;
        let birth = Birth {
            incarnation: Incarnation::from_low_bits(0x10_0000 + self.incarnations),
            lease: 100,
            epoch_above: 0,
        };
        Core::start(self.disk.clone(), self.limits.clone(), &acme(), birth)
    }

    /// Starts, with the store counted.
    pub(super) fn start(&mut self) -> Result<TestCore, Refusal> {
        let Started { mut core, kept, .. } = self.begin()?;
        let archive = count(Arc::new(self.store.clone()), core.identity(), &kept).unwrap();
        core.store_opened(archive);
        let events = core.turn(0).unwrap();
        assert!(events.iter().any(|event| matches!(event, LogEvent::Counted { .. })), "not counted");
        Ok(core)
    }

    /// The power goes and comes back.
    pub(super) fn lose_power(&self) {
        self.disk.restart();
        self.store.restart();
    }
}

/// Turns until nothing is due at `now`; the newest token that was acknowledged.
pub(super) fn settle(core: &mut TestCore, now: u64) -> Result<Option<Token>, Failure> {
    let mut newest = None;
    while core.due().is_some_and(|due| due <= now) {
        for event in core.turn(now)? {
            if let LogEvent::Durable { through, .. } = event {
                newest = Some(through);
            }
        }
    }
    Ok(newest)
}
