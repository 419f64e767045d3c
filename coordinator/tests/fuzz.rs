//! The bounded run of the fuzz target of configurations.

#![cfg(test)] // clippy then lets helpers fail as tests do

#[path = "../../tests/fuzz/bounded.rs"]
mod bounded;
#[path = "../../tests/fuzz/properties/config.rs"]
mod config;

#[test]
fn any_file_is_a_configuration_or_refused_in_words() {
    bounded::run("config", 3_000, config::examples(), config::config);
}
