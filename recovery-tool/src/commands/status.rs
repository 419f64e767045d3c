//! `votumctl status`

use std::time::Duration;

use crate::cli::{Source, StatusArgs};
use crate::document::Status;
use crate::failure::{Exit, Failure};
use crate::offline;
use crate::online::Coordinator;
use crate::render::{self, Screen};

pub(super) fn run(source: &Source, args: &StatusArgs, screen: &mut Screen<'_>) -> Result<Exit, Failure> {
    let answer = match source {
        Source::Coordinator(address) => Coordinator::connect(address, Duration::ZERO)?.status()?,
        Source::Directory(directory) => offline::status(directory)?,
    };
    let document = Status::new(answer, args.older_than.saturating_mul(1_000));
    screen.answer(&document, render::status)?;
    Ok(document.exit())
}
