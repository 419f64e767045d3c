//! What is done about each transaction: from the verdict, what a person chose, and what an earlier run decided.
//! Pure.

use votum_participant::postgres::lost_log::Action;
use votum_proto::names::Gtid;

use super::choices::Choice;
use super::evidence::{Branch, Evidence};
use super::judge::{Judgement, Verdict, Why};
use super::report::{Decided, Earlier, Marker};
use super::word;

/// What is done about one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Plan {
    /// What is prepared of it is ended.
    Settle { action: Action, by: By },
    /// It waits for a person, or for a database.
    Wait,
    /// It was decided, and is left alone all the same, for this reason.
    Held(String),
}

/// Who decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum By {
    /// The evidence proves it.
    Evidence,
    /// A person chose.
    Person { reason: String },
    /// It stands in the report, as it was decided there.
    Report(Decided),
}

/// Plans one transaction. `reason` is that of the order, for choices without one of their own.
///
/// # Errors
/// A choice that cannot be followed, in a sentence: then nothing is done at all.
pub(crate) fn plan(
    gtid: &Gtid,
    evidence: &Evidence,
    judgement: &Judgement,
    earlier: &Earlier,
    choice: Option<&Choice>,
    reason: &str,
) -> Result<Plan, String> {
    let decided = earlier.decided.get(gtid);
    if let Some(choice) = choice {
        refuse(gtid, judgement, decided, choice)?;
    }
    if let Some(decided) = decided {
        return Ok(as_reported(evidence, judgement, earlier, decided));
    }
    Ok(match (judgement.verdict, choice) {
        (Verdict::Must(action), _) => Plan::Settle { action, by: By::Evidence },
        (Verdict::Person, Some(choice)) => {
            let reason = choice.reason.clone().unwrap_or_else(|| reason.to_owned());
            Plan::Settle { action: choice.action, by: By::Person { reason } }
        }
        (Verdict::Person | Verdict::Unread, _) => Plan::Wait,
    })
}

/// Whether a choice stands against what is known.
fn refuse(
    gtid: &Gtid,
    judgement: &Judgement,
    decided: Option<&Decided>,
    choice: &Choice,
) -> Result<(), String> {
    let chosen = word(choice.action);
    if let Some(decided) = decided.filter(|decided| decided.action != choice.action) {
        return Err(format!(
            "{gtid} was decided before, as {}: the report says so. To {chosen} it now would tear it; leave the \
             choice out",
            word(decided.action)
        ));
    }
    match judgement.verdict {
        Verdict::Must(action) if action != choice.action => Err(format!(
            "{gtid} must {}, and cannot be chosen to {chosen}: leave the choice out",
            word(action)
        )),
        Verdict::Unread if decided.is_none() => Err(format!(
            "{gtid} cannot be chosen yet: a database that may hold a branch of it was not read. Make it \
             readable, or, if it is gone for good, say so with --without NAME"
        )),
        Verdict::Must(_) | Verdict::Person | Verdict::Unread => Ok(()),
    }
}

