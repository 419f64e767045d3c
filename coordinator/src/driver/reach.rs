//! Whether the log remembers far enough back for everybody who asks again.

use std::time::Duration;

use super::alarms::SHORT_REACH;
use super::{Driver, LogState};

impl Driver {
    /// Looked at whenever something is on disk or was listed: between these the log drops what it may.
    pub(super) fn judge_reach(&mut self) {
        let LogState::Ready(history) = &self.log_state else { return };
        let (reach, least) = (Duration::from_millis(history.reach_ms()), self.settings.least_reach);
        // A log that has dropped nothing is young, and lacks nothing of what it ever held.
        let is_short = reach < least && history.horizon().is_ok_and(|horizon| horizon.is_some());
        if !is_short {
            self.alarms.clear(SHORT_REACH, "", "");
            return;
        }
        let minutes = |duration: Duration| duration.as_secs() / 60;
        let detail = format!(
            "the log dropped what had ended {} min of running time ago, because it held log.retention_bytes; it \
             has to remember {} min, and what is older reads EXPIRED: raise log.retention_bytes",
            minutes(reach),
            minutes(least)
        );
        self.alarms.raise_if_new(SHORT_REACH, "", "", &detail);
    }
}
