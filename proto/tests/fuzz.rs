//! The bounded run of the fuzz target of names.

#![cfg(test)] // clippy then lets helpers fail as tests do

#[path = "../../tests/fuzz/bounded.rs"]
mod bounded;
#[path = "../../tests/fuzz/properties/names.rs"]
mod names;

#[test]
fn any_text_is_a_name_that_prints_as_it_stood_or_is_refused() {
    bounded::run("names", 100_000, names::examples(), names::names);
}
