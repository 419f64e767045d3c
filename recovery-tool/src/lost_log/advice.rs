//! A verdict in words: what is known, what each choice would risk, and what a person is advised to do.

use votum_proto::names::BranchNumber;

use super::evidence::Mark;
use super::judge::{Contradiction, Why};

/// What a person reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Words {
    /// What was found.
    pub(crate) known: String,
    /// What to commit it would risk; nothing where that is decided or not to be chosen.
    pub(crate) if_commit: Option<String>,
    /// What to roll it back would risk; as above.
    pub(crate) if_roll_back: Option<String>,
    /// What to do.
    pub(crate) advice: String,
}

const ASK: &str = "Ask whoever ran it what they were told";

/// Says it.
pub(crate) fn words(why: &Why) -> Words {
    match why {
        Why::Committed(mark) => decided(
            format!("{} committed ({}), so the decision was to commit", branch(mark.branch), at(mark)),
            "nothing to choose: what is still prepared of it must commit too",
        ),
        Why::NeverCommits(mark) => decided(
            format!(
                "{} can never commit: {} says so, in a marker that is written only where nothing was committed",
                branch(mark.branch),
                mark.participant
            ),
            "nothing to choose: what is still prepared of it must be rolled back",
        ),
        Why::Contradiction(contradiction) => choice(
            contradicts(contradiction),
            "it may commit work that does not belong to this transaction, or half of it",
            "it may undo work whose other half has committed",
            "look into the data at every participant before you choose; names may have been forged, or a failover \
             have lost something"
                .to_owned(),
        ),
        Why::Unread { participants, missing } => decided(
            format!("{} {}", of_missing(missing), may_be(participants)),
            "make it readable and look again; if it is gone for good, say so with --without NAME, and a person \
             chooses",
        ),
        Why::Elsewhere(databases) => decided(
            format!("a branch of it is prepared in {}, which no configuration names", databases.join(", ")),
            "give the configuration of the agent that serves that database, with --config; if it is none of \
             Votum's, end what was prepared there under this name by hand",
        ),
        Why::TooFewDatabases { branches, databases, missing } => decided(
            format!(
                "it has {branches} branches, each in a database of its own, and the configurations name {}: {}",
                databases_of(*databases),
                of_missing(missing)
            ),
            "give the configurations of all agents with --config; a participant that is gone for good is named \
             with --without NAME",
        ),
        Why::CountUnknown => choice(
            "its branches were named before anybody knew how many there would be, and no marker tells how one \
             ended"
                .to_owned(),
            "a branch that is not prepared may have been rolled back, or never prepared: then half of it commits",
            "a branch that is not prepared may have committed: then half of it is undone",
            format!("{ASK}, and look into the data at every participant that it touched"),
        ),
        Why::AllPrepared => choice(
            "every branch of it is prepared: none has ended, and whatever is chosen holds for all of them".to_owned(),
            "all or nothing is kept; wrong only if somebody was told that it was aborted",
            "all or nothing is kept; wrong only if somebody was told that it had committed, which may be told \
             before a branch is",
            format!("{ASK}: commit it if it was committed; otherwise roll it back, and they may run it again"),
        ),
        Why::MissingUnmarked(missing) => choice(
            format!(
                "{}, and no database has a marker of it: it was rolled back, never prepared, or wrote nothing. It \
                 committed nothing, as long as markers were written when it ran, and none has been pruned",
                of_missing(missing)
            ),
            "if a branch was rolled back or never prepared, half of it commits",
            "all or nothing is kept; wrong only if somebody was told that it had committed, and what is missing \
             wrote nothing",
            format!("roll it back, unless somebody was told that it had committed. {ASK}"),
        ),
        Why::MissingUnknown { missing, silent } => choice(
            format!(
                "{}: it committed, was rolled back, was never prepared, or wrote nothing; {} cannot tell, having \
                 no markers that could be read",
                of_missing(missing),
                silent.join(", ")
            ),
            "if a branch was rolled back or never prepared, half of it commits",
            "if a branch committed, half of it is undone",
            format!(
                "look whether its change is in the data of {}: commit if it is there, roll back if it is not. {ASK}",
                silent.join(", ")
            ),
        ),
    }
}

fn decided(known: String, advice: &str) -> Words {
    Words { known, if_commit: None, if_roll_back: None, advice: advice.to_owned() }
}

fn choice(known: String, if_commit: &str, if_roll_back: &str, advice: String) -> Words {
    Words {
        known,
        if_commit: Some(if_commit.to_owned()),
        if_roll_back: Some(if_roll_back.to_owned()),
        advice,
    }
}

fn contradicts(contradiction: &Contradiction) -> String {
    match contradiction {
        Contradiction::Counts(counts) => {
            format!(
                "the names of its branches contradict each other: they say {} branches",
                numbers(counts, "and")
            )
        }
        Contradiction::Twice(number) => format!(
            "{} is prepared at two participants, and a transaction has each branch once",
            branch(*number)
        ),
        Contradiction::BothMarks(committed, never) => format!(
            "the markers contradict each other: {} committed ({}), and {} can never commit ({})",
            branch(committed.branch),
            at(committed),
            branch(never.branch),
            at(never)
        ),
        Contradiction::MarkedAndPrepared(mark) => format!(
            "{} is prepared, and a marker at {} says that it {}: what is prepared may be other work under its name",
            branch(mark.branch),
            mark.participant,
            if mark.committed { "has committed" } else { "can never commit" }
        ),
        Contradiction::Beyond(mark) => {
            format!(
                "{} has a marker of {}, and there are not so many branches",
                mark.participant,
                branch(mark.branch)
            )
        }
    }
}

fn branch(number: BranchNumber) -> String {
    format!("branch {number}")
}

fn at(mark: &Mark) -> String {
    format!("marker at {}", mark.participant)
}

fn of_missing(missing: &[BranchNumber]) -> String {
    match missing {
        [] => "nobody knows how many branches it has, and some".to_owned(),
        [one] => format!("branch {one} is not prepared where it could be looked for"),
        several => {
            format!("branches {} are not prepared where they could be looked for", numbers(several, "and"))
        }
    }
}

fn may_be(participants: &[String]) -> String {
    format!("may be at {}, which could not be read", participants.join(", "))
}

fn databases_of(count: usize) -> String {
    if count == 1 { "one".to_owned() } else { count.to_string() }
}

fn numbers(numbers: &[BranchNumber], last: &str) -> String {
    let all: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    match all.split_last() {
        Some((end, [])) => end.clone(),
        Some((end, rest)) => format!("{} {last} {end}", rest.join(", ")),
        None => String::new(),
    }
}
