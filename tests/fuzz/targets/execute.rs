//! Requests of clients to run a statement, to an agent.

#![no_main]

mod begin;

use votum_participant::fuzzing::{execute, requests};

libfuzzer_sys::fuzz_target!(init: begin::with(requests()), |bytes: &[u8]| execute(bytes));
