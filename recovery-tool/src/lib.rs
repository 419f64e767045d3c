//! The operator's tool: see what is in doubt, and settle it.
//!
//! | module | what it does |
//! |---|---|
//! | `cli` | what can be typed |
//! | `commands` | one file for each command: ask, judge, print |
//! | `online` | a running coordinator, over gRPC |
//! | `lost_log` | what the databases alone say of a coordinator whose log is gone, and what is done about it |
//! | `offline` | the directory of a stopped coordinator's log |
//! | `document` | what is printed, as data: the JSON documents of `docs/votumctl-json.md` |
//! | `render` | the same for people: tables, durations, colors |
//! | `watch` | the live view: what `commands` answer once, kept up to date on a terminal |
//! | `explain` | a page for each code |
//! | `failure` | what went wrong, in a sentence, and the exit code that says so to a script |

mod cli;
mod commands;
mod document;
mod explain;
mod failure;
mod lost_log;
mod offline;
mod online;
mod render;
mod watch;

use std::process::ExitCode;

/// Runs the program with the process's arguments, environment and output.
pub fn main() -> ExitCode {
    let (cli, style) = match cli::from_environment() {
        Ok(parsed) => parsed,
        Err(error) => {
            // Help that was asked for goes to stdout with code 0, mistakes to stderr with code 2.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let mut out = std::io::stdout().lock();
    let mut screen = render::Screen::new(&mut out, style, cli.connection.json);
    let exit = match commands::run(&cli, &mut screen) {
        Ok(exit) => exit,
        Err(failure) => {
            // stdout may be gone; stderr gets the sentence in any case.
            let _ = screen.failure(&failure);
            eprintln!("votumctl: {failure}");
            failure.exit
        }
    };
    ExitCode::from(exit.code())
}
