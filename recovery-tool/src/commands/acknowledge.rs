//! `votumctl acknowledge`

use std::time::Duration;

use votum_proto::address::Address;
use votum_proto::names::ParticipantName;
use votum_proto::v1;

use crate::cli::AcknowledgeArgs;
use crate::document::Acknowledgement;
use crate::failure::{Exit, Failure};
use crate::online::Coordinator;
use crate::render::{self, Screen};

pub(super) fn run(
    address: &Address,
    args: &AcknowledgeArgs,
    screen: &mut Screen<'_>,
) -> Result<Exit, Failure> {
    let request = v1::AcknowledgeRequest {
        gtid: args.gtid.to_string(),
        participant: args.participant.as_ref().map(ParticipantName::to_string).unwrap_or_default(),
        operator: args.order.operator()?,
        reason: args.order.reason.clone(),
        apply: args.order.yes,
    };
    let answer = Coordinator::connect(address, Duration::ZERO)?.acknowledge(request)?;
    let document = Acknowledgement::new(args.gtid.to_string(), answer);
    screen.answer(&document, render::acknowledgement)?;
    Ok(Exit::Fine)
}
