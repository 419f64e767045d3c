//! `votumctl` in a terminal, as a person has it: keys go in, and what is on the screen is read.

use std::io::{Read as _, Write};
use std::num::NonZeroU16;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, ensure};
use portable_pty::{Child, CommandBuilder, PtyPair, PtySize, native_pty_system};
use rustix::process::{Pid, Signal};

use crate::eventually::{Found, eventually};
use crate::guard::{self, Watched};
use crate::process::{Build, program};
use crate::world::World;

/// A pseudo-terminal, and the program that runs in it. Dropping it kills the program.
pub struct Terminal {
    screen: Arc<Mutex<vt100::Parser>>,
    keys: Box<dyn Write + Send>,
    child: Box<dyn Child + Send + Sync>,
    pair: PtyPair,
    /// How the terminal was before the program, as it describes itself.
    before: String,
    watch: Option<Watched>,
}

impl Terminal {
    /// Runs `votumctl` with these words in a terminal of so many columns and lines, asking this world's
    /// coordinator.
    ///
    /// # Errors
    /// When there is no terminal to be had, or the program cannot be run.
    pub fn votumctl(world: &World, words: &[&str], columns: u16, lines: u16) -> anyhow::Result<Self> {
        let size = PtySize { rows: lines, cols: columns, pixel_width: 0, pixel_height: 0 };
        let pair = native_pty_system().openpty(size)?;
        let before = settings(&pair)?;
        let mut command = CommandBuilder::new(program(Build::Plain, "votumctl")?);
        command.args(words);
        command.env("VOTUM_COORDINATOR", world.address().to_string());
        command.env("USER", "ada");
        command.env("TERM", "xterm-256color");
        command.env_remove("NO_COLOR");
        let child = pair.slave.spawn_command(command)?;
        let watch = guard::process(child.process_id().context("a process without an id")?)?;
        let screen = Arc::new(Mutex::new(vt100::Parser::new(whole(lines)?, whole(columns)?, 0)));
        let mut output = pair.master.try_clone_reader()?;
        let keys = pair.master.take_writer()?;
        let shown = Arc::clone(&screen);
        // Ends when the terminal is closed: with this value, and the program.
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(read @ 1..) = output.read(&mut bytes) {
                let new = bytes.get(..read).unwrap_or_default();
                shown.lock().unwrap_or_else(PoisonError::into_inner).process(new);
            }
        });
        Ok(Self { screen, keys, child, pair, before, watch: Some(watch) })
    }

    /// What is on the screen, line by line.
    pub fn screen(&self) -> String {
        self.look(|screen| screen.contents())
    }

    /// Reads more of the screen than its text.
    pub fn look<T>(&self, at: impl FnOnce(&vt100::Screen) -> T) -> T {
        at(self.screen.lock().unwrap_or_else(PoisonError::into_inner).screen())
    }

    /// Types, as a person does.
    ///
    /// # Errors
    /// When nobody reads it.
    pub fn types(&mut self, keys: &str) -> anyhow::Result<()> {
        self.keys.write_all(keys.as_bytes())?;
        Ok(self.keys.flush()?)
    }

    /// Waits until all of `parts` are on the screen.
    ///
    /// # Errors
    /// When they do not come: with what is there.
    pub async fn until(&self, parts: &[&str]) -> anyhow::Result<String> {
        self.until_such(&format!("the screen says {parts:?}"), |text| {
            parts.iter().all(|part| text.contains(part))
        })
        .await
    }

    /// Waits until the screen is such.
    ///
    /// # Errors
    /// When it does not become so: with what is there.
    pub async fn until_such(&self, what: &str, holds: impl Fn(&str) -> bool) -> anyhow::Result<String> {
        eventually(what, async || {
            let text = self.screen();
            Ok(if holds(&text) { Found::Yes(text) } else { Found::NotYet(format!("\n{text}")) })
        })
        .await
    }

    /// SIGTERM.
    ///
    /// # Errors
    /// When it does not run.
    pub fn terminate(&self) -> anyhow::Result<()> {
        let pid = self.child.process_id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        Ok(rustix::process::kill_process(pid.context("a process without an id")?, Signal::TERM)?)
    }

    /// Waits until the program has ended, and the terminal is as it was before; answers the exit code.
    ///
    /// # Errors
    /// When it goes on, or leaves the terminal changed.
    pub async fn ended(&mut self) -> anyhow::Result<u32> {
        let child = &mut self.child;
        let ended = eventually("votumctl has ended", async || {
            Ok(match child.try_wait()? {
                Some(status) => Found::Yes(status),
                None => Found::NotYet("it still runs".into()),
            })
        });
        let status = ended.await?;
        self.watch = None;
        eventually("the screen from before is back", async || {
            let changed = self.look(|screen| (screen.alternate_screen(), screen.hide_cursor()));
            let back = changed == (false, false);
            Ok(if back { Found::Yes(()) } else { Found::NotYet(format!("{changed:?}")) })
        })
        .await?;
        let after = settings(&self.pair)?;
        ensure!(self.before == after, "the terminal was {}, and is {after}", self.before);
        Ok(status.exit_code())
    }
}

fn whole(number: u16) -> anyhow::Result<NonZeroU16> {
    NonZeroU16::new(number).context("a terminal without room")
}

/// What the terminal does with keys and lines.
fn settings(pair: &PtyPair) -> anyhow::Result<String> {
    Ok(format!("{:?}", pair.master.get_termios().context("the terminal does not say how it is set")?))
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
