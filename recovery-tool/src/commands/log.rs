//! `votumctl log`

use std::io;
use std::ops::ControlFlow;
use std::path::Path;

use votum_coordinator::log::refusal::Refusal;
use votum_coordinator::log::{offline as log, salvage};

use crate::cli::LogCommand;
use crate::document::{DumpedRecord, Problem, ProblemLine, SalvagedRecord, Verified};
use crate::failure::{Exit, Failure};
use crate::offline;
use crate::render::{self, Screen};

pub(super) fn run(directory: &Path, command: &LogCommand, screen: &mut Screen<'_>) -> Result<Exit, Failure> {
    match command {
        LogCommand::Verify => verify(directory, screen),
        LogCommand::Dump => dump(directory, screen),
        LogCommand::Salvage => salvage(directory, screen),
    }
}

fn verify(directory: &Path, screen: &mut Screen<'_>) -> Result<Exit, Failure> {
    let document = Verified::new(directory, log::verify(directory));
    screen.answer(&document, render::verified)?;
    Ok(document.exit())
}

fn dump(directory: &Path, screen: &mut Screen<'_>) -> Result<Exit, Failure> {
    screen.remark(&render::dump_heading())?;
    let mut written = Ok(());
    let problems = log::dump(directory, |record| {
        go_on(&mut written, screen.line(&DumpedRecord::from(record), render::dumped))
    });
    let problems = problems.map_err(|refusal| offline::refused(&refusal))?;
    written?;
    let exit = if problems.is_empty() { Exit::Fine } else { Exit::Refused };
    say(problems, screen)?;
    Ok(exit)
}

fn salvage(directory: &Path, screen: &mut Screen<'_>) -> Result<Exit, Failure> {
    screen.remark(&render::salvage_heading())?;
    let mut written = Ok(());
    let (mut records, mut doubtful) = (0_u64, 0_u64);
    let problems = salvage::salvage(directory, |record| {
        let record = SalvagedRecord::from(record);
        records += 1;
        doubtful += u64::from(record.doubtful);
        go_on(&mut written, screen.line(&record, render::salvaged))
    });
    let problems = problems.map_err(|refusal| offline::refused(&refusal))?;
    written?;
    let exit = if problems.is_empty() { Exit::Fine } else { Exit::Attention };
    say(problems, screen)?;
    screen.remark(&render::salvage_end(records, doubtful))?;
    Ok(exit)
}

/// Breaks off when nobody reads on, or nothing more can be written.
fn go_on(written: &mut io::Result<()>, line: io::Result<bool>) -> ControlFlow<()> {
    match line {
        Ok(true) => ControlFlow::Continue(()),
        Ok(false) => ControlFlow::Break(()),
        Err(error) => {
            *written = Err(error);
            ControlFlow::Break(())
        }
    }
}

/// What kept some records from being shown.
fn say(problems: Vec<Refusal>, screen: &mut Screen<'_>) -> io::Result<()> {
    for problem in problems {
        let line = ProblemLine { problem: Problem::from(problem) };
        screen.line(&line, |line| format!("! {}", line.problem.message))?;
    }
    Ok(())
}
