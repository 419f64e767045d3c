//! Draws from a seed, in the terms of a workload.

use crate::splitmix::SplitMix;

/// A source of draws. The same seed gives the same draws.
#[derive(Debug, Clone)]
pub struct Dice(SplitMix);

impl Dice {
    /// Begins at `seed`.
    pub fn new(seed: u64) -> Self {
        Self(SplitMix::new(seed))
    }

    /// For the part of a run that `number` names: its draws do not depend on what others draw.
    pub fn part(seed: u64, number: u64) -> Self {
        Self::new(Self::new(seed ^ number.wrapping_mul(0xD1B5_4A32_D192_ED03)).bits())
    }

    /// 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0.bits()
    }

    /// A number below `bound`; 0 where the bound is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0.below(bound)
    }

    /// A number from `low` to `high`, both possible.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// Whether something happens that happens in `percent` of all cases.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// A place in a list of `length`.
    pub fn place(&mut self, length: usize) -> usize {
        self.0.place(length)
    }

    /// One of several, each as often as its weight says; the last one where all weights are 0.
    pub fn weighted<T: Copy>(&mut self, choices: &[(u64, T)], otherwise: T) -> T {
        let mut left = self.below(choices.iter().map(|(weight, _)| weight).sum());
        for (weight, choice) in choices {
            match left.checked_sub(*weight) {
                None => return *choice,
                Some(rest) => left = rest,
            }
        }
        otherwise
    }

    /// `count` different numbers below `bound`, in a random order; all of them if there are fewer.
    pub fn some(&mut self, count: usize, bound: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..bound).collect();
        let mut chosen = Vec::new();
        while chosen.len() < count && !all.is_empty() {
            chosen.push(all.swap_remove(self.place(all.len())));
        }
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same_and_another_seed_something_else() {
        let draws = |seed| {
            let mut dice = Dice::new(seed);
            (0..8).map(|_| dice.below(1000)).collect::<Vec<_>>()
        };
        assert_eq!(draws(7), draws(7));
        assert_ne!(draws(7), draws(8));
    }

    #[test]
    fn some_are_different_and_within_the_bound() {
        let mut chosen = Dice::new(1).some(3, 3);
        chosen.sort_unstable();
        assert_eq!(chosen, [0, 1, 2]);
        assert_eq!(Dice::new(1).some(5, 2).len(), 2);
    }

    #[test]
    fn a_weight_of_nothing_is_never_drawn() {
        let mut dice = Dice::new(3);
        assert!((0..200).all(|_| dice.weighted(&[(0, 'a'), (3, 'b'), (1, 'c')], 'd') != 'a'));
    }
}
