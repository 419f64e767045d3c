//! Every verdict; and, for small transactions, every way in which their branches can stand.

use votum_participant::postgres::lost_log::{Action, MayEnd};

use super::advice::words;
use super::evidence::{Branch, Evidence, Mark, View};
use super::judge::{Contradiction, Judgement, Verdict, Why, judge};

fn branch(at: &str, number: u16, of: u16) -> Branch {
    Branch {
        participant: at.into(),
        system_identifier: 1,
        gid: format!("votum_acme_7_3f9ac2_1042_{number}_{of}").parse().unwrap(),
        xid: 731,
        owner: "votum".into(),
        may_end: MayEnd::Itself,
        prepared_at: "2026-11-22T06:40:00Z".into(),
        age_ms: 1,
    }
}

fn mark(at: &str, branch: u16, committed: bool) -> Mark {
    Mark { participant: at.into(), branch, committed }
}

fn evidence(prepared: &[Branch], marks: &[Mark]) -> Evidence {
    Evidence { prepared: prepared.to_vec(), marks: marks.to_vec(), ..Evidence::default() }
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Three databases, all read, all with markers.
fn all() -> View {
    View { read: 3, ..View::default() }
}

fn without(participant: &str) -> View {
    View { read: 2, unread: names(&[participant]), ..View::default() }
}

#[track_caller]
fn person(evidence: &Evidence, view: &View, why: Why) {
    assert_eq!(judge(evidence, view), Judgement { verdict: Verdict::Person, why });
}

#[test]
fn one_branch_that_committed_proves_the_commit_of_all_whatever_could_not_be_read() {
    let committed = mark("bank-b", 1, true);
    for view in [all(), without("bank-c")] {
        for of in [2, 3, 0] {
            let found = judge(&evidence(&[branch("bank-a", 0, of)], std::slice::from_ref(&committed)), &view);
            let expected =
                Judgement { verdict: Verdict::Must(Action::Commit), why: Why::Committed(committed.clone()) };
            assert_eq!(found, expected, "of {of}, {view:?}");
        }
    }
}

#[test]
fn one_branch_that_can_never_commit_proves_the_abort_of_all() {
    let never = mark("bank-b", 1, false);
    for of in [2, 3, 0] {
        let found = judge(&evidence(&[branch("bank-a", 0, of)], std::slice::from_ref(&never)), &all());
        let expected =
            Judgement { verdict: Verdict::Must(Action::RollBack), why: Why::NeverCommits(never.clone()) };
        assert_eq!(found, expected, "of {of}");
    }
}

#[test]
fn a_tombstone_proves_nothing_while_a_branch_may_be_in_a_database_that_was_not_read() {
    let never = mark("bank-b", 1, false);
    let found = |of| {
        let evidence = evidence(&[branch("bank-a", 0, of)], std::slice::from_ref(&never));
        judge(&evidence, &without("bank-c")).verdict
    };
    assert_eq!([3, 0].map(found), [Verdict::Unread; 2]);
    assert_eq!(found(2), Verdict::Must(Action::RollBack), "every branch is known");
}

#[test]
fn nothing_is_concluded_of_missing_branches_while_a_database_was_not_read() {
    let participants = names(&["bank-c"]);
    let two = [branch("bank-a", 0, 3), branch("bank-b", 1, 3)];
    let judged = judge(&evidence(&two, &[]), &without("bank-c"));
    let why = Why::Unread { participants: participants.clone(), missing: vec![2] };
    assert_eq!(judged, Judgement { verdict: Verdict::Unread, why });
    let judged = judge(&evidence(&[branch("bank-a", 0, 0)], &[]), &without("bank-c"));
    let why = Why::Unread { participants, missing: vec![] };
    assert_eq!(judged, Judgement { verdict: Verdict::Unread, why }, "nobody knows how many there are");
}

#[test]
fn where_every_branch_is_prepared_a_person_chooses_also_while_a_database_was_not_read() {
    let both = [branch("bank-a", 0, 2), branch("bank-b", 1, 2)];
    for view in [all(), without("bank-c")] {
        person(&evidence(&both, &[]), &view, Why::AllPrepared);
    }
    person(&evidence(&[branch("bank-a", 0, 1)], &[]), &all(), Why::AllPrepared);
}

#[test]
fn missing_branches_are_told_apart_by_whether_the_databases_could_have_told_of_them() {
    let one = evidence(&[branch("bank-a", 1, 3)], &[]);
    person(&one, &all(), Why::MissingUnmarked(vec![0, 2]));
    let bare = View { without_markers: names(&["bank-b"]), ..all() };
    person(&one, &bare, Why::MissingUnknown { missing: vec![0, 2], silent: names(&["bank-b"]) });
    let given_up = View { read: 2, given_up: names(&["bank-c"]), ..View::default() };
    person(&one, &given_up, Why::MissingUnknown { missing: vec![0, 2], silent: names(&["bank-c"]) });
}

#[test]
fn where_nobody_knows_how_many_branches_there_are_a_person_chooses() {
    person(&evidence(&[branch("bank-a", 0, 0)], &[]), &all(), Why::CountUnknown);
}

#[test]
fn more_branches_than_databases_mean_that_a_configuration_was_not_given() {
    let judged = judge(&evidence(&[branch("bank-a", 0, 4)], &[]), &all());
    let why = Why::TooFewDatabases { branches: 4, databases: 3, missing: vec![1, 2, 3] };
    assert_eq!(judged, Judgement { verdict: Verdict::Unread, why });
    let given_up = View { given_up: names(&["bank-d"]), ..all() };
    assert_eq!(judge(&evidence(&[branch("bank-a", 0, 4)], &[]), &given_up).verdict, Verdict::Person);
}

#[test]
fn a_branch_in_a_database_that_nobody_named_stands_in_the_way_of_all_but_a_proven_commit() {
    let mut found = evidence(&[branch("bank-a", 0, 2)], &[]);
    found.elsewhere.insert("shop at 127.0.0.1:5432".into());
    let why = Why::Elsewhere(names(&["shop at 127.0.0.1:5432"]));
    assert_eq!(judge(&found, &all()), Judgement { verdict: Verdict::Unread, why });
    found.marks.push(mark("bank-b", 1, false));
    assert_eq!(judge(&found, &all()).verdict, Verdict::Unread);
    found.marks = vec![mark("bank-b", 1, true)];
    assert_eq!(judge(&found, &all()).verdict, Verdict::Must(Action::Commit));
}

#[test]
fn what_cannot_all_be_true_is_shown_as_such_and_a_person_chooses() {
    let (yes, no) = (mark("bank-b", 1, true), mark("bank-c", 2, false));
    for (prepared, marks, contradiction) in [
        (
            vec![branch("bank-a", 0, 2), branch("bank-b", 1, 3)],
            vec![mark("bank-c", 2, true)],
            Contradiction::Counts(vec![2, 3]),
        ),
        (vec![branch("bank-a", 0, 2), branch("bank-b", 0, 2)], vec![yes.clone()], Contradiction::Twice(0)),
        (
            vec![branch("bank-a", 0, 3)],
            vec![yes.clone(), no.clone()],
            Contradiction::BothMarks(yes.clone(), no.clone()),
        ),
        (vec![branch("bank-a", 0, 2)], vec![no.clone()], Contradiction::Beyond(no)),
        (
            vec![branch("bank-a", 0, 2), branch("bank-b", 1, 2)],
            vec![yes.clone()],
            Contradiction::MarkedAndPrepared(yes),
        ),
        (
            vec![branch("bank-a", 0, 2)],
            vec![mark("bank-a", 0, false)],
            Contradiction::MarkedAndPrepared(mark("bank-a", 0, false)),
        ),
    ] {
        for view in [all(), without("bank-d")] {
            person(&evidence(&prepared, &marks), &view, Why::Contradiction(contradiction.clone()));
        }
    }
}

/// How a branch can stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stand {
    Prepared,
    /// Committed, and its database keeps markers.
    Marked,
    /// Committed, and its database keeps none.
    Bare,
    /// It wrote nothing: its vote was its commit.
    ReadOnly,
    /// Rolled back, or never prepared.
    Nothing,
    /// It can never commit, and its database says so.
    Tombstone,
}

