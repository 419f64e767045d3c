//! Randomness from one seed. Each actor draws from a stream of its own, so that taking one actor's work away
//! leaves the others' draws as they were.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use votum_proto::runtime::Entropy;

use crate::splitmix::SplitMix;

/// A stream of random numbers.
#[derive(Debug, Clone)]
pub struct Random(SplitMix);

impl Random {
    /// The stream `name` of `seed`.
    pub fn new(seed: u64, name: &str) -> Self {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d;
        for byte in name.bytes() {
            state = (state ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        let mut stream = Self(SplitMix::new(state));
        stream.bits();
        stream
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0.bits()
    }

    /// A number below `bound`; 0 where that is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0.below(bound)
    }

    /// A number from `from` up to and without `to`.
    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to.saturating_sub(from))
    }

    /// True `per_mille` times in a thousand.
    pub fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }

    /// A place in a collection of `length`.
    pub fn index(&mut self, length: usize) -> usize {
        self.0.place(length)
    }

    /// One of `these`; `None` where there is none.
    pub fn pick<'a, T>(&mut self, these: &'a [T]) -> Option<&'a T> {
        these.get(self.index(these.len()))
    }

    /// A duration between so many microseconds.
    pub fn micros(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_micros(self.between(from, to))
    }

    /// A duration between so many milliseconds.
    pub fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_micros(self.between(from * 1000, to * 1000))
    }
}

/// A stream that many hold.
#[derive(Debug)]
pub struct Shared(Mutex<Random>);

impl Shared {
    /// The stream `name` of `seed`.
    pub fn new(seed: u64, name: &str) -> Self {
        Self(Mutex::new(Random::new(seed, name)))
    }

    /// Draws.
    pub fn draw<T>(&self, draw: impl FnOnce(&mut Random) -> T) -> T {
        draw(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Entropy for Shared {
    fn bits(&self) -> u64 {
        self.draw(Random::bits)
    }
}
