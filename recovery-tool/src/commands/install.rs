//! `votumctl install`

use votum_participant::postgres::witness::installation;

use crate::cli::InstallArgs;
use crate::failure::{Exit, Failure};
use crate::render::Screen;

pub(super) fn run(args: &InstallArgs, screen: &mut Screen<'_>) -> Result<Exit, Failure> {
    screen.raw(&installation(&args.role))?;
    Ok(Exit::Fine)
}
