//! Judges a coordinator's hello. Of one coordinator_id only the newest life has any effect (I12), and two
//! lives of one epoch mean that a log was copied: neither is believed.

use votum_proto::canary::{Canary, sings};
use votum_proto::names::{Epoch, Life};

/// What an agent remembers of one coordinator_id.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Fence {
    newest: Option<Life>,
    copied: Option<Epoch>,
}

/// The judgement of one hello.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The life that spoke last speaks again.
    Same,
    /// A life newer than any before: everything of older ones ends first.
    Newer,
    /// A newer life has spoken.
    Older {
        /// That one.
        newest: Life,
    },
    /// Another life of the same epoch has spoken.
    Copied {
        /// That one.
        other: Life,
    },
}

impl Fence {
    /// Judges a hello of `life`, and remembers it.
    pub fn judge(&mut self, life: Life) -> Verdict {
        if sings(Canary::SkipFence) && self.newest != Some(life) {
            self.newest = Some(life);
            return Verdict::Newer;
        }
        let Some(newest) = self.newest else {
            self.newest = Some(life);
            return Verdict::Newer;
        };
        if life.epoch > newest.epoch {
            self.newest = Some(life);
            self.copied = None;
            return Verdict::Newer;
        }
        if life.epoch < newest.epoch {
            return Verdict::Older { newest };
        }
        if life != newest || self.copied == Some(life.epoch) {
            self.copied = Some(life.epoch);
            return Verdict::Copied { other: newest };
        }
        Verdict::Same
    }

    /// Remembers a life that spoke before this agent's start, as a database kept it.
    pub fn learn(&mut self, spoke: Life) {
        match self.newest {
            Some(newest) if spoke.epoch < newest.epoch => {}
            Some(newest) if spoke.epoch == newest.epoch => {
                if spoke != newest {
                    (self.newest, self.copied) = (Some(spoke), Some(spoke.epoch));
                }
            }
            Some(_) | None => {
                self.newest = Some(spoke);
                self.copied = None;
            }
        }
    }

    /// The life whose transactions may run here: the newest, unless its epoch has two.
    pub fn speaking(&self) -> Option<Life> {
        self.newest.filter(|life| self.copied != Some(life.epoch))
    }
}

#[cfg(test)]
mod tests {
    use votum_proto::names::Incarnation;

    use super::*;

    fn life(epoch: u64, incarnation: u32) -> Life {
        Life { epoch: Epoch(epoch), incarnation: Incarnation::from_low_bits(incarnation) }
    }

    #[test]
    fn a_newer_epoch_takes_over_and_the_older_is_refused_for_ever() {
        let mut fence = Fence::default();
        assert_eq!(fence.speaking(), None);
        assert_eq!(fence.judge(life(3, 1)), Verdict::Newer);
        assert_eq!(fence.judge(life(3, 1)), Verdict::Same);
        assert_eq!(fence.judge(life(4, 9)), Verdict::Newer);
        assert_eq!(fence.judge(life(3, 1)), Verdict::Older { newest: life(4, 9) });
        assert_eq!(fence.speaking(), Some(life(4, 9)));
    }

    #[test]
    fn what_a_database_kept_counts_as_if_it_had_spoken_here() {
        let mut fence = Fence::default();
        fence.judge(life(3, 1));
        for older in [life(2, 7), life(3, 1)] {
            fence.learn(older);
            assert_eq!(fence.speaking(), Some(life(3, 1)));
        }
        fence.learn(life(3, 2));
        assert_eq!(fence.speaking(), None, "copied");
        fence.learn(life(4, 2));
        assert_eq!(fence.judge(life(3, 1)), Verdict::Older { newest: life(4, 2) });
        assert_eq!(fence.judge(life(4, 2)), Verdict::Same);
        let mut restarted = Fence::default();
        restarted.learn(life(4, 2));
        assert_eq!(restarted.judge(life(4, 1)), Verdict::Copied { other: life(4, 2) });
    }

    #[test]
    fn two_incarnations_of_one_epoch_are_both_refused_until_a_newer_epoch_speaks() {
        let mut fence = Fence::default();
        assert_eq!(fence.judge(life(3, 1)), Verdict::Newer);
        assert_eq!(fence.judge(life(3, 2)), Verdict::Copied { other: life(3, 1) });
        assert_eq!(fence.speaking(), None);
        assert_eq!(fence.judge(life(3, 1)), Verdict::Copied { other: life(3, 1) });
        assert_eq!(fence.judge(life(4, 1)), Verdict::Newer);
        assert_eq!(fence.speaking(), Some(life(4, 1)));
    }
}
