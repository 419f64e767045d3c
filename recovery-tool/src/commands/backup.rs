//! `votumctl backup` and `votumctl restore`

use std::path::Path;

use votum_coordinator::log::backup as log;

use crate::cli::{BackupArgs, RestoreArgs};
use crate::document::Verified;
use crate::failure::{Exit, Failure};
use crate::offline;
use crate::render::{self, Screen};

pub(super) fn backup(directory: &Path, args: &BackupArgs, screen: &mut Screen<'_>) -> Result<Exit, Failure> {
    let report = log::backup(directory, &args.to).map_err(|refusal| offline::refused(&refusal))?;
    screen.answer(&Verified::new(&args.to, report), render::verified)?;
    Ok(Exit::Fine)
}

pub(super) fn restore(
    directory: &Path,
    args: &RestoreArgs,
    screen: &mut Screen<'_>,
) -> Result<Exit, Failure> {
    let report = log::restore(&args.from, directory).map_err(|refusal| offline::refused(&refusal))?;
    screen.answer(&Verified::new(directory, report), render::verified)?;
    screen.remark(NEXT)?;
    Ok(Exit::Attention)
}

const NEXT: &str = "
What was decided after the backup was made is lacking here.
1. Start the coordinator: it delivers what it knows, and begins and presumes nothing (VOTUM-1401).
2. votumctl write-off --reason … shows what its agents have seen since, and how to give it up.
3. Restart the coordinator; votumctl in-doubt shows what waits for a person.
";
