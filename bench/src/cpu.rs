//! How much processor time each part of an installation has used, as Linux counts it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};

/// One tick of the times in /proc: 1/100 s to programs, on every Linux.
const TICK: Duration = Duration::from_millis(10);

/// Whose time it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Group {
    /// The load itself.
    Client,
    /// The coordinator.
    Coordinator,
    /// All agents.
    Agents,
    /// All database servers, with all their processes.
    PostgreSql,
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "client",
            Self::Coordinator => "coordinator",
            Self::Agents => "agents",
            Self::PostgreSql => "PostgreSQL",
        })
    }
}

impl Serialize for Group {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Processor time by group.
pub(crate) type Used = BTreeMap<Group, Duration>;

/// What `processes` and their children have used so far. Empty where there is no /proc. A child that ends
/// takes its time with it until its parent has waited for it.
pub(crate) fn used(processes: &[(Group, u32)]) -> Used {
    let mut used = Used::new();
    for (pid, stat) in all() {
        let named = processes.iter().find(|(_, known)| *known == pid);
        // A server's sessions are its children. Ours are the installation's processes, which are named.
        let parent =
            || processes.iter().find(|(group, known)| *known == stat.parent && *group != Group::Client);
        let (group, time) = match (named, parent()) {
            (Some((group, _)), _) => (*group, stat.with_ended),
            (None, Some((group, _))) => (*group, exactly(pid).unwrap_or(stat.own)),
            (None, None) => continue,
        };
        *used.entry(group).or_default() += time;
    }
    used
}

/// What was used between two looks.
pub(crate) fn between(before: &Used, after: &Used) -> Used {
    let since = |group: &Group| before.get(group).copied().unwrap_or_default();
    after.iter().map(|(group, used)| (*group, used.saturating_sub(since(group)))).collect()
}

/// What a process of one thread has used, to the nanosecond. Sessions are many and each does little: ticks
/// would round most of it away. `None` where the kernel does not keep this.
fn exactly(pid: u32) -> Option<Duration> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).ok()?;
    let nanoseconds = text.split_ascii_whitespace().next()?.parse().ok()?;
    // Kernels that do not keep it show nothing but zeros.
    (nanoseconds > 0).then(|| Duration::from_nanos(nanoseconds))
}

struct Stat {
    parent: u32,
    own: Duration,
    /// With the time of children that were waited for.
    with_ended: Duration,
}

fn all() -> Vec<(u32, Stat)> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    // A process may end between the listing and the look.
    pids.filter_map(|pid| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some((pid, parse(&stat)?))
    })
    .collect()
}

/// Reads /proc/PID/stat. The second field is the program's name, which may hold anything but ends with the
/// last parenthesis.
fn parse(stat: &str) -> Option<Stat> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let ticks = |field: usize| fields.get(field)?.parse::<u32>().ok();
    let own = ticks(11)? + ticks(12)?;
    let ended = ticks(13)? + ticks(14)?;
    Some(Stat { parent: ticks(1)?, own: TICK * own, with_ended: TICK * (own + ended) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_is_named_counts_for_itself_and_others_for_their_parent() {
        let this = std::process::id();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let named = used(&[(Group::Client, this), (Group::Agents, child.id())]);
        let parent = used(&[(Group::PostgreSql, this)]);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(named.keys().copied().collect::<Vec<_>>(), [Group::Client, Group::Agents]);
        assert_eq!(parent.keys().copied().collect::<Vec<_>>(), [Group::PostgreSql]);
    }

    #[test]
    fn a_process_is_read_whatever_its_name_holds() {
        let stat = "17 (a ) 9 (b) S 4 17 17 0 -1 4194560 1 0 0 0 30 12 5 6 20 0 1 0 33 0 0";
        let Stat { parent, own, with_ended } = parse(stat).unwrap();
        assert_eq!((parent, own), (4, Duration::from_millis(420)));
        assert_eq!(with_ended, Duration::from_millis(530));
        assert!(parse("17 (cut").is_none());
    }
}
