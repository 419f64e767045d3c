//! `votumctl man`

use clap::CommandFactory as _;

use crate::cli::{Cli, ManArgs};
use crate::failure::{Exit, Failure};
use crate::render::Screen;

pub(super) fn run(args: &ManArgs, screen: &mut Screen<'_>) -> Result<Exit, Failure> {
    let to = args.directory.display();
    clap_mangen::generate_to(Cli::command(), &args.directory).map_err(|error| {
        Failure::usage(format!(
            "the manual pages cannot be written to {to}: {error}; name a directory that is there"
        ))
    })?;
    screen.remark(&format!("The manual pages are in {to}: begin with `man {to}/votumctl.1`."))?;
    Ok(Exit::Fine)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::Style;

    #[test]
    fn every_command_has_a_page_with_its_examples() {
        let directory = tempfile::tempdir().unwrap();
        let args = ManArgs { directory: directory.path().to_owned() };
        let mut out = Vec::new();
        run(&args, &mut Screen::new(&mut out, Style::plain(false), false)).unwrap();
        let page = |name: &str| std::fs::read_to_string(directory.path().join(format!("{name}.1"))).unwrap();
        assert!(page("votumctl").contains("Exit codes"));
        for command in Cli::command().get_subcommands().filter(|command| !command.has_subcommands()) {
            let page = page(&format!("votumctl-{}", command.get_name()));
            assert!(page.contains("Examples"), "{}", command.get_name());
        }
        let nowhere = ManArgs { directory: directory.path().join("nowhere") };
        let failure = run(&nowhere, &mut Screen::new(&mut out, Style::plain(false), false)).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
    }
}
