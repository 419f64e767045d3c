//! `votumctl resolve`

use std::time::Duration;

use votum_proto::address::Address;
use votum_proto::v1;
use votum_proto::v1::resolve_request::Action;

use crate::cli::ResolveArgs;
use crate::document::Resolution;
use crate::failure::{Exit, Failure};
use crate::online::Coordinator;
use crate::render::{self, Screen};

/// How long the database may take to carry it out before the answer is given up. The order stands all the
/// same: it is in the log.
const DATABASE: Duration = Duration::from_secs(50);

pub(super) fn run(address: &Address, args: &ResolveArgs, screen: &mut Screen<'_>) -> Result<Exit, Failure> {
    let operator = args.order.operator()?;
    let action = if args.commit { Action::Commit } else { Action::Rollback };
    let request = v1::ResolveRequest {
        gid: args.gid.to_string(),
        participant: args.participant.to_string(),
        action: action.into(),
        operator,
        reason: args.order.reason.clone(),
        apply: args.order.yes,
        heuristic: args.heuristic,
    };
    let answer = Coordinator::connect(address, DATABASE)?.resolve(request)?;
    let document = Resolution::new(args.gid.to_string(), args.participant.to_string(), args.commit, answer);
    screen.answer(&document, |document, style| render::resolution(document, args.order.yes, style))?;
    Ok(Exit::Fine)
}
