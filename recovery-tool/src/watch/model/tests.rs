use crossterm::event::{KeyCode, KeyModifiers};
use votum_proto::v1::resolve_request::Action as Order;

use super::*;
use crate::document::fixed::{ailing, committing, everything, healthy, summary};
use crate::failure::Exit;

/// The branch of the fixed answers that waits for a person.
pub(in crate::watch) const WAITING: &str = "votum_acme_5_aaaaaa_9_0_2";
/// The one that is on its way.
pub(in crate::watch) const HELD: &str = "votum_acme_7_3f9ac2_1042_0_2";

/// A model to which things happen, one second after the other.
pub(in crate::watch) struct Play {
    pub(in crate::watch) model: Model,
    pub(in crate::watch) seconds: u64,
}

impl Play {
    /// Nothing was answered yet; the first calls are out.
    pub(in crate::watch) fn new() -> Self {
        let mut play =
            Self { model: Model::new(Duration::from_secs(2), 60_000, Ok("ada".into())), seconds: 0 };
        assert_eq!(play.happens(Message::Tick), [Call::Status, Call::InDoubt]);
        play
    }

    /// Everything that can be wrong is.
    pub(in crate::watch) fn ailing() -> Self {
        let mut play = Self::new();
        play.answers(ailing(), everything());
        play
    }

    pub(in crate::watch) fn happens(&mut self, message: Message) -> Vec<Call> {
        self.model.update(Monotonic(Duration::from_secs(self.seconds)), message)
    }

    pub(in crate::watch) fn answers(
        &mut self,
        status: v1::GetStatusResponse,
        doubts: v1::ListInDoubtResponse,
    ) {
        self.happens(Message::Answer(Answer::Status(Ok(status))));
        self.happens(Message::Answer(Answer::InDoubt(Ok((doubts, v1::ListTransactionsResponse::default())))));
    }

    pub(in crate::watch) fn press(&mut self, code: KeyCode) -> Vec<Call> {
        self.happens(Message::Key(KeyEvent::new(code, KeyModifiers::NONE)))
    }

    pub(in crate::watch) fn types(&mut self, text: &str) -> Vec<Call> {
        text.chars().flat_map(|typed| self.press(KeyCode::Char(typed))).collect()
    }

    fn selected(&self) -> Option<String> {
        self.model.selected_doubt().map(|row| row.key())
    }

    fn step(&self) -> &Step {
        &self.model.overlay.as_ref().and_then(Overlay::settle).expect("no settlement").step
    }

    /// The waiting branch is to be rolled back; the dry run was asked for.
    pub(in crate::watch) fn asks_to_settle(&mut self) -> v1::ResolveRequest {
        self.types("rb");
        self.types("ticket 4711");
        let calls = self.press(KeyCode::Enter);
        let [Call::Resolve { ticket: _, request }] = calls.as_slice() else { panic!("{calls:?}") };
        request.clone()
    }

    pub(in crate::watch) fn resolved(&mut self, answer: Result<v1::ResolveResponse, Failure>) -> Vec<Call> {
        let ticket = self.model.tickets;
        self.happens(Message::Answer(Answer::Resolved { ticket, answer }))
    }
}

/// What a coordinator answers to a dry run where a person decides.
pub(in crate::watch) fn dry() -> v1::ResolveResponse {
    v1::ResolveResponse {
        statements: vec![format!("bank-a: ROLLBACK PREPARED '{WAITING}'")],
        judgement: "its record may have been dropped after retention".into(),
        applied: false,
        result: "nothing was done (dry run)".into(),
        ..Default::default()
    }
}

fn done() -> v1::ResolveResponse {
    v1::ResolveResponse { applied: true, result: "done".into(), ..dry() }
}

pub(in crate::watch) fn refusal() -> Failure {
    Failure { exit: Exit::Refused, code: "VOTUM-1201".into(), message: "the decision is COMMIT".into() }
}

