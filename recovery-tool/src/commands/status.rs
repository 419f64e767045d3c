//! `votumctl status`

use std::time::Duration;

use votum_proto::address::Address;

use crate::cli::StatusArgs;
use crate::document::Status;
use crate::failure::{Exit, Failure};
use crate::online::Coordinator;
use crate::render::{self, Screen};

pub(super) fn run(address: &Address, args: &StatusArgs, screen: &mut Screen<'_>) -> Result<Exit, Failure> {
    let answer = Coordinator::connect(address, Duration::ZERO)?.status()?;
    let document = Status::new(answer, args.older_than.saturating_mul(1_000));
    screen.answer(&document, render::status)?;
    Ok(document.exit())
}
