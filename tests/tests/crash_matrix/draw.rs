//! Choices that come from a seed, and from nothing else.

use votum_tests::splitmix::SplitMix;

/// Draws for a case.
pub(crate) struct Draw(SplitMix);

impl Draw {
    pub(crate) fn new(seed: u64) -> Self {
        Self(SplitMix::new(seed))
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0.place(bound)
    }

    /// One of several.
    pub(crate) fn of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())].clone()
    }
}