pub(in crate::watch) fn lost() -> Failure {
    Failure::unreachable(&"127.0.0.1:7400".parse().unwrap(), "Connection refused")
}

#[test]
fn the_selection_is_a_branch_and_survives_a_refresh_in_which_rows_move() {
    let mut play = Play::ailing();
    assert_eq!(play.selected(), Some(format!("{WAITING} at bank-a")));
    play.press(KeyCode::Down);
    assert_eq!(play.selected(), Some(format!("{HELD} at bank-a")));
    // Another one that is older, and the held one is the oldest of all.
    let mut moved = everything();
    let mut new = moved.branches[1].clone();
    new.row.as_mut().unwrap().gid = "votum_acme_6_bbbbbb_3_0_2".into();
    moved.branches.insert(0, new);
    moved.branches[1].row.as_mut().unwrap().age_ms = 999_000;
    play.answers(ailing(), moved);
    assert_eq!(play.selected(), Some(format!("{HELD} at bank-a")));
    assert_eq!(play.model.selected(Table::InDoubt), Some(0));
    assert_eq!(play.model.notice, None);
}

#[test]
fn a_selected_branch_that_is_gone_is_told() {
    let mut play = Play::ailing();
    play.press(KeyCode::Down);
    let mut ended = everything();
    ended.branches.remove(0);
    play.answers(ailing(), ended);
    assert_eq!(play.model.notice, Some(format!("{HELD} at bank-a is no longer in the list")));
    play.press(KeyCode::Up);
    assert_eq!(play.model.notice, None, "a notice lasts until the next key");
}

#[test]
fn both_questions_are_asked_again_after_the_interval_each_by_itself() {
    let mut play = Play::new();
    play.happens(Message::Answer(Answer::Status(Ok(healthy()))));
    play.seconds = 2;
    assert_eq!(play.happens(Message::Tick), [Call::Status], "agents keep the other one waiting");
    play.happens(Message::Answer(Answer::InDoubt(Ok(Default::default()))));
    play.seconds = 4;
    assert_eq!(play.happens(Message::Tick), [Call::InDoubt]);
}

#[test]
fn a_pause_asks_nothing_and_its_end_asks_at_once() {
    let mut play = Play::ailing();
    play.types("p");
    play.seconds = 60;
    assert_eq!(play.happens(Message::Tick), []);
    assert_eq!(play.types("u"), [Call::Status, Call::InDoubt], "unless a person asks");
    play.answers(ailing(), everything());
    assert_eq!(play.types("p"), [Call::Status, Call::InDoubt]);
}

#[test]
fn a_transaction_is_shown_also_in_a_pause() {
    let mut play = Play::ailing();
    play.types("p");
    let calls = play.press(KeyCode::Enter);
    assert_eq!(calls, [Call::Show { gtid: "acme-7-3f9ac2-1042".into() }]);
}

#[test]
fn the_interval_goes_up_and_down_between_its_bounds() {
    let mut play = Play::ailing();
    let mut seen = Vec::new();
    for key in ["+", "+", "-", "-", "-", "-"] {
        play.types(key);
        seen.push(play.model.interval.as_secs());
    }
    assert_eq!(seen, [5, 10, 5, 2, 1, 1]);
    play.types(&"+".repeat(20));
    assert_eq!(play.model.interval.as_secs(), 300);
}

#[test]
fn the_answer_about_one_transaction_is_not_taken_for_that_about_another() {
    let mut play = Play::ailing();
    play.press(KeyCode::Enter);
    let answer = |gtid: &str| Answer::Shown { gtid: gtid.into(), answer: Ok(committing()) };
    play.happens(Message::Answer(answer("acme-7-3f9ac2-9999")));
    let shown = |play: &Play| {
        let content = &play.model.overlay.as_ref().unwrap().content;
        matches!(content, Content::Show { feed, .. } if feed.last().is_some())
    };
    assert!(!shown(&play));
    play.happens(Message::Answer(answer("acme-7-3f9ac2-1042")));
    assert!(shown(&play));
}