/// What can be after a decision. Only where no branch can commit any more is a tombstone written.
fn stands(decision: Action) -> &'static [Stand] {
    match decision {
        Action::Commit => &[Stand::Prepared, Stand::Marked, Stand::Bare, Stand::ReadOnly],
        Action::RollBack => &[Stand::Prepared, Stand::Nothing, Stand::Tombstone, Stand::ReadOnly],
    }
}

/// Every world of three branches after each decision, with every set of databases that could be read: what must be
/// done is what was decided, and what is said to keep all or nothing keeps it.
#[test]
fn in_every_world_what_must_be_done_is_what_was_decided() {
    let mut musts = 0;
    for decision in [Action::Commit, Action::RollBack] {
        let possible = stands(decision);
        let worlds = possible
            .iter()
            .flat_map(|a| possible.iter().flat_map(move |b| possible.iter().map(move |c| [*a, *b, *c])));
        for world in worlds {
            for unread in 0..8_u8 {
                let Some((judged, seen)) = look(world, unread) else { continue };
                let committed = |stand: &Stand| [Stand::Marked, Stand::Bare].contains(stand);
                match (judged.verdict, &judged.why) {
                    (Verdict::Must(action), _) => {
                        musts += 1;
                        assert_eq!(action, decision, "{world:?}, unread {unread:03b}");
                    }
                    (_, Why::AllPrepared) => {
                        assert!(world.iter().all(|stand| *stand == Stand::Prepared), "{world:?}");
                    }
                    (_, Why::MissingUnmarked(_)) => {
                        assert!(!world.iter().any(committed), "{world:?}, unread {unread:03b}");
                    }
                    (Verdict::Unread, _) => assert!(!seen, "{world:?}: everything was read"),
                    (Verdict::Person, why) => {
                        assert!(matches!(why, Why::MissingUnknown { .. }), "{world:?}: {why:?}");
                    }
                }
            }
        }
    }
    assert!(musts > 50, "{musts} proven decisions");
}

