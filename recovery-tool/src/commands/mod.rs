//! One file for each command: whom it asks, how its answer is judged and shown.

mod acknowledge;
mod backup;
mod completions;
mod doctor;
mod explain;
mod in_doubt;
mod install;
mod list;
mod log;
mod lost_log;
mod man;
mod resolve;
mod show;
mod status;
mod watch;
mod write_off;

use std::path::Path;

use votum_proto::address::Address;

use crate::cli::{Cli, Command, Source};
use crate::failure::{Exit, Failure};
use crate::render::Screen;

/// Carries out what was typed, and says how the process ends.
pub(crate) fn run(cli: &Cli, screen: &mut Screen<'_>) -> Result<Exit, Failure> {
    let source = cli.connection.source();
    match &cli.command {
        Command::Status(args) => status::run(&source, args, screen),
        Command::List(args) => list::run(&source, args, screen),
        Command::Watch(args) => watch::run(running(&source, "watch")?, args, screen),
        Command::Show(args) => show::run(&source, args, screen),
        Command::InDoubt(args) => in_doubt::run(running(&source, "in-doubt")?, args, screen),
        Command::Resolve(args) => resolve::run(running(&source, "resolve")?, args, screen),
        Command::Acknowledge(args) => acknowledge::run(running(&source, "acknowledge")?, args, screen),
        Command::WriteOff(args) => write_off::run(running(&source, "write-off")?, args, screen),
        Command::LostLog(args) => lost_log::run(args, screen),
        Command::Backup(args) => backup::backup(directory(&source, "backup")?, args, screen),
        Command::Restore(args) => backup::restore(directory(&source, "restore")?, args, screen),
        Command::Install(args) => install::run(args, screen),
        Command::Log(args) => log::run(directory(&source, "log")?, &args.command, screen),
        Command::Doctor(args) => doctor::run(args, screen),
        Command::Explain(args) => explain::run(args, screen),
        Command::Completions(args) => completions::run(args, screen),
        Command::Man(args) => man::run(args, screen),
    }
}

fn running<'a>(source: &'a Source, command: &str) -> Result<&'a Address, Failure> {
    match source {
        Source::Coordinator(address) => Ok(address),
        Source::Directory(_) => Err(Failure::usage(format!(
            "`{command}` needs a running coordinator, which asks its agents: leave --directory out. From the \
             directory of a log, `status`, `list`, `show` and `log` can be answered"
        ))),
    }
}

fn directory<'a>(source: &'a Source, command: &str) -> Result<&'a Path, Failure> {
    match source {
        Source::Directory(directory) => Ok(directory),
        Source::Coordinator(_) => Err(Failure::usage(format!(
            "`{command}` works on files: say where the log is with --directory DIR, which is the directory of \
             [log] in the coordinator's configuration"
        ))),
    }
}