#[test]
fn what_cannot_be_looked_at_is_listed_only_where_somebody_was_not_heard() {
    let mut play = Play::new();
    play.happens(Message::Answer(Answer::Status(Ok(healthy()))));
    let elsewhere = v1::TransactionSummary {
        gtid: "acme-7-3f9ac2-7".into(),
        participants: vec!["bank-a".into()],
        ..summary("committing")
    };
    let transactions = vec![summary("committing"), elsewhere];
    let listed = v1::ListTransactionsResponse { transactions };
    play.happens(Message::Answer(Answer::InDoubt(Ok((everything(), listed)))));
    let owed: Vec<String> = play
        .model
        .doubt_rows()
        .iter()
        .filter_map(|row| match row {
            Doubt::Owed(transaction) => Some(transaction.gtid.clone()),
            Doubt::Ours(_) | Doubt::Foreign(_) => None,
        })
        .collect();
    assert_eq!(owed, ["acme-7-3f9ac2-1042"], "bank-b did not answer, bank-a did");
}

#[test]
fn an_alarm_is_explained_from_the_branch_that_it_is_about_too() {
    let mut play = Play::ailing();
    play.types("e");
    let code = |play: &Play| {
        let Content::Explain(alarm) = &play.model.overlay.as_ref().unwrap().content else {
            panic!("not open")
        };
        alarm.code.clone()
    };
    assert_eq!(code(&play), "VOTUM-1402");
    play.press(KeyCode::Esc);
    play.press(KeyCode::Tab);
    play.types("e");
    assert_eq!(code(&play), "VOTUM-1402");
    play.press(KeyCode::Esc);
    play.press(KeyCode::BackTab);
    play.press(KeyCode::Down);
    play.types("e");
    assert!(play.model.overlay.is_none());
    assert_eq!(play.model.notice.as_deref(), Some("there is no alarm about what is selected"));
}

#[test]
fn nothing_is_ordered_before_the_dry_run_and_the_words_typed_out() {
    let mut play = Play::ailing();
    let request = play.asks_to_settle();
    assert_eq!((request.gid.as_str(), request.participant.as_str()), (WAITING, "bank-a"));
    assert_eq!((request.action(), request.apply), (Order::Rollback, false));
    assert_eq!((request.operator.as_str(), request.reason.as_str()), ("ada", "ticket 4711"));
    assert_eq!(play.press(KeyCode::Enter), [], "the dry run is on its way");
    play.resolved(Ok(dry()));
    for wrong in ["", "yes", "rollback", "commit bank-a", "rollback bank-b"] {
        assert_eq!(play.types(wrong), []);
        assert_eq!(play.press(KeyCode::Enter), [], "{wrong}");
        assert!(matches!(play.step(), Step::Confirming { mistaken: true, .. }), "{wrong}");
    }
    play.types("rollback bank-a");
    let calls = play.press(KeyCode::Enter);
    let [Call::Resolve { request: ordered, .. }] = calls.as_slice() else { panic!("{calls:?}") };
    assert_eq!(*ordered, v1::ResolveRequest { apply: true, ..request });
    assert_eq!(play.press(KeyCode::Enter), [], "an order is given once");
    let calls = play.resolved(Ok(done()));
    assert!(matches!(play.step(), Step::Ended(Ok(settled)) if settled.applied));
    assert_eq!(calls, [Call::Status, Call::InDoubt], "the picture has changed");
}

#[test]
fn without_a_reason_or_without_a_name_nothing_is_asked() {
    let mut play = Play::ailing();
    play.types("rc  ");
    assert_eq!(play.press(KeyCode::Enter), []);
    assert!(matches!(play.step(), Step::Reasoning));
    let mut nobody = Play::ailing();
    nobody.model.operator = Err(Failure::usage("say it with --operator"));
    nobody.types("r");
    assert!(matches!(nobody.step(), Step::Ended(Err(failure)) if failure.message.contains("--operator")));
    assert_eq!(nobody.types("c"), []);
}

