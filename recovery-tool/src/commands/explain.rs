//! `votumctl explain`

use crate::cli::ExplainArgs;
use crate::explain::{self, Page};
use crate::failure::{Exit, Failure};
use crate::render::{Column, Screen, Style, Table};

pub(super) fn run(args: &ExplainArgs, screen: &mut Screen<'_>) -> Result<Exit, Failure> {
    match &args.code {
        None => {
            let mut pages: Vec<&Page> = explain::pages().collect();
            pages.sort_by_key(|page| page.code);
            screen.answer(&pages, |pages, style| titles(pages, style))?;
        }
        Some(code) => {
            let page = explain::page(code).ok_or_else(|| {
                Failure::usage(format!(
                    "{code} is not a code that this version knows: `votumctl explain` lists those it does"
                ))
            })?;
            screen.answer(page, page_text)?;
        }
    }
    Ok(Exit::Fine)
}

fn titles(pages: &[&Page], style: Style) -> String {
    let mut table = Table::new(&[Column::word("CODE"), Column::sentence("WHAT HAPPENED")], style);
    for page in pages {
        table.row([page.code, page.title]);
    }
    table.text()
}

fn page_text(page: &Page, style: Style) -> String {
    let heading = style.heading(&format!("{}: {}", page.code, page.title));
    format!(
        "{heading}\n\nWhat it means\n  {}\n\nLikely cause\n  {}\n\nWhat is safe\n  {}\n\nWhat to do\n  {}\n",
        page.meaning, page.cause, page.safe, page.remedy
    )
}
