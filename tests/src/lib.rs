//! What Votum's tests on real servers and real processes are built from, and its demonstration.
//!
//! [`postgres`] starts servers, [`process`] the coordinator and the agents, [`world`] all of them together
//! with the accounts of a few banks; [`ledger`] writes down what clients were told, and [`invariants`] judges
//! databases against it. Whatever ends a test, [`guard`] ends what it started.

pub mod eventually;
pub mod guard;
pub mod inspect;
pub mod invariants;
pub mod ledger;
pub mod plain;
pub mod postgres;
pub mod process;
pub mod scene;
pub mod teller;
pub mod world;

use std::path::{Path, PathBuf};

/// Creates a directory that everyone on this machine may enter, with a name short enough that a Unix socket
/// fits into it. The caller removes it.
///
/// # Errors
/// When it cannot be created.
pub fn temporary_directory(what: &str) -> anyhow::Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;
    // The path of a Unix socket has room for 107 bytes, and macOS's own temporary directory takes half.
    let base = Some(std::env::temp_dir()).filter(|dir| dir.as_os_str().len() <= 40);
    let dir = tempfile::Builder::new()
        .prefix(&format!("votum-{what}-"))
        .permissions(std::fs::Permissions::from_mode(0o755))
        .tempdir_in(base.unwrap_or_else(|| PathBuf::from("/tmp")))?;
    Ok(dir.keep())
}

/// The last `lines` lines of a file; a sentence about it when it cannot be read.
pub fn tail(path: &Path, lines: usize) -> String {
    match std::fs::read(path) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let all: Vec<&str> = text.lines().collect();
            all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("\n")
        }
        Err(error) => format!("({} cannot be read: {error})", path.display()),
    }
}