#[test]
fn a_refusal_and_what_happens_by_itself_end_the_settlement_without_an_order() {
    let agrees = v1::ResolveResponse { result: "nothing was added: it happens by itself".into(), ..dry() };
    for answer in [Err(refusal()), Ok(agrees)] {
        let mut play = Play::ailing();
        play.asks_to_settle();
        play.resolved(answer.clone());
        assert!(matches!(play.step(), Step::Ended(_)), "{answer:?}");
        let asked = [play.types("rollback bank-a"), play.press(KeyCode::Enter)].concat();
        assert!(!asked.iter().any(|call| matches!(call, Call::Resolve { .. })), "{asked:?}");
    }
}

#[test]
fn an_order_whose_answer_is_lost_is_not_called_refused() {
    let order = || {
        let mut play = Play::ailing();
        play.asks_to_settle();
        play.resolved(Ok(dry()));
        play.types("rollback bank-a");
        play.press(KeyCode::Enter);
        play
    };
    let mut play = order();
    play.resolved(Err(lost()));
    assert!(matches!(play.step(), Step::Unknown(_)));
    let mut play = order();
    play.resolved(Err(refusal()));
    assert!(matches!(play.step(), Step::Ended(Err(_))));
    // Closed, it is told when it comes; and at the end if it does not.
    let mut play = order();
    play.press(KeyCode::Esc);
    assert!(play.model.parting().is_some_and(|said| said.contains(WAITING)));
    play.resolved(Ok(done()));
    assert_eq!(play.model.notice, Some(format!("{WAITING}: done")));
    assert_eq!(play.model.parting(), None);
}

#[test]
fn the_answer_to_a_dialogue_that_was_closed_does_not_enter_the_next_one() {
    let mut play = Play::ailing();
    play.asks_to_settle();
    play.press(KeyCode::Esc);
    play.asks_to_settle();
    let first = play.model.tickets - 1;
    play.happens(Message::Answer(Answer::Resolved { ticket: first, answer: Ok(dry()) }));
    assert!(matches!(play.step(), Step::Trying), "its own dry run is still on its way");
}

#[test]
fn only_a_listed_branch_is_settled() {
    let mut play = Play::ailing();
    play.press(KeyCode::BackTab);
    assert_eq!(play.model.table, Table::Participants);
    play.types("r");
    assert!(play.model.overlay.is_none());
    assert_eq!(play.model.notice.as_deref(), Some("no prepared branch is selected"));
    play.press(KeyCode::BackTab);
    assert_eq!(play.model.table, Table::Alarms);
    play.types("r");
    assert!(matches!(play.step(), Step::Choosing), "the alarm names a listed branch");
}

#[test]
fn a_signal_and_a_key_end_it() {
    let mut play = Play::ailing();
    assert_eq!(play.happens(Message::Stop), []);
    assert!(play.model.is_done());
    let mut play = Play::ailing();
    play.types("q");
    assert!(play.model.is_done());
}

#[test]
fn one_thing_is_not_told_three_times() {
    let mut play = Play::new();
    let mut status = healthy();
    status.participants[0].quarantined = 1;
    status.alarms = ailing().alarms;
    let mut doubts = everything();
    doubts.unheard.clear();
    play.answers(status.clone(), doubts.clone());
    let told = |play: &Play| play.model.trouble_rows().iter().map(Trouble::key).collect::<Vec<_>>();
    assert_eq!(told(&play).len(), 1, "{:?}", told(&play));
    status.alarms[0].participant = "bank-b".into();
    play.answers(status, doubts);
    assert_eq!(told(&play).len(), 3, "an alarm elsewhere says nothing of it: {:?}", told(&play));
}