/// Goes on with what was decided before, unless somebody else has acted since.
fn as_reported(evidence: &Evidence, judgement: &Judgement, earlier: &Earlier, decided: &Decided) -> Plan {
    let against = evidence.marks.iter().map(Marker::from).find(|marker| {
        marker.committed != (decided.action == Action::Commit) && !decided.markers.contains(marker)
    });
    if let Some(marker) = against {
        return Plan::Held(format!(
            "it was decided as {} before, and since then a marker at {} says that branch {} {}: somebody else \
             has acted, and a person has to look into the data",
            word(decided.action),
            marker.participant,
            marker.branch,
            if marker.committed { "committed" } else { "can never commit" }
        ));
    }
    let seen = |branch: &Branch| earlier.xids.get(&(branch.participant.clone(), branch.gid.to_string()));
    let other_work =
        evidence.prepared.iter().find(|branch| seen(branch).is_some_and(|xids| !xids.contains(&branch.xid)));
    if let Some(branch) = other_work {
        return Plan::Held(format!(
            "{} is prepared at {} with transaction id {}, and was seen with another one before: it is other work \
             under this name, and is left alone",
            branch.gid, branch.participant, branch.xid
        ));
    }
    // A person may have chosen in full view of a contradiction, but not of a branch that was not seen then.
    let in_full_view =
        decided.operator.is_some() && evidence.prepared.iter().all(|branch| seen(branch).is_some());
    match &judgement.why {
        Why::Contradiction(_) if !in_full_view => Plan::Held(
            "it was decided before, and what is found now contradicts itself in a way that was not seen then: a \
             person has to look into the data"
                .to_owned(),
        ),
        Why::Contradiction(_)
        | Why::Committed(_)
        | Why::NeverCommits(_)
        | Why::Unread { .. }
        | Why::Elsewhere(_)
        | Why::TooFewDatabases { .. }
        | Why::CountUnknown
        | Why::AllPrepared
        | Why::MissingUnmarked(_)
        | Why::MissingUnknown { .. } => {
            Plan::Settle { action: decided.action, by: By::Report(decided.clone()) }
        }
    }
}

#[cfg(test)]
mod tests {
    use votum_participant::postgres::lost_log::MayEnd;

    use super::super::evidence::Mark;
    use super::super::judge::Contradiction;
    use super::*;

    fn gtid() -> Gtid {
        "acme-7-3f9ac2-1042".parse().unwrap()
    }

    fn judgement(verdict: Verdict) -> Judgement {
        Judgement { verdict, why: Why::AllPrepared }
    }

    fn choice(action: Action) -> Choice {
        Choice { action, reason: None }
    }

    /// Branch 0 is prepared with this transaction id.
    fn prepared(xid: u32) -> Evidence {
        let branch = Branch {
            participant: "bank-a".into(),
            system_identifier: 1,
            gid: "votum_acme_7_3f9ac2_1042_0_2".parse().unwrap(),
            xid,
            owner: "votum".into(),
            may_end: MayEnd::Itself,
            prepared_at: String::new(),
            age_ms: 1,
        };
        Evidence { prepared: vec![branch], ..Evidence::default() }
    }

    /// An earlier run decided, when branch 0 had transaction id 731 and these markers were there.
    fn before(action: Action, markers: &[Marker]) -> Earlier {
        let decided = Decided {
            action,
            operator: Some("ada".into()),
            reason: Some("4714".into()),
            markers: markers.iter().cloned().collect(),
        };
        let name = ("bank-a".to_owned(), "votum_acme_7_3f9ac2_1042_0_2".to_owned());
        Earlier { decided: [(gtid(), decided)].into(), xids: [(name, [731].into())].into(), open: Vec::new() }
    }

    fn planned(verdict: Verdict, earlier: &Earlier, chosen: Option<Action>) -> Result<Plan, String> {
        let chosen = chosen.map(choice);
        plan(&gtid(), &prepared(731), &judgement(verdict), earlier, chosen.as_ref(), "4714")
    }

    const BOTH: [Action; 2] = [Action::Commit, Action::RollBack];

    #[test]
    fn what_must_be_done_is_done_and_a_choice_against_it_is_refused() {
        for action in BOTH {
            let none = Earlier::default();
            let settle = Ok(Plan::Settle { action, by: By::Evidence });
            assert_eq!(planned(Verdict::Must(action), &none, None), settle);
            for chosen in BOTH {
                let planned = planned(Verdict::Must(action), &none, Some(chosen));
                assert_eq!(planned.is_ok(), chosen == action, "{chosen:?}: {planned:?}");
            }
        }
    }

