//! Journals that were patched.

#![no_main]

mod begin;

use votum_coordinator::log::fuzzing::{journal, patches};

libfuzzer_sys::fuzz_target!(init: begin::with(patches()), |bytes: &[u8]| journal(bytes));
