//! Frames of a coordinator, to an agent with a branch open or prepared.

#![no_main]

mod begin;

use votum_participant::fuzzing::{frames, orders};

libfuzzer_sys::fuzz_target!(init: begin::with(frames()), |bytes: &[u8]| orders(bytes));
