//! The coordinator and the agents as real processes, which a test may kill and start again.

use std::fs::File;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal};

use crate::eventually::{Found, eventually};
use crate::guard::{self, Watched};

/// Chooses a crash point in a process that was built with them: its name, or `NAME@N` for the Nth time that
/// the process comes by; either with `=stop` behind it to stand still there instead of dying.
pub const CRASH_VARIABLE: &str = "VOTUM_CRASH_POINT";

/// Which build of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Build {
    /// As it is released: no crash points. From `target/plain`.
    Plain,
    /// With crash points, from `target/crash-points`.
    CrashPoints,
    /// In the profile of the program that asks, from beside it: what is measured is what was optimized.
    Beside,
}

/// Where a program of this workspace was built to.
///
/// # Errors
/// When it is not there, or older than the sources: a test of an old program proves nothing. Set
/// `VOTUM_ALLOW_STALE` to go on all the same.
pub fn program(build: Build, name: &str) -> anyhow::Result<PathBuf> {
    let profile = profile_directory()?;
    let target = profile.parent().context("no target directory")?;
    // For tests not what cargo puts beside them: that is plain or with crash points, and may be half written.
    let folder = match build {
        Build::Plain => target.join("plain"),
        Build::CrashPoints => target.join("crash-points"),
        Build::Beside => profile.clone(),
    };
    let path = folder.join(name);
    let built = std::fs::metadata(&path)
        .and_then(|found| found.modified())
        .with_context(|| format!("{} is not built: run `make binaries`", path.display()))?;
    if std::env::var_os("VOTUM_ALLOW_STALE").is_none() {
        let (source, changed) = newest_source(&profile.join(name).with_extension("d"))?;
        ensure!(
            changed <= built,
            "{} is older than {}: run `make binaries`, or set VOTUM_ALLOW_STALE=1 to test the old one",
            path.display(),
            source.display()
        );
    }
    Ok(path)
}

/// `target/debug` or `target/release`, from where this program itself lies.
fn profile_directory() -> anyhow::Result<PathBuf> {
    let this = std::env::current_exe()?;
    let beside = this.parent().context("this program has no directory")?;
    let is_test = beside.file_name().is_some_and(|name| name == "deps");
    Ok(if is_test { beside.parent().unwrap_or(beside) } else { beside }.to_owned())
}

/// The newest file that a program is built from, as cargo noted beside it: a name, a colon, and the files,
/// with spaces in their names escaped.
fn newest_source(dependencies: &Path) -> anyhow::Result<(PathBuf, SystemTime)> {
    let noted = std::fs::read_to_string(dependencies)
        .with_context(|| format!("{} is not there: run `make binaries`", dependencies.display()))?;
    let files = noted.split_once(": ").map(|(_, files)| files.replace("\\ ", "\0")).unwrap_or_default();
    let mut newest = (dependencies.to_owned(), SystemTime::UNIX_EPOCH);
    for file in files.split_whitespace().map(|file| PathBuf::from(file.replace('\0', " "))) {
        // A file that is gone is noticed by the next build.
        let Ok(changed) = std::fs::metadata(&file).and_then(|found| found.modified()) else { continue };
        if changed > newest.1 {
            newest = (file, changed);
        }
    }
    Ok(newest)
}

/// A program, its arguments, and the process that runs it at this moment, if one does. Dropping it kills the
/// process.
#[derive(Debug)]
pub struct Process {
    name: String,
    program: PathBuf,
    arguments: Vec<String>,
    log: PathBuf,
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    watch: Watched,
}

impl Process {
    /// Describes a process; starts nothing. Its output is appended to `log`, over all its lives.
    pub fn new(name: &str, program: PathBuf, arguments: &[&str], log: PathBuf) -> Self {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        Self { name: name.to_owned(), program, arguments, log, running: Mutex::new(None) }
    }

