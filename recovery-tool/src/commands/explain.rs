//! `votumctl explain`

use crate::cli::ExplainArgs;
use crate::explain::{self, Page};
use crate::failure::{Exit, Failure};
use crate::render::{self, Screen};

pub(super) fn run(args: &ExplainArgs, screen: &mut Screen<'_>) -> Result<Exit, Failure> {
    match &args.code {
        None => {
            let mut pages: Vec<&Page> = explain::pages().collect();
            pages.sort_by_key(|page| page.code);
            screen.answer(&pages, |pages, style| render::titles(pages, style))?;
        }
        Some(code) => {
            let page = explain::page(code).ok_or_else(|| {
                Failure::usage(format!(
                    "{code} is not a code that this version knows: `votumctl explain` lists those it does"
                ))
            })?;
            screen.answer(page, render::page)?;
        }
    }
    Ok(Exit::Fine)
}
