//! `votumctl show`

use std::time::Duration;

use crate::cli::{ShowArgs, Source};
use crate::document::Shown;
use crate::failure::{Exit, Failure};
use crate::offline;
use crate::online::Coordinator;
use crate::render::{self, Screen};

pub(super) fn run(source: &Source, args: &ShowArgs, screen: &mut Screen<'_>) -> Result<Exit, Failure> {
    let answer = match source {
        Source::Coordinator(address) => {
            Coordinator::connect(address, Duration::ZERO)?.show(args.gtid.to_string())?
        }
        Source::Directory(directory) => offline::show(directory, &args.gtid)?,
    };
    let document = Shown::from(answer);
    screen.answer(&document, render::shown)?;
    Ok(document.exit())
}
