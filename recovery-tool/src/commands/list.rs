//! `votumctl list`

use std::time::Duration;

use votum_proto::v1;

use crate::cli::{ListArgs, Source};
use crate::document::List;
use crate::failure::{Exit, Failure};
use crate::offline;
use crate::online::Coordinator;
use crate::render::{self, Screen};

pub(super) fn run(source: &Source, args: &ListArgs, screen: &mut Screen<'_>) -> Result<Exit, Failure> {
    let request = v1::ListTransactionsRequest {
        limit: args.limit,
        state: args.state.clone().unwrap_or_default(),
        participant: args.participant.as_ref().map(ToString::to_string).unwrap_or_default(),
    };
    let answer = match source {
        Source::Coordinator(address) => Coordinator::connect(address, Duration::ZERO)?.list(request)?,
        Source::Directory(directory) => offline::list(directory, &request)?,
    };
    screen.answer(&List::from(answer), render::list)?;
    Ok(Exit::Fine)
}
