//! The wire contract is read by people who write clients in other languages: nothing in it goes without a word.

#![cfg(test)] // clippy then lets helpers fail as tests do

use std::path::Path;

/// Lines that declare something, and have no comment before them.
fn undocumented(text: &str) -> Vec<&str> {
    let declares = |line: &str| {
        let words = ["message ", "enum ", "service ", "rpc ", "oneof "];
        words.iter().any(|word| line.starts_with(word)) || (line.ends_with(';') && line.contains(" = "))
    };
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    lines
        .windows(2)
        .filter(|pair| declares(pair[1]) && !pair[1].starts_with("syntax") && !pair[0].starts_with("//"))
        .map(|pair| pair[1])
        .collect()
}

#[test]
fn every_message_and_every_field_says_what_it_means() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("votum/v1");
    let mut read = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(undocumented(&text), [""; 0], "{}", path.display());
        read += text.lines().count();
    }
    assert!(read > 500, "only {read} lines were read");
}

#[test]
fn a_field_without_a_comment_is_found() {
    let text = "// A message.\nmessage Named {\n  string name = 1;\n  // Documented.\n  bool named = 2;\n}";
    assert_eq!(undocumented(text), ["string name = 1;"]);
}
