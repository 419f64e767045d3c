//! `votumctl watch`

use votum_proto::address::Address;

use crate::cli::WatchArgs;
use crate::failure::{Exit, Failure};
use crate::render::Screen;
use crate::watch;

pub(super) fn run(address: &Address, args: &WatchArgs, screen: &mut Screen<'_>) -> Result<Exit, Failure> {
    let style = screen.live().ok_or_else(|| {
        Failure::usage(
            "`watch` draws on a terminal, and standard output is none: run it in one. For a script or a file \
             there are `votumctl status --json` and `votumctl in-doubt --json`",
        )
    })?;
    if let Some(parting) = watch::run(address, args, style)? {
        screen.remark(&parting)?;
    }
    Ok(Exit::Fine)
}
