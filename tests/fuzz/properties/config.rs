//! Configurations from anybody: every one is taken, or refused with each mistake in words.

use std::cell::RefCell;
use std::path::PathBuf;

use votum_coordinator::config::Config;

/// Any file is a configuration whose values are within their bounds, or is refused by its name.
pub(crate) fn config(bytes: &[u8]) {
    thread_local! {
        static FOLDER: RefCell<Option<tempfile::TempDir>> = const { RefCell::new(None) };
    }
    FOLDER.with_borrow_mut(|folder| {
        let folder = folder.get_or_insert_with(|| tempfile::tempdir().unwrap());
        let file: PathBuf = folder.path().join("votum.toml");
        std::fs::write(&file, bytes).unwrap();
        match Config::load(&file) {
            Ok(config) => {
                assert!(!config.agents().is_empty());
                assert!(config.log.log_config().half_bytes >= 64 << 10);
            }
            Err(errors) => {
                let said = errors.to_string();
                assert!(said.contains("votum.toml") && !errors.mistakes().is_empty(), "{said}");
                assert!(errors.mistakes().iter().all(|mistake| !mistake.is_empty()), "{said}");
            }
        }
    });
}

/// Examples to begin with.
pub(crate) fn examples() -> Vec<Vec<u8>> {
    let smallest = "coordinator_id = \"acme\"\nlisten = \"127.0.0.1:7400\"\n[log]\ndirectory = \"log\"\n\
        [[participants]]\nname = \"bank\"\nagent = \"127.0.0.1:7401\"\n";
    let larger = "coordinator_id = \"acme\"\nlisten = \"unix:/run/votum.sock\"\n[log]\ndirectory = \"/var/log\"\n\
        half_bytes = 1048576\nretention_hours = 24\nlease = 100\nwatchdog_ms = 20000\n[limits]\n\
        max_transactions = 7\ndrain_ms = 5\n[[participants]]\nname = \"bank-a\"\nagent = \"h:1\"\n\
        [[participants]]\nname = \"bank-b\"\nagent = \"[::1]:2\"\n";
    vec![smallest.into(), larger.into()]
}
