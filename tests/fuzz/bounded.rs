//! The bounded run of a fuzz target with every test, on stable Rust: what is in its corpus, then changes of
//! that, the same ones in every run.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)] // all of it is tests

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Calls `property` with every input of the target's corpus and of `examples`, and with `runs` changes of
/// them. The input that fails is printed, as Rust writes it: put it into the corpus as a file.
pub(crate) fn run(target: &str, runs: u32, examples: Vec<Vec<u8>>, property: impl Fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus").join(target);
    for input in inputs(&corpus, runs, examples) {
        if catch_unwind(AssertUnwindSafe(|| property(&input))).is_err() {
            panic!("{target} failed, see above, with b\"{}\"", input.escape_ascii());
        }
    }
}

/// What is in `corpus`, and `examples`, and then `runs` changes of them: the same ones every time.
pub(crate) fn inputs(corpus: &Path, runs: u32, examples: Vec<Vec<u8>>) -> impl Iterator<Item = Vec<u8>> {
    let mut known = examples;
    let mut files: Vec<_> =
        std::fs::read_dir(corpus).into_iter().flatten().map(|e| e.unwrap().path()).collect();
    files.sort();
    known.extend(files.iter().map(|file| std::fs::read(file).unwrap()));
    assert!(!known.is_empty(), "nothing to begin with");
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let begin = known.clone();
    let changed = (0..runs).map(move |_| {
        let mut input = known[dice.below(known.len())].clone();
        for _ in 0..=dice.below(3) {
            change(&mut input, &known, &mut dice);
        }
        input
    });
    begin.into_iter().chain(changed)
}

/// One change: a bit, a byte, a number at its bounds, a piece gone, doubled, or taken from another input.
fn change(input: &mut Vec<u8>, others: &[Vec<u8>], dice: &mut Dice) {
    const BOUNDS: [u8; 8] = [0, 1, 0x7f, 0x80, 0xff, b'_', b'-', b'"'];
    let at = dice.below(input.len() + 1);
    let until = at + dice.below((input.len() - at).min(40) + 1);
    match dice.below(7) {
        0 if at < input.len() => input[at] ^= 1 << dice.below(8),
        1 if at < input.len() => input[at] = BOUNDS[dice.below(BOUNDS.len())],
        2 => input.insert(at, BOUNDS[dice.below(BOUNDS.len())]),
        3 => drop(input.drain(at..until)),
        4 => {
            let piece = input[at..until].to_vec();
            input.splice(at..at, piece);
        }
        5 => {
            let other = &others[dice.below(others.len())];
            let from = dice.below(other.len() + 1);
            let piece = &other[from..from + dice.below((other.len() - from).min(64) + 1)];
            input.splice(at..until, piece.iter().copied());
        }
        _ => input[at..until].fill(BOUNDS[dice.below(BOUNDS.len())]),
    }
}

/// The same numbers in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let drawn = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(drawn).unwrap() % bound.max(1)
    }
}
