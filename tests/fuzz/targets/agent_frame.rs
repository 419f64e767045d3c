//! Frames of an agent, to a driver with a transaction under way.

#![no_main]

mod begin;

use votum_coordinator::driver::fuzzing::{examples, frame};

libfuzzer_sys::fuzz_target!(init: begin::with(examples()), |bytes: &[u8]| frame(bytes));
