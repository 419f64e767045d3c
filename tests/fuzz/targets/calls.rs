//! Streams of calls, to a server that answers everything.

#![no_main]

mod begin;
#[allow(dead_code)] // another target calls the rest
#[path = "../properties/calls.rs"]
mod calls;

use calls::{calls, examples};

libfuzzer_sys::fuzz_target!(init: begin::with(examples()), |bytes: &[u8]| calls(bytes));
