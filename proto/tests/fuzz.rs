//! The bounded runs of the fuzz targets of names and of streams of calls.

#![cfg(test)] // clippy then lets helpers fail as tests do

#[path = "../../tests/fuzz/bounded.rs"]
mod bounded;
#[path = "../../tests/fuzz/properties/calls.rs"]
mod calls;
#[path = "../../tests/fuzz/properties/names.rs"]
mod names;

#[test]
fn any_text_is_a_name_that_prints_as_it_stood_or_is_refused() {
    bounded::run("names", 100_000, names::examples(), names::names);
}

#[test]
fn every_call_of_any_stream_is_answered_to_its_end() {
    bounded::run("calls", 5_000, calls::examples(), calls::calls);
}

#[test]
fn an_error_in_any_reply_is_the_one_that_was_sent() {
    bounded::run("replies", 10_000, calls::reply_examples(), calls::replies);
}
