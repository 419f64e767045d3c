//! Which lives this log has seen, and whether somebody has seen more of it than it holds itself: a stale
//! log. Pure.

use votum_proto::canary::{Canary, sings};
use votum_proto::names::{Epoch, Gid, Gtid, Life};

/// One life that the log has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LifeSeen {
    /// Which.
    pub life: Life,
    /// The highest seq leased in it.
    pub leased_until: u64,
    /// The last position written in it; the newest on disk for the present life.
    pub last_position: u64,
}

/// How far a log reached when a coordinator spoke to an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Witness {
    /// Who spoke.
    pub life: Life,
    /// The last position on disk then.
    pub position: u64,
}

/// What shows that a log is stale.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Proof {
    /// The life of which the log lacks something.
    pub life: Life,
    /// What was seen, and what the log holds.
    pub what: String,
}

/// What a witness proves against a log.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum WitnessSays {
    /// Nothing: the log holds what it saw.
    Whole,
    /// The log is stale.
    Stale(Proof),
    /// It speaks of a life that only the store may remember: to be judged when the list is whole.
    NotYet,
}

/// What an agent's hello proves against a log. It is judged whole before any of it is acted on: a stale log
/// must not presume an abort in the very hello that proves it stale.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct HelloSays {
    /// Each one shows that the log is stale.
    pub proofs: Vec<Proof>,
    /// A witness to be judged when the list of lives is whole.
    pub not_yet: Option<Witness>,
}

/// Every life that the log has seen, oldest first, the present one last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Lives {
    lives: Vec<LifeSeen>,
    /// Whether the list is the whole one, and not what the journal alone holds.
    complete: bool,
    /// The newest epoch of which a person has written off what is lacking.
    written_off: Option<Epoch>,
}

impl Lives {
    /// A list. `complete` is false while only the journal was read.
    pub fn new(lives: Vec<LifeSeen>, complete: bool) -> Self {
        Self { lives, complete, written_off: None }
    }

    /// The same list, of a log in which a person has written off what is lacking up to `through`.
    #[must_use]
    pub fn with_written_off(self, through: Option<Epoch>) -> Self {
        Self { written_off: through, ..self }
    }

    /// The newest epoch of which a person has written off what is lacking.
    pub fn written_off(&self) -> Option<Epoch> {
        self.written_off
    }

    /// Whether records of the life may be lacking, as a person has said: their absence proves nothing, and
    /// nobody's having seen them proves the log stale.
    pub fn is_written_off(&self, life: Life) -> bool {
        self.written_off.is_some_and(|through| life.epoch <= through)
    }

    /// The life's entry, if the log knows it.
    pub fn get(&self, life: Life) -> Option<&LifeSeen> {
        self.lives.iter().find(|seen| seen.life == life)
    }

    /// Whether a life that is not in the list is certainly unknown to the log.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Whether it is the present life.
    pub fn is_newest(&self, life: Life) -> bool {
        self.lives.last().is_some_and(|newest| newest.life == life)
    }

    /// The present life's lease has grown.
    pub fn leased(&mut self, until: u64) {
        if let Some(present) = self.lives.last_mut() {
            present.leased_until = present.leased_until.max(until);
        }
    }

    /// The present life's log has grown, on disk.
    pub fn reached(&mut self, position: u64) {
        if let Some(present) = self.lives.last_mut() {
            present.last_position = present.last_position.max(position);
        }
    }

    /// Whether `gtid` may have been handed out: its life is known and its seq within that life's lease.
    pub fn handed_out(&self, gtid: &Gtid) -> bool {
        self.get(gtid.life).is_some_and(|seen| (1..=seen.leased_until).contains(&gtid.seq))
    }

    /// What a hello proves against this log: its witness, and the gids of ours that it lists.
    pub fn judge_hello(&self, witness: Option<Witness>, gids: &[Gid]) -> HelloSays {
        let mut says = HelloSays::default();
        if let Some(witness) = witness.filter(|_| !sings(Canary::ActOnUnjudgedHello)) {
            match self.judge_witness(witness) {
                WitnessSays::Whole => {}
                WitnessSays::Stale(proof) => says.proofs.push(proof),
                WitnessSays::NotYet => says.not_yet = Some(witness),
            }
        }
        says.proofs.extend(gids.iter().find_map(|gid| self.judge_gid(gid)));
        says
    }

