//! Statements, to the parser that finds transaction control in them.

#![no_main]

mod begin;

use votum_participant::fuzzing::{statement, statements};

libfuzzer_sys::fuzz_target!(init: begin::with(statements()), |bytes: &[u8]| statement(bytes));
