//! A lost log's transactions from what was read to what is shown; and the answers that other tests of this crate use.

use std::collections::BTreeSet;

use votum_participant::database::ServerFacts;
use votum_participant::postgres::lost_log::{
    Action, Identity, Listed, MarkerSeen, Markers, MayEnd, PreparedSeen, SessionSeen,
};

use super::*;
use crate::lost_log::advice::words;
use crate::lost_log::choices::Choice;
use crate::lost_log::evidence::{Answer, gather};
use crate::lost_log::judge::{Why, judge};
use crate::lost_log::plan::plan;
use crate::lost_log::report::Earlier;

fn prepared(gid: &str, xid: u32) -> PreparedSeen {
    PreparedSeen {
        gid: gid.into(),
        xid,
        owner: Some("votum".into()),
        database: "bank".into(),
        prepared_at: "2026-11-22T06:40:00Z".into(),
        age_ms: 240_000,
        owner_is_ours: true,
        may_end: MayEnd::Itself,
    }
}

fn answer(name: &str, port: u16, prepared: Vec<PreparedSeen>, markers: Markers) -> Answer {
    let listed = Listed {
        identity: Identity { system_identifier: port.into(), started: "now".into(), database: "bank".into() },
        facts: ServerFacts { system_identifier: port.into(), timeline: 1, in_recovery: false },
        prepared,
        sessions: Vec::new(),
    };
    Answer {
        participant: name.into(),
        file: format!("/etc/votum/{name}.toml"),
        server: format!("127.0.0.1:{port}"),
        database: "bank".into(),
        read: Ok((listed, markers)),
    }
}

/// Two databases that were read and one that was not: a transaction that must commit, one that a person chose
/// to roll back, one that waits, one that waits for the third database; and one that is left alone.
fn answers() -> Vec<Answer> {
    let committed = MarkerSeen { gtid: gtid(1042), branch: 1, committed: true };
    let mut forged = prepared("votum_acme_7_3f9ac2_77_0_2", 740);
    (forged.owner, forged.owner_is_ours) = (Some("mallory".into()), false);
    let at_a = vec![
        prepared("votum_acme_7_3f9ac2_1042_0_2", 731),
        prepared("votum_acme_7_3f9ac2_1050_0_1", 732),
        prepared("votum_acme_7_3f9ac2_1051_0_2", 733),
        prepared("votum_acme_7_3f9ac2_1052_0_3", 734),
        forged,
    ];
    let at_b = vec![prepared("votum_acme_7_3f9ac2_1051_1_2", 931)];
    let mut b = answer("bank-b", 5433, at_b, Markers::Read(vec![committed]));
    if let Ok((listed, _)) = &mut b.read {
        listed.sessions =
            vec![SessionSeen { pid: 4_711, application_name: "votum-participant bank-b".into() }];
    }
    let mut c = answer("bank-c", 5434, Vec::new(), Markers::NoTable);
    c.read = Err("connection refused".into());
    vec![answer("bank-a", 5432, at_a, Markers::NoTable), b, c]
}

fn gtid(seq: u64) -> Gtid {
    format!("acme-7-3f9ac2-{seq}").parse().unwrap()
}

/// What is shown of [`answers`]: before anything is done, or after.
pub(crate) fn lost(applied: bool) -> LostLog {
    let id = "acme".parse().unwrap();
    let survey = gather(&id, &answers(), &BTreeSet::new());
    let chosen = Choice { action: Action::RollBack, reason: None };
    let consider = |(gtid, evidence): (&Gtid, &Evidence)| {
        let judgement = judge(evidence, &survey.view);
        let choice = (gtid.seq == 1050).then_some(&chosen);
        let plan = plan(gtid, evidence, &judgement, &Earlier::default(), choice, "4714").unwrap();
        let outcome = if gtid.seq == 1042 { Outcome::Done } else { Outcome::Refused };
        let detail = (gtid.seq != 1042).then(|| "prepared by another role (SQLSTATE 42501)".to_owned());
        let ended = evidence.prepared.iter().map(|branch| settle::Ended {
            participant: branch.participant.clone(),
            gid: branch.gid.to_string(),
            outcome: Some(outcome),
            detail: detail.clone(),
        });
        let settles = matches!(plan, Plan::Settle { .. });
        let done = (applied && settles).then(|| Done::Ended(ended.collect()));
        let words = words(&judgement.why);
        Considered { gtid: gtid.clone(), evidence: evidence.clone(), judgement, words, plan, done }
    };
    let considered = survey.transactions.iter().map(consider).collect();
    let ended = settle::Ended {
        participant: "bank-a".into(),
        gid: "votum_acme_7_3f9ac2_1040_0_2".into(),
        outcome: Some(Outcome::Unknown),
        detail: Some("it is gone, and nothing says how it ended".into()),
    };
    let interrupted = applied.then_some(settle::Interrupted { ended, as_decided: false });
    let acted = Acted { applied, interrupted: interrupted.into_iter().collect() };
    LostLog::new(&id, applied.then_some(Path::new("lost.jsonl")), &survey, considered, acted)
}

fn states(document: &LostLog) -> Vec<(&str, &str)> {
    document.transactions.iter().map(|one| (one.verdict.as_str(), one.state.as_str())).collect()
}

#[test]
fn each_transaction_is_shown_with_its_verdict_and_how_far_it_is() {
    let (before, after) = (lost(false), lost(true));
    let expected =
        [("must_commit", "planned"), ("person", "planned"), ("person", "waits"), ("unread", "waits")];
    assert_eq!(states(&before), expected);
    assert_eq!(states(&after)[..2], [("must_commit", "settled"), ("person", "unfinished")]);
    assert_eq!((before.exit(), after.exit()), (Exit::Attention, Exit::Attention));
    assert!(before.next[0].starts_with("Stop every coordinator with the id acme"), "{:?}", before.next);
    assert_eq!(before.apart.len(), 1);
}

#[test]
fn where_nothing_is_left_nobody_is_needed_and_the_way_on_is_named() {
    let id = "acme".parse().unwrap();
    let answers = [answer("bank-a", 5432, Vec::new(), Markers::NoTable)];
    let survey = gather(&id, &answers, &BTreeSet::new());
    let document = LostLog::new(&id, None, &survey, Vec::new(), Acted::default());
    assert_eq!(document.exit(), Exit::Fine);
    assert!(document.next.iter().any(|step| step.contains("init")), "{:?}", document.next);
}

#[test]
fn one_database_under_two_names_is_read_once_and_one_that_nobody_names_is_missed() {
    let id = "acme".parse().unwrap();
    let mut elsewhere = prepared("votum_acme_7_3f9ac2_1042_1_2", 735);
    elsewhere.database = "shop".into();
    let mine = vec![prepared("votum_acme_7_3f9ac2_1042_0_2", 731), elsewhere];
    let mut again = answer("bank-z", 5432, mine.clone(), Markers::NoTable);
    again.server = "localhost:5432".into();
    let survey = gather(&id, &[answer("bank-a", 5432, mine, Markers::NoTable), again], &BTreeSet::new());
    let [_, second] = survey.databases.as_slice() else { panic!("{:?}", survey.databases) };
    assert_eq!(second.sight, Sight::SameAs("bank-a".into()));
    let evidence = &survey.transactions[&gtid(1042)];
    assert_eq!((evidence.prepared.len(), survey.view.read, survey.apart.len()), (1, 1, 1));
    let why = judge(evidence, &survey.view).why;
    assert_eq!(why, Why::Elsewhere(vec!["shop at 127.0.0.1:5432".into()]));
}