    /// What a witness proves against this log.
    pub fn judge_witness(&self, witness: Witness) -> WitnessSays {
        let Witness { life, position } = witness;
        let stale = |what| WitnessSays::Stale(Proof { life, what });
        match self.get(life) {
            _ if self.is_written_off(life) || sings(Canary::IgnoreWitness) => WitnessSays::Whole,
            Some(seen) if position <= seen.last_position => WitnessSays::Whole,
            Some(seen) => stale(format!(
                "its witness saw position {position} of epoch {life}, and this log ends at {} there",
                seen.last_position
            )),
            None if !self.complete && self.may_be_earlier(life) => WitnessSays::NotYet,
            None => stale(format!("its witness saw epoch {life}, which this log does not hold")),
        }
    }

    /// What a prepared gid proves against this log, if anything. Its life must be known: another life's gid
    /// is not ours, whoever made it.
    pub fn judge_gid(&self, gid: &Gid) -> Option<Proof> {
        let life = gid.gtid.life;
        let seen = self.get(life).filter(|_| !self.is_written_off(life))?;
        (gid.gtid.seq > seen.leased_until).then(|| Proof {
            life,
            what: format!("{gid} is prepared, and this log leased only {} in that epoch", seen.leased_until),
        })
    }

    fn may_be_earlier(&self, life: Life) -> bool {
        self.lives.first().is_none_or(|oldest| life.epoch < oldest.life.epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use votum_proto::names::{Epoch, Incarnation};

    fn life(epoch: u64) -> Life {
        Life { epoch: Epoch(epoch), incarnation: Incarnation::from_low_bits(epoch as u32 + 100) }
    }

    fn lives(complete: bool) -> Lives {
        let seen = |epoch, last_position| LifeSeen { life: life(epoch), leased_until: 1000, last_position };
        Lives::new(vec![seen(2, 50), seen(3, 90)], complete)
    }

    fn judged(lives: &Lives, life: Life, position: u64) -> WitnessSays {
        lives.judge_witness(Witness { life, position })
    }

    #[test]
    fn a_witness_beyond_the_end_of_its_epoch_makes_the_log_stale() {
        let lives = lives(true);
        assert_eq!(judged(&lives, life(2), 50), WitnessSays::Whole);
        assert!(matches!(judged(&lives, life(2), 51), WitnessSays::Stale(_)));
        assert!(matches!(judged(&lives, life(3), 91), WitnessSays::Stale(_)));
    }

    #[test]
    fn a_witness_of_an_epoch_or_incarnation_that_the_log_lacks_makes_it_stale() {
        assert!(matches!(judged(&lives(true), life(4), 1), WitnessSays::Stale(_)));
        assert!(matches!(judged(&lives(true), life(1), 1), WitnessSays::Stale(_)));
        let copied = Life { epoch: Epoch(3), incarnation: Incarnation::from_low_bits(7) };
        assert!(matches!(judged(&lives(false), copied, 1), WitnessSays::Stale(_)));
    }

    #[test]
    fn what_was_written_off_proves_nothing_any_more_and_what_came_after_it_does() {
        let written_off = |through| lives(true).with_written_off(Some(Epoch(through)));
        let other = Life { epoch: Epoch(4), incarnation: Incarnation::from_low_bits(7) };
        for seen in [life(2), life(4), other] {
            assert_eq!(judged(&written_off(4), seen, 1000), WitnessSays::Whole, "{seen}");
        }
        assert!(matches!(judged(&written_off(4), life(5), 1), WitnessSays::Stale(_)));
        assert!(matches!(judged(&written_off(2), life(3), 91), WitnessSays::Stale(_)));
        let gtid = Gtid { coordinator_id: "acme".parse().unwrap(), life: life(2), seq: 1001 };
        let beyond = Gid { gtid, branch: 0, branches: 1 };
        assert_eq!(written_off(2).judge_gid(&beyond), None);
        assert!(written_off(1).judge_gid(&beyond).is_some());
    }

    #[test]
    fn before_the_log_is_counted_a_witness_of_an_older_epoch_is_not_judged_yet() {
        assert_eq!(judged(&lives(false), life(1), 1), WitnessSays::NotYet);
        assert!(matches!(judged(&lives(false), life(4), 1), WitnessSays::Stale(_)));
    }

    #[test]
    fn a_gid_beyond_its_epochs_lease_makes_the_log_stale() {
        let gid = |epoch, seq| Gid {
            gtid: Gtid { coordinator_id: "acme".parse().unwrap(), life: life(epoch), seq },
            branch: 0,
            branches: 1,
        };
        assert_eq!(lives(true).judge_gid(&gid(2, 1000)), None);
        assert!(lives(true).judge_gid(&gid(2, 1001)).is_some());
        assert_eq!(lives(true).judge_gid(&gid(9, 5000)), None, "an unknown epoch's gid is not ours");
    }
}
