//! Many cases at once, and the table at the end.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;

use futures::future::join_all;
use votum_tests::proxy::{Fault, Link};

use crate::cases::Case;
use crate::scripts::script;
use crate::site::{Became, Site};

/// Set to a part of a case's name to try only such cases.
const ONLY: &str = "VOTUM_MATRIX_ONLY";

/// Tries cases on `sites` installations at the same time, each on the next that is free. One on which a case
/// failed is not used again.
pub async fn try_all(cases: Vec<Case>, sites: usize) {
    let only = std::env::var(ONLY).unwrap_or_default();
    let cases: VecDeque<Case> = cases.into_iter().filter(|case| case.to_string().contains(&only)).collect();
    let count = cases.len();
    let work = Mutex::new((cases, Vec::new(), Vec::new()));
    let site = async || {
        let mut open: Option<Site> = None;
        loop {
            let Some(case) = work.lock().unwrap().0.pop_front() else { break };
            let result = async {
                let site = match open.take().filter(|site| site.is_for(case)) {
                    Some(site) => open.insert(site),
                    None => open.insert(Site::open_for(script(case.message).kind()).await?),
                };
                site.try_case(case).await
            };
            let result = result.await;
            if result.is_err() {
                open = None;
            }
            let mut work = work.lock().unwrap();
            let done = work.1.len() + work.2.len() + 1;
            match result {
                Ok(became) => {
                    eprintln!("{done} of {count}: {case}: {became:?}");
                    work.1.push((case, became));
                }
                Err(error) => {
                    eprintln!("{done} of {count}: {case}: FAILED: {error:#}");
                    work.2.push((case, error));
                }
            }
        }
    };
    join_all((0..sites.min(count)).map(|_| site())).await;
    let (_, done, failed) = work.into_inner().unwrap();
    eprintln!("{}", table(&done, failed.len()));
    let failed: Vec<String> = failed.iter().map(|(case, error)| format!("{case}: {error:#}")).collect();
    assert!(failed.is_empty(), "{} of {count} failed:\n{}", failed.len(), failed.join("\n\n"));
}

/// A row for each fault, a column for each link: how many became committed / aborted / never begun.
fn table(done: &[(Case, Became)], failed: usize) -> String {
    let mut cells: BTreeMap<(Fault, Link), [usize; 3]> = BTreeMap::new();
    for (case, became) in done {
        let cell = cells.entry((case.fault, case.message.link())).or_default();
        cell[match became {
            Became::Committed | Became::ReadOnly => 0,
            Became::Aborted => 1,
            Became::NeverBegun => 2,
        }] += 1;
    }
    let mut text = format!("{:<12}", "");
    for link in Link::ALL {
        text += &format!("{:>20}", link.to_string());
    }
    for fault in Fault::ALL {
        text += &format!("\n{:<12}", fault.name());
        for link in Link::ALL {
            let [committed, aborted, never] = cells.get(&(fault, link)).copied().unwrap_or_default();
            text += &format!("{:>20}", format!("{committed} / {aborted} / {never}"));
        }
    }
    text + &format!("\n(committed / aborted / never begun; {} as they must be, {failed} failed)", done.len())
}
