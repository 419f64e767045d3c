//! docs/testing.md names the tests of every case and every invariant: they must exist, and none may be missing.

#![cfg(test)] // clippy then lets helpers fail as tests do

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Cases that must have rows, and invariants.
const CASES: u32 = 21;
const INVARIANTS: u32 = 15;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// One row of the page: the case or invariant, and the tests that it names.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    name: String,
    tests: Vec<String>,
}

/// The rows of all tables that begin with the number of a case or an invariant.
fn rows(page: &str) -> Vec<Row> {
    let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let mut rows = Vec::new();
    for line in page.lines().filter(|line| line.starts_with('|')) {
        let cells = cells(line);
        let [_, name, .., tests, _] = cells.as_slice() else { continue };
        if number(name).is_some() {
            let tests = tests.split('`').filter(|part| part.contains("::")).map(str::to_owned).collect();
            rows.push(Row { name: name.clone(), tests });
        }
    }
    rows
}

/// `12b` is case 12, `I7` invariant 7.
fn number(name: &str) -> Option<(bool, u32)> {
    match name.strip_prefix('I') {
        Some(invariant) => Some((true, invariant.parse().ok()?)),
        None => Some((false, name.strip_suffix(|letter: char| letter.is_ascii_lowercase())?.parse().ok()?)),
    }
}

/// The tests of a source: their names, and whether they are left out unless asked for.
fn tests_in(source: &str) -> BTreeMap<String, bool> {
    let mut found = BTreeMap::new();
    let (mut is_test, mut ignored) = (false, false);
    for line in source.lines().map(str::trim) {
        is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
        ignored |= line.starts_with("#[ignore");
        let function = ["fn ", "async fn "].iter().find_map(|start| line.strip_prefix(start));
        if let Some(function) = function {
            let name: String = function.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if is_test {
                found.insert(name, ignored);
            }
            (is_test, ignored) = (false, false);
        }
    }
    found
}

/// What is wrong with a page, for which `source` reads the files.
fn complaints(page: &str, source: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let rows = rows(page);
    let mut complaints = Vec::new();
    let there: BTreeSet<(bool, u32)> = rows.iter().filter_map(|row| number(&row.name)).collect();
    let cases = (1..=CASES).map(|case| (false, case));
    for missing in cases.chain((1..=INVARIANTS).map(|one| (true, one))).filter(|one| !there.contains(one)) {
        let (kind, number) = (if missing.0 { "invariant I" } else { "case " }, missing.1);
        complaints.push(format!("{kind}{number} has no row"));
    }
    for Row { name, tests } in &rows {
        let mut always_runs = false;
        for test in tests {
            let Some((file, function)) = test.split_once("::") else { continue };
            match source(file).map(|text| tests_in(&text).get(function).copied()) {
                None => complaints.push(format!("{name}: there is no file {file}")),
                Some(None) => complaints.push(format!("{name}: {file} has no test {function}")),
                Some(Some(ignored)) => always_runs |= !ignored,
            }
        }
        if !always_runs {
            complaints.push(format!("{name} has no test that `make test` runs"));
        }
    }
    complaints
}

#[test]
fn every_case_and_every_invariant_names_tests_that_exist() {
    let page = std::fs::read_to_string(root().join("docs/testing.md")).unwrap();
    let found = complaints(&page, |file| std::fs::read_to_string(root().join(file)).ok());
    assert!(found.is_empty(), "docs/testing.md:\n{}", found.join("\n"));
}

/// A page with a row for each, all of which name the same test.
fn whole_page() -> String {
    let row = |name: String| format!("| {name} | what happens | `a.rs::it_holds` |\n");
    let cases = (1..=CASES).map(|case| row(format!("{case}a")));
    cases.chain((1..=INVARIANTS).map(|one| row(format!("I{one}")))).collect()
}

fn judge(page: &str, source: &str) -> Vec<String> {
    complaints(page, |file| (file == "a.rs").then(|| source.to_owned()))
}

const SOURCE: &str = "#[tokio::test]\nasync fn it_holds() {\n";

#[test]
fn a_page_that_names_what_exists_is_accepted() {
    assert_eq!(judge(&whole_page(), SOURCE), Vec::<String>::new());
}

#[test]
fn a_row_without_a_test_and_a_case_without_a_row_are_noticed() {
    let page = whole_page().replace("| I7 | what happens | `a.rs::it_holds` |", "| I7 | what happens | |");
    assert_eq!(judge(&page, SOURCE), ["I7 has no test that `make test` runs"]);
    let page = whole_page().replace("| 12a |", "| twelve |");
    assert_eq!(judge(&page, SOURCE), ["case 12 has no row"]);
}

#[test]
fn a_test_that_is_gone_or_no_test_or_left_out_is_noticed() {
    for source in ["#[test]\nfn something_else() {\n", "fn it_holds() {\n"] {
        let found = judge(&whole_page(), source);
        assert!(found.contains(&"1a: a.rs has no test it_holds".to_owned()), "{found:?}");
    }
    let found = judge(&whole_page(), "#[test]\n#[ignore = \"long\"]\nfn it_holds() {\n");
    assert!(found.contains(&"1a has no test that `make test` runs".to_owned()), "{found:?}");
    let found = complaints(&whole_page(), |_| None);
    assert!(found.contains(&"1a: there is no file a.rs".to_owned()), "{found:?}");
}