    #[test]
    fn a_person_chooses_where_a_person_must_and_nowhere_else() {
        let none = Earlier::default();
        assert_eq!(planned(Verdict::Person, &none, None), Ok(Plan::Wait));
        assert_eq!(planned(Verdict::Unread, &none, None), Ok(Plan::Wait));
        for action in BOTH {
            let by = By::Person { reason: "4714".into() };
            assert_eq!(planned(Verdict::Person, &none, Some(action)), Ok(Plan::Settle { action, by }));
            let refused = planned(Verdict::Unread, &none, Some(action)).unwrap_err();
            assert!(refused.contains("--without"), "{refused}");
        }
    }

    #[test]
    fn a_choice_has_its_own_reason_before_that_of_the_order() {
        let own = Choice { action: Action::Commit, reason: Some("receipt 12".into()) };
        let judged = judgement(Verdict::Person);
        let planned = plan(&gtid(), &prepared(731), &judged, &Earlier::default(), Some(&own), "4714");
        let by = By::Person { reason: "receipt 12".into() };
        assert_eq!(planned, Ok(Plan::Settle { action: Action::Commit, by }));
    }

    #[test]
    fn what_an_earlier_run_decided_stands_without_being_chosen_again_and_never_turns() {
        for action in BOTH {
            let earlier = before(action, &[]);
            for verdict in [Verdict::Person, Verdict::Unread, Verdict::Must(action)] {
                for chosen in [None, Some(Action::Commit), Some(Action::RollBack)] {
                    let planned = planned(verdict, &earlier, chosen);
                    if chosen.is_some_and(|chosen| chosen != action) {
                        assert!(planned.unwrap_err().contains("was decided before"));
                    } else {
                        let goes_on = matches!(&planned, Ok(Plan::Settle { action: same, by: By::Report(_) }) if *same == action);
                        assert!(goes_on, "{planned:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_decision_is_held_when_a_marker_that_was_not_there_says_otherwise() {
        for action in BOTH {
            let against =
                Mark { participant: "bank-b".into(), branch: 1, committed: action == Action::RollBack };
            let with = Mark { committed: action == Action::Commit, ..against.clone() };
            let look = |marks: &[Mark], earlier: &Earlier| {
                let evidence = Evidence { marks: marks.to_vec(), ..prepared(731) };
                plan(&gtid(), &evidence, &judgement(Verdict::Person), earlier, None, "").unwrap()
            };
            let held = look(std::slice::from_ref(&against), &before(action, &[]));
            assert!(matches!(held, Plan::Held(_)), "{held:?}");
            let known = look(std::slice::from_ref(&against), &before(action, &[Marker::from(&against)]));
            assert!(matches!(known, Plan::Settle { .. }), "it was seen when it was decided: {known:?}");
            let own = look(&[with], &before(action, &[]));
            assert!(matches!(own, Plan::Settle { .. }), "its own commit is no contradiction: {own:?}");
        }
    }

    #[test]
    fn a_decision_is_held_when_a_contradiction_shows_that_was_not_seen_when_it_was_taken() {
        let judged = Judgement { verdict: Verdict::Person, why: Why::Contradiction(Contradiction::Twice(0)) };
        let look = |evidence: &Evidence, operator: Option<&str>| {
            let mut earlier = before(Action::Commit, &[]);
            let decided = earlier.decided.get_mut(&gtid()).unwrap();
            decided.operator = operator.map(str::to_owned);
            matches!(plan(&gtid(), evidence, &judged, &earlier, None, ""), Ok(Plan::Held(_)))
        };
        let mut unseen = prepared(731);
        unseen.prepared.push(Branch { participant: "bank-b".into(), ..unseen.prepared[0].clone() });
        assert!(!look(&prepared(731), Some("ada")), "ada saw it, and chose");
        assert!(look(&unseen, Some("ada")));
        assert!(look(&prepared(731), None));
    }

    #[test]
    fn other_work_under_a_name_that_was_settled_is_left_alone() {
        let judged = judgement(Verdict::Person);
        let held = plan(&gtid(), &prepared(900), &judged, &before(Action::Commit, &[]), None, "").unwrap();
        assert!(matches!(&held, Plan::Held(why) if why.contains("other work")), "{held:?}");
    }
}