/// The verdict where the databases of these branches could not be read, and whether everything was; nothing where
/// nothing prepared was seen.
fn look(world: [Stand; 3], unread: u8) -> Option<(Judgement, bool)> {
    // In one more database it has no branch: it may be one too many to tell that something is missing.
    let (mut view, mut found) = (View { read: 1, ..View::default() }, Evidence::default());
    for (number, stand) in (0_u16..).zip(world) {
        let at = format!("bank-{number}");
        if unread & (1 << number) != 0 {
            view.unread.push(at);
            continue;
        }
        view.read += 1;
        match stand {
            Stand::Prepared => found.prepared.push(branch(&at, number, 3)),
            Stand::Marked => found.marks.push(mark(&at, number, true)),
            Stand::Tombstone => found.marks.push(mark(&at, number, false)),
            Stand::Bare => view.without_markers.push(at),
            Stand::ReadOnly | Stand::Nothing => {}
        }
    }
    (!found.prepared.is_empty()).then(|| (judge(&found, &view), view.unread.is_empty()))
}

#[test]
fn every_choice_is_told_with_what_it_risks_and_what_is_decided_with_none() {
    for (why, names) in [
        (Why::Committed(mark("bank-b", 1, true)), "marker at bank-b"),
        (Why::NeverCommits(mark("bank-b", 1, false)), "bank-b says so"),
        (
            Why::Unread { participants: names(&["bank-c"]), missing: vec![2] },
            "bank-c, which could not be read",
        ),
        (Why::Elsewhere(names(&["shop at host:1"])), "shop at host:1"),
        (Why::TooFewDatabases { branches: 4, databases: 1, missing: vec![1, 2, 3] }, "branches 1, 2 and 3"),
    ] {
        let words = words(&why);
        assert!(words.if_commit.is_none() && words.if_roll_back.is_none(), "{words:?}");
        assert!(words.known.contains(names) && !words.advice.is_empty(), "{words:?}");
    }
    let missing = Why::MissingUnknown { missing: vec![1], silent: names(&["bank-b"]) };
    for (why, torn) in [
        (Why::AllPrepared, [false, false]),
        (Why::MissingUnmarked(vec![1]), [true, false]),
        (missing, [true, true]),
        (Why::CountUnknown, [true, true]),
        (Why::Contradiction(Contradiction::Twice(1)), [true, true]),
    ] {
        let words = words(&why);
        let risks = [&words.if_commit, &words.if_roll_back].map(|risk| risk.clone().unwrap());
        assert_eq!(risks.clone().map(|risk| risk.contains("half")), torn, "{risks:?}");
    }
}
