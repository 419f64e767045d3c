//! `votumctl write-off`

use std::time::Duration;

use votum_proto::address::Address;
use votum_proto::v1;

use crate::cli::WriteOffArgs;
use crate::document::WriteOff;
use crate::failure::{Exit, Failure};
use crate::online::Coordinator;
use crate::render::{self, Screen};

pub(super) fn run(address: &Address, args: &WriteOffArgs, screen: &mut Screen<'_>) -> Result<Exit, Failure> {
    let request = v1::WriteOffRequest {
        coordinator_id: args.coordinator_id.clone().unwrap_or_default(),
        operator: args.order.operator()?,
        reason: args.order.reason.clone(),
        apply: args.order.yes,
    };
    let answer = Coordinator::connect(address, Duration::ZERO)?.write_off(request)?;
    screen.answer(&WriteOff::from(answer), render::write_off)?;
    Ok(Exit::Attention)
}
