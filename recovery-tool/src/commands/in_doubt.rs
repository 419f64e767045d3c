//! `votumctl in-doubt`

use std::time::Duration;

use votum_proto::address::Address;
use votum_proto::v1;

use crate::cli::InDoubtArgs;
use crate::document::InDoubt;
use crate::failure::{Exit, Failure};
use crate::online::Coordinator;
use crate::render::{self, Screen};

pub(super) fn run(address: &Address, args: &InDoubtArgs, screen: &mut Screen<'_>) -> Result<Exit, Failure> {
    let request = v1::ListInDoubtRequest {
        participant: args.participant.as_ref().map(ToString::to_string).unwrap_or_default(),
        wait_ms: args.wait * 1_000,
    };
    let answer = Coordinator::connect(address, Duration::from_secs(args.wait))?.in_doubt(request)?;
    let document = InDoubt::from(answer);
    screen.answer(&document, render::in_doubt)?;
    Ok(document.exit())
}
