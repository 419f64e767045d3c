//! Requests of clients and operators, to a coordinator.

#![no_main]

mod begin;

use votum_coordinator::server::fuzzing::{examples, request};

libfuzzer_sys::fuzz_target!(init: begin::with(examples()), |bytes: &[u8]| request(bytes));
