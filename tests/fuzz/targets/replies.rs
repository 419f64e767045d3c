//! Frames of replies, to a client.

#![no_main]

mod begin;
#[allow(dead_code)] // another target calls the rest
#[path = "../properties/calls.rs"]
mod calls;

use calls::{replies, reply_examples};

libfuzzer_sys::fuzz_target!(init: begin::with(reply_examples()), |bytes: &[u8]| replies(bytes));
