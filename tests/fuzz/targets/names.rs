//! Names, and the gids of prepared transactions.

#![no_main]

mod begin;
#[path = "../properties/names.rs"]
mod names;

use names::{examples, names};

libfuzzer_sys::fuzz_target!(init: begin::with(examples()), |bytes: &[u8]| names(bytes));
