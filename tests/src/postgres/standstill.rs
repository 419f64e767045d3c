//! A server that stands still: SIGSTOP to its first process and to every process of a connection.

use anyhow::Context as _;
use rustix::process::{Pid, Signal};

use super::Server;

impl Server {
    /// SIGSTOP to all of its processes: connections stay open, and nobody answers on them. Undone by
    /// [`Server::thaw`], and by every way in which a server is stopped.
    ///
    /// # Errors
    /// When it does not run, or the operating system refuses.
    pub fn freeze(&self) -> anyhow::Result<()> {
        // The first process first: no new one comes to be after that.
        self.signal_all(Signal::STOP)
    }

    /// SIGCONT after [`Server::freeze`].
    ///
    /// # Errors
    /// As there.
    pub fn thaw(&self) -> anyhow::Result<()> {
        self.signal_all(Signal::CONT)
    }

    fn signal_all(&self, signal: Signal) -> anyhow::Result<()> {
        let first = self.pid().context("the server does not run")?;
        send(first, signal)?;
        for child in children(first)? {
            // It may have ended since.
            let _ = send(child, signal);
        }
        Ok(())
    }
}

fn send(pid: u32, signal: Signal) -> anyhow::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("a process without an id")?;
    rustix::process::kill_process(pid, signal).context("sending to PostgreSQL")
}

/// Each process of a connection is a group of its own: they are found by their parent.
fn children(parent: u32) -> anyhow::Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        // One that is gone by now is nobody's child.
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let of = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        if of.and_then(|of| of.trim().parse().ok()) == Some(parent) {
            found.push(pid);
        }
    }
    Ok(found)
}
