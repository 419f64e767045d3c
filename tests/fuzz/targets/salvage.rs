//! Salvage over journals that were patched.

#![no_main]

mod begin;

use votum_coordinator::log::fuzzing::{patches, salvaged};

libfuzzer_sys::fuzz_target!(init: begin::with(patches()), |bytes: &[u8]| salvaged(bytes));
