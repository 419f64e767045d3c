//! Where PostgreSQL's programs are, and who may run them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::Context as _;

/// A user that PostgreSQL accepts: it refuses to run as root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// The user as whom servers run: `None` for the caller itself, which is so unless the caller is root.
///
/// # Errors
/// When the caller is root and the machine has neither a user `postgres` nor `nobody`.
pub(super) fn server_user() -> anyhow::Result<Option<User>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let accounts = std::fs::read_to_string("/etc/passwd").context("reading /etc/passwd")?;
    ["postgres", "nobody"]
        .into_iter()
        .find_map(|name| find_user(&accounts, name))
        .map(Some)
        .context("PostgreSQL does not run as root, and there is no user postgres or nobody to run it as")
}

fn find_user(accounts: &str, name: &str) -> Option<User> {
    accounts.lines().find_map(|line| {
        let mut fields = line.split(':');
        let named = fields.next() == Some(name);
        let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
        named.then_some(User { uid, gid })
    })
}

/// The directory of `initdb` and `postgres`, as `tests/scripts/install-postgres --find` finds it.
///
/// # Errors
/// When there is none; the script's own sentence says what to do.
pub(super) fn bin_dir() -> anyhow::Result<&'static Path> {
    static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    FOUND.get_or_init(find_bin_dir).as_deref().map_err(|why| anyhow::anyhow!("{why}"))
}

fn find_bin_dir() -> Result<PathBuf, String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/install-postgres");
    let output =
        Command::new(script).arg("--find").output().map_err(|error| format!("running {script}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    match said.lines().last() {
        Some(dir) if output.status.success() => Ok(PathBuf::from(dir)),
        _ => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_its_whole_name() {
        let accounts = "nobody2:x:1:1::/:\nnobody:x:65534:65533:nobody:/nonexistent:/usr/sbin/nologin\n";
        assert_eq!(find_user(accounts, "nobody"), Some(User { uid: 65534, gid: 65533 }));
        assert_eq!(find_user(accounts, "postgres"), None);
    }
}
