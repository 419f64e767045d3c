//! `votumctl install`

use votum_participant::postgres::{marker, witness};

use crate::cli::InstallArgs;
use crate::failure::{Exit, Failure};
use crate::render::Screen;

pub(super) fn run(args: &InstallArgs, screen: &mut Screen<'_>) -> Result<Exit, Failure> {
    screen.raw(&witness::installation(&args.role))?;
    if args.commit_marker {
        screen.raw(&marker::installation(&args.role))?;
    }
    Ok(Exit::Fine)
}