    /// Starts it, with one crash point chosen or none.
    ///
    /// # Errors
    /// When it runs already, or cannot be started.
    pub fn start(&self, crash_point: Option<&str>) -> anyhow::Result<()> {
        ensure!(!self.is_running()?, "{} runs already", self.name);
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).env_remove(CRASH_VARIABLE).env("NO_COLOR", "1");
        if let Some(point) = crash_point {
            command.env(CRASH_VARIABLE, point);
        }
        // Ctrl-C at the terminal must reach the test alone, which then ends the process in its own way.
        command.process_group(0).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("starting {}", self.program.display()))?;
        let watch = guard::process(child.id())?;
        *self.lock() = Some(Running { child, watch });
        Ok(())
    }

    /// SIGKILL, and waits for the end. Nothing happens where it does not run.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn kill9(&self) -> anyhow::Result<()> {
        if let Some(mut running) = self.lock().take() {
            running.child.kill().with_context(|| format!("killing {}", self.name))?;
            running.child.wait().with_context(|| format!("waiting for {}", self.name))?;
        }
        Ok(())
    }

    /// SIGTERM: asks it to stop in order. Wait with [`Process::wait_exit`].
    ///
    /// # Errors
    /// When it does not run.
    pub fn terminate(&self) -> anyhow::Result<()> {
        self.signal(Signal::TERM)
    }

    /// SIGSTOP: it stands still, and its connections stay open.
    ///
    /// # Errors
    /// When it does not run.
    pub fn freeze(&self) -> anyhow::Result<()> {
        self.signal(Signal::STOP)
    }

    /// SIGCONT after [`Process::freeze`].
    ///
    /// # Errors
    /// When it does not run.
    pub fn thaw(&self) -> anyhow::Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let running = self.lock();
        let pid = running.as_ref().with_context(|| format!("{} does not run", self.name))?.child.id();
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("a process without an id")?;
        rustix::process::kill_process(pid, signal).with_context(|| format!("sending to {}", self.name))
    }

    /// Waits until it has ended by itself, at most 30 s.
    ///
    /// # Errors
    /// When it goes on, or was not running.
    pub async fn wait_exit(&self) -> anyhow::Result<ExitStatus> {
        eventually(&format!("{} has ended", self.name), async || match self.reap()? {
            Some(status) => Ok(Found::Yes(status)),
            None if self.lock().is_none() => bail!("{} was not running", self.name),
            None => Ok(Found::NotYet("it still runs".into())),
        })
        .await
    }

    /// Waits until a crash point has killed it.
    ///
    /// # Errors
    /// When it goes on, or ended in another way: then with the end of its log.
    pub async fn wait_crash(&self) -> anyhow::Result<()> {
        self.was_killed(self.wait_exit().await?)
    }

    /// Whether it has been killed since the last look: by a crash point, where nobody else kills it.
    ///
    /// # Errors
    /// When it ended in another way: with the end of its log.
    pub fn has_crashed(&self) -> anyhow::Result<bool> {
        self.reap()?.map(|status| self.was_killed(status)).transpose().map(|killed| killed.is_some())
    }

    fn was_killed(&self, status: ExitStatus) -> anyhow::Result<()> {
        let killed = status.signal() == Some(Signal::KILL.as_raw());
        ensure!(killed, "{} ended with {status}, not at its crash point:\n{}", self.name, self.log_tail());
        Ok(())
    }

    /// Whether it stands still at a crash point that was chosen with `=stop`.
    pub fn is_stopped(&self) -> bool {
        let status = self.pid().and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/status")).ok());
        status
            .is_some_and(|status| status.lines().any(|line| line.starts_with("State:") && line.contains('T')))
    }

    /// Waits until it stands still at such a crash point.
    ///
    /// # Errors
    /// When it does not come by there.
    pub async fn wait_stopped(&self) -> anyhow::Result<()> {
        eventually(&format!("{} stands still", self.name), async || {
            Ok(if self.is_stopped() { Found::Yes(()) } else { Found::NotYet(self.log_tail()) })
        })
        .await
    }

    /// Whether it runs at this moment.
    ///
    /// # Errors
    /// When the operating system does not say.
    pub fn is_running(&self) -> anyhow::Result<bool> {
        self.reap()?;
        Ok(self.lock().is_some())
    }

    /// Its process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.lock().as_ref().map(|running| running.child.id())
    }

    /// What it is called in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that collects its output.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The last lines of its output.
    pub fn log_tail(&self) -> String {
        crate::tail(&self.log, 40)
    }

    /// Lets the process live on when this value, and this process, end.
    pub fn leave_running(&self) {
        *self.lock() = None;
    }

    fn reap(&self) -> anyhow::Result<Option<ExitStatus>> {
        let mut running = self.lock();
        let ended = match running.as_mut() {
            Some(running) => running.child.try_wait()?,
            None => None,
        };
        if ended.is_some()
            && let Some(ended) = running.take()
        {
            drop(ended.watch);
        }
        Ok(ended)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.kill9();
    }
}
