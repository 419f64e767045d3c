//! What can be done when a coordinator's log is gone for good: from the databases alone.
//!
//! | module | what it does |
//! |---|---|
//! | `read` | asks the databases, in the order that makes the answers worth something |
//! | `evidence` | brings together what they answered |
//! | `judge` | evidence in, verdict out; `advice` says it in words. Neither asks anybody |
//! | `choices` | what a person has chosen |
//! | `plan` | verdict, choice and what an earlier run decided: what is done, or why not |
//! | `report` | the file in which everything stands before it is done, and after |
//! | `settle` | does it |

pub(crate) mod advice;
pub(crate) mod choices;
pub(crate) mod evidence;
pub(crate) mod judge;
#[cfg(test)]
mod judge_tests;
pub(crate) mod plan;
pub(crate) mod read;
pub(crate) mod report;
pub(crate) mod settle;

use votum_participant::postgres::lost_log::Action;

/// How it is written in documents and reports.
pub(crate) fn word(action: Action) -> &'static str {
    match action {
        Action::Commit => "commit",
        Action::RollBack => "rollback",
    }
}

/// What [`word`] wrote.
pub(crate) fn action(word: &str) -> Option<Action> {
    [Action::Commit, Action::RollBack].into_iter().find(|action| self::word(*action) == word)
}
