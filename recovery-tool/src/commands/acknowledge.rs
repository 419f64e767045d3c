//! `votumctl acknowledge`

use std::time::Duration;

use votum_proto::address::Address;
use votum_proto::names::ParticipantName;
use votum_proto::v1;

use crate::cli::AcknowledgeArgs;
use crate::document::{Acknowledgement, UnprovenAcknowledgement};
use crate::failure::{Exit, Failure};
use crate::online::Coordinator;
use crate::render::{self, Screen};

pub(super) fn run(
    address: &Address,
    args: &AcknowledgeArgs,
    screen: &mut Screen<'_>,
) -> Result<Exit, Failure> {
    match args.timeline {
        None => departures(address, args, screen),
        Some(timeline) => unproven(address, args, timeline, screen),
    }
}

fn participant(args: &AcknowledgeArgs) -> String {
    args.participant.as_ref().map(ParticipantName::to_string).unwrap_or_default()
}

/// How branches of a transaction departed from its decision.
fn departures(address: &Address, args: &AcknowledgeArgs, screen: &mut Screen<'_>) -> Result<Exit, Failure> {
    let gtid = args.gtid.as_ref().map(ToString::to_string).unwrap_or_default();
    let request = v1::AcknowledgeRequest {
        gtid: gtid.clone(),
        participant: participant(args),
        operator: args.order.operator()?,
        reason: args.order.reason.clone(),
        apply: args.order.yes,
    };
    let answer = Coordinator::connect(address, Duration::ZERO)?.acknowledge(request)?;
    let document = Acknowledgement::new(gtid, answer);
    screen.answer(&document, render::acknowledgement)?;
    Ok(Exit::Fine)
}

/// What nobody can prove since a participant's server changed its timeline.
fn unproven(
    address: &Address,
    args: &AcknowledgeArgs,
    timeline: u32,
    screen: &mut Screen<'_>,
) -> Result<Exit, Failure> {
    let request = v1::AcknowledgeUnprovenRequest {
        participant: participant(args),
        timeline,
        operator: args.order.operator()?,
        reason: args.order.reason.clone(),
        apply: args.order.yes,
    };
    let answer = Coordinator::connect(address, Duration::ZERO)?.acknowledge_unproven(request)?;
    let document = UnprovenAcknowledgement::new(participant(args), answer);
    screen.answer(&document, render::unproven_acknowledgement)?;
    Ok(Exit::Fine)
}
