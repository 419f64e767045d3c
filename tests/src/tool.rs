//! `votumctl`, run as a person or a script would.

use anyhow::Context as _;
use serde_json::Value;
use tokio::process::Command;

use crate::process::{Build, program};
use crate::world::World;

/// What a command wrote, and how it ended.
#[derive(Debug)]
pub struct Said {
    /// The exit code.
    pub code: i32,
    /// What it wrote to standard output.
    pub out: String,
    /// What it wrote to standard error.
    pub err: String,
}

impl Said {
    /// The one document that it wrote.
    ///
    /// # Errors
    /// When it is none.
    pub fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_str(&self.out).with_context(|| format!("not one document: {self:?}"))
    }

    /// The documents that it wrote, one on each line.
    ///
    /// # Errors
    /// When a line is none.
    pub fn lines(&self) -> anyhow::Result<Vec<Value>> {
        let line = |line| serde_json::from_str(line).with_context(|| format!("not a document: {line}"));
        self.out.lines().map(line).collect()
    }

    /// That it ended with `code`.
    ///
    /// # Panics
    /// When it did not.
    #[track_caller]
    pub fn ended(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        self
    }
}

/// Runs `votumctl` with these words, asking this world's coordinator unless they say otherwise.
///
/// # Errors
/// When the program cannot be run, or writes what is no text.
pub async fn votumctl(world: &World, words: &[&str]) -> anyhow::Result<Said> {
    let mut command = Command::new(program(Build::Plain, "votumctl")?);
    command.args(words).env("VOTUM_COORDINATOR", world.address().to_string()).env("USER", "ada");
    let output = command.output().await?;
    Ok(Said {
        code: output.status.code().context("votumctl was killed")?,
        out: String::from_utf8(output.stdout)?,
        err: String::from_utf8(output.stderr)?,
    })
}
