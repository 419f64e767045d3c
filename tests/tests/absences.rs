//! The structure as absences: what must not be found in which room. Reads the source tree.

#![cfg(test)] // clippy then lets helpers fail as tests do

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Every Rust file below `folder`, tests of its own aside.
fn sources(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if name != "tests" {
                    folders.push(path);
                }
            } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no source under {folder}: the test reads nothing");
    found
}

/// The lines of code that contain one of `words`, comments and in-file tests aside.
fn offences(files: &[PathBuf], words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(file).unwrap();
        for (number, line) in text.lines().enumerate() {
            if line.trim_start().starts_with("#[cfg(test)]") {
                break;
            }
            let code = line.split("//").next().unwrap_or_default();
            if words.iter().any(|word| code.contains(word)) {
                let shown = file.strip_prefix(root()).unwrap().display();
                found.push(format!("{shown}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    found
}

fn without(files: Vec<PathBuf>, names: &[&str]) -> Vec<PathBuf> {
    for name in names {
        assert!(files.iter().any(|file| file.ends_with(name)), "{name} is excepted and does not exist");
    }
    files.into_iter().filter(|file| !names.iter().any(|name| file.ends_with(name))).collect()
}

#[track_caller]
fn none(offences: &[String]) {
    assert!(offences.is_empty(), "\n{}", offences.join("\n"));
}

const OUTSIDE_WORLD: &[&str] = &[
    "tokio",
    "tonic",
    "sled",
    "std::time",
    "rand::",
    "getrandom",
    "async ",
    ".await",
    "std::fs",
    "std::net",
    "metrics",
];

#[test]
fn the_protocol_knows_no_async_clock_disk_network_or_randomness() {
    none(&offences(&sources("coordinator/src/protocol"), OUTSIDE_WORLD));
}

#[test]
fn the_logs_discipline_knows_no_async_clock_sled_or_randomness() {
    // The rooms where the discipline meets the world.
    let edges = [
        "mod.rs",
        "config.rs",
        "desk.rs",
        "files.rs",
        "sled_store.rs",
        "start.rs",
        "task.rs",
        "timed.rs",
        "writer.rs",
    ];
    let words =
        ["tokio", "tonic", "sled::", "std::time", "rand::", "getrandom", "async ", ".await", "metrics"];
    none(&offences(&without(sources("coordinator/src/log"), &edges), &words));
}

#[test]
fn the_coordinator_contains_no_sql_and_no_database_driver() {
    let words = ["tokio_postgres", "SELECT ", "INSERT INTO", "pg_xact_status(", "FROM pg_"];
    none(&offences(&sources("coordinator/src"), &words));
    let manifest = std::fs::read_to_string(root().join("coordinator/Cargo.toml")).unwrap();
    assert!(!manifest.contains("tokio-postgres"), "the coordinator depends on a database driver");
}

#[test]
fn of_the_client_only_its_embedded_folder_knows_coordinator_and_agents() {
    let embedded = root().join("client/src/embedded");
    let files: Vec<PathBuf> =
        sources("client/src").into_iter().filter(|file| !file.starts_with(&embedded)).collect();
    none(&offences(&files, &["votum_coordinator", "votum_participant"]));
}

#[test]
fn one_file_touches_sled() {
    let all = ["proto/src", "coordinator/src", "participant/src", "client/src", "recovery-tool/src"];
    let files = all.into_iter().flat_map(sources).collect();
    none(&offences(&without(files, &["log/sled_store.rs"]), &["sled::", "use sled"]));
}

#[test]
fn only_the_agents_postgres_folder_speaks_to_a_database() {
    let files = ["proto/src", "coordinator/src", "participant/src", "client/src", "recovery-tool/src"]
        .into_iter()
        .flat_map(sources)
        .filter(|file| !file.starts_with(root().join("participant/src/postgres")))
        .collect::<Vec<_>>();
    // What an application prepares on a connection of its own, it prepares in its own process.
    let files = without(files, &["client/src/attached.rs"]);
    none(&offences(&files, &["tokio_postgres", "batch_execute", "simple_query"]));
}

#[test]
fn what_judges_databases_asks_nobody() {
    let files = without(
        sources("participant/src/postgres/preflight"),
        &["preflight/questions.rs", "preflight/mod.rs"],
    );
    let words = ["tokio", "simple_query", "async ", ".await", "std::time", "std::fs", "std::net", "Clock"];
    none(&offences(&files, &words));
}

#[test]
fn what_judges_a_lost_log_asks_nobody() {
    let asking = ["choices.rs", "mod.rs", "read.rs", "report.rs", "settle.rs"];
    let files = without(sources("recovery-tool/src/lost_log"), &asking);
    let words =
        ["tokio", "async ", ".await", "std::time", "std::fs", "std::net", "Clock", "Place", "fs::", "File"];
    none(&offences(&files, &words));
}

#[test]
fn the_protocol_imports_nothing_from_above() {
    let upward = ["crate::driver", "crate::server", "crate::transport", "crate::log"];
    none(&offences(&sources("coordinator/src/protocol"), &upward));
    none(&offences(&sources("coordinator/src/log"), &["crate::driver", "crate::server", "crate::transport"]));
    none(&offences(&sources("coordinator/src/transport"), &["crate::driver", "crate::server"]));
    none(&offences(&sources("coordinator/src/driver"), &["crate::server"]));
}

/// What is counted is passed in, as clock and tasks are.
#[test]
fn no_metric_is_global() {
    let files = ["proto/src", "coordinator/src", "participant/src"].into_iter().flat_map(sources);
    let counting = files.filter(|file| std::fs::read_to_string(file).unwrap().contains("prometheus_client"));
    let counting: Vec<PathBuf> = counting.collect();
    assert!(counting.len() > 4, "the search finds nothing: {counting:?}");
    none(&offences(&counting, &[" static ", "pub static ", "thread_local!", "LazyLock", "OnceLock"]));
}

#[test]
fn every_select_is_biased() {
    let all = ["proto/src", "coordinator/src", "participant/src", "client/src", "recovery-tool/src"];
    let mut unbiased = Vec::new();
    for file in all.into_iter().flat_map(sources) {
        let text = std::fs::read_to_string(&file).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        for pair in lines.windows(2) {
            if pair[0].contains("select! {") && pair[1].trim() != "biased;" {
                unbiased.push(format!("{}: {}", file.display(), pair[0].trim()));
            }
        }
    }
    none(&unbiased);
}

#[test]
fn no_file_has_grown_past_one_subject() {
    let long: Vec<String> = [
        "proto/src",
        "coordinator/src",
        "participant/src",
        "client/src",
        "recovery-tool/src",
        "tests/src",
        "bench/src",
    ]
    .into_iter()
    .flat_map(sources)
    .filter_map(|file| {
        let lines = std::fs::read_to_string(&file).unwrap().lines().count();
        (lines > 500).then(|| format!("{}: {lines} lines", file.display()))
    })
    .collect();
    none(&long);
}
