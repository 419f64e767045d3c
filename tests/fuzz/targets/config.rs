//! Configuration files of a coordinator.

#![no_main]

mod begin;
#[path = "../properties/config.rs"]
mod config;

use config::{config, examples};

libfuzzer_sys::fuzz_target!(init: begin::with(examples()), |bytes: &[u8]| config(bytes));
