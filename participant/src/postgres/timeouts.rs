//! The server's own timeouts, for when the agent is gone: its own timer is the first.
//!
//! A session is opened with those of the branch that it is opened for, as its defaults: a later branch that
//! needs about the same has them without a statement, and a reset leaves them as they are.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::error::SqlState;

use super::connect::major_version;

/// By how much the server's timeouts lie behind the agent's, at the least.
const GRACE: Duration = Duration::from_secs(1);
/// By how much more those that a session has by default may lie behind it, in milliseconds.
const SLACK: u32 = 2_000;
/// The first version with a timeout for whole transactions.
const TRANSACTION_TIMEOUT: u32 = 17;

/// After how long the server ends a statement, a transaction that does nothing, and, from version 17 on, any
/// transaction. In milliseconds, one at the least.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Timeouts(u32);

impl Timeouts {
    /// Those of a branch that the agent ends after `limit`.
    pub(super) fn behind(limit: Duration) -> Self {
        let ms = limit.saturating_add(GRACE).as_millis().clamp(1, i32::MAX as u128);
        Self(u32::try_from(ms).unwrap_or(i32::MAX as u32))
    }

    /// Of a session's defaults, as [`STANDING`] reads them.
    pub(super) fn read(text: &str) -> Option<Self> {
        text.parse().ok().filter(|ms| *ms > 0).map(Self)
    }

    /// As the server reads it.
    pub(super) fn milliseconds(self) -> String {
        self.0.to_string()
    }

    /// Whether a session with these defaults needs no others for a branch.
    pub(super) fn serves(self, needed: Self) -> bool {
        (needed.0..=needed.0.saturating_add(SLACK)).contains(&self.0)
    }

    /// Rounded up to the second: branches of one timeout come some time after their transactions began.
    fn rounded(self) -> Self {
        Self(self.0.div_ceil(1_000).saturating_mul(1_000).min(i32::MAX as u32))
    }
}

/// A session's defaults: one number when they are all the same, and something else when they are not. Only
/// those that the connection itself has brought do not change while it stands.
pub(super) const STANDING: &str = "(SELECT pg_catalog.string_agg(DISTINCT \
     CASE WHEN source = 'client' AND setting = reset_val THEN reset_val ELSE '0' END, ' ') \
     FROM pg_catalog.pg_settings WHERE name IN \
     ('statement_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout'))";

/// What the connections of one database have shown of it, for the opening of the next.
#[derive(Debug, Default)]
pub(super) struct Shown {
    /// Its major version; 0 as long as it has not said.
    version: AtomicU32,
    /// Something on the way refuses a connection that brings settings, as some poolers do.
    refuses_settings: AtomicBool,
}

impl Shown {
    /// A server has said its version. Returns the major one, and 0 for what is none.
    pub(super) fn version(&self, text: &str) -> u32 {
        let version = major_version(text).unwrap_or(0);
        let before = self.version.swap(version, Ordering::Relaxed);
        // Another server may take what the one before it did not know.
        if before != 0 && before != version {
            self.refuses_settings.store(false, Ordering::Relaxed);
        }
        version
    }

    /// The options of a connection whose session is to have these defaults. `None` when they would be refused.
    pub(super) fn options(&self, config: &Config, needed: Timeouts) -> Option<String> {
        if self.refuses_settings.load(Ordering::Relaxed) {
            return None;
        }
        let Timeouts(ms) = needed.rounded();
        let mut options = config.get_options().map_or_else(String::new, |own| format!("{own} "));
        options.push_str(&format!("-c statement_timeout={ms} -c idle_in_transaction_session_timeout={ms}"));
        if self.version.load(Ordering::Relaxed) >= TRANSACTION_TIMEOUT {
            options.push_str(&format!(" -c transaction_timeout={ms}"));
        }
        Some(options)
    }

    /// A connection with such options was refused, and one without them was not: no other is tried.
    pub(super) fn refused_settings(&self) {
        if !self.refuses_settings.swap(true, Ordering::Relaxed) {
            tracing::info!(
                "the database lets in no connection that brings settings, as behind some poolers: each branch \
                 is given its timeouts by a statement, which costs it a little"
            );
        }
    }
}

/// Whether a connection may have been refused for its options: not where it is said who may not come in, that
/// there is no such database, or that the server has no room or is not ready.
pub(super) fn may_be_for_settings(error: &tokio_postgres::Error) -> bool {
    const OTHERS: [&str; 4] = ["28", "3D", "53", "57"];
    let other = |code: &SqlState| OTHERS.iter().any(|class| code.code().starts_with(class));
    error.code().is_some_and(|code| !other(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sessions_defaults_serve_what_they_are_behind_by_little() {
        let timeouts = |ms| Timeouts::behind(Duration::from_millis(ms));
        let standing = timeouts(29_990).rounded();
        assert_eq!(standing, Timeouts(31_000));
        for (ms, serves) in [(30_000, true), (29_000, true), (28_000, true), (30_001, false), (27_999, false)]
        {
            assert_eq!(standing.serves(timeouts(ms)), serves, "{ms}");
        }
    }

    #[test]
    fn timeouts_have_bounds_and_what_is_none_is_not_read() {
        assert_eq!(Timeouts::behind(Duration::MAX).rounded(), Timeouts(i32::MAX as u32));
        assert_eq!(Timeouts::read("31000"), Some(Timeouts(31_000)));
        for none in ["", "0", "0 31000", "-1", "31s"] {
            assert_eq!(Timeouts::read(none), None, "{none}");
        }
    }

    #[test]
    fn a_connections_own_options_stay_before_the_timeouts() {
        let mut config = Config::new();
        config.options("-c work_mem=1MB");
        let shown = Shown::default();
        let options = || shown.options(&config, Timeouts(1_500)).unwrap();
        let without = "-c work_mem=1MB -c statement_timeout=2000 -c idle_in_transaction_session_timeout=2000";
        assert_eq!(options(), without);
        assert_eq!(shown.version("17.2 (Debian)"), 17);
        assert_eq!(options(), format!("{without} -c transaction_timeout=2000"));
    }
}
