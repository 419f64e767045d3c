//! Takes away from a plan what is not needed for its failure.

use super::plan::{NetworkPlan, Plan};
use super::run::{Report, run};

/// The smallest plan found that still breaks an invariant of the same number, and how it does.
pub fn shrink(plan: &Plan) -> (Plan, Report) {
    let first = run(plan, true);
    let Some(number) = number(&first) else { return (plan.clone(), first) };
    let mut smallest = plan.clone();
    let mut budget = 400;
    loop {
        let before = size(&smallest);
        for candidate in candidates(&smallest) {
            if budget == 0 {
                break;
            }
            budget -= 1;
            if size(&candidate) < size(&smallest)
                && self::number(&run(&candidate, false)) == Some(number.clone())
            {
                smallest = candidate;
            }
        }
        if size(&smallest) == before || budget == 0 {
            break;
        }
    }
    let report = run(&smallest, true);
    (smallest, report)
}

/// The number of the first invariant that was broken.
fn number(report: &Report) -> Option<String> {
    let first = report.broken.first()?;
    Some(first.split(':').next().unwrap_or(first).to_owned())
}

fn size(plan: &Plan) -> (usize, usize, usize, u64) {
    let network = &plan.network;
    let weather = network.loses_request + network.loses_reply + network.repeats + network.late;
    let manners = &plan.manners;
    let manners = manners.slow + manners.breaks + manners.listing_fails + manners.serialization;
    let statements = plan.work.iter().map(|work| work.statements.len()).sum();
    (plan.faults.len(), plan.work.len(), statements, weather + manners)
}

/// Plans that hold a little less.
fn candidates(plan: &Plan) -> Vec<Plan> {
    let mut all = Vec::new();
    let quiet = NetworkPlan { loses_request: 0, loses_reply: 0, repeats: 0, late: 0, ..plan.network.clone() };
    all.push(Plan { network: quiet, ..plan.clone() });
    let mut gentle = plan.clone();
    gentle.manners.slow = 0;
    gentle.manners.breaks = 0;
    gentle.manners.listing_fails = 0;
    gentle.manners.serialization = 0;
    all.push(gentle);
    let half = plan.work.len() / 2;
    if half > 0 {
        let mut first = plan.clone();
        first.work.truncate(half);
        all.push(first);
        let mut second = plan.clone();
        second.work = plan.work.iter().skip(half).cloned().collect();
        all.push(second);
    }
    for index in 0..plan.faults.len() {
        let mut without = plan.clone();
        without.faults.remove(index);
        all.push(without);
    }
    for index in 0..plan.work.len() {
        let mut without = plan.clone();
        without.work.remove(index);
        all.push(without);
    }
    all
}
