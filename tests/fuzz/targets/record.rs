//! Records of the log.

#![no_main]

mod begin;

use votum_coordinator::log::fuzzing::{record, records};

libfuzzer_sys::fuzz_target!(init: begin::with(records()), |bytes: &[u8]| record(bytes));
