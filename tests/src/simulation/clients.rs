//! Clients: each does one piece of work as the plan says, over a network that loses, repeats and delays, and
//! writes down what it was told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use votum_coordinator::driver::request::{Begin, Begun, BranchClaim, Commit, Outcome, RequestError, Wait};
use votum_coordinator::protocol::record::KeyRecord;
use votum_proto::names::{Gtid, SessionName};
use votum_proto::v1;
use votum_proto::v1::execute_response::Part;

use super::application::Application;
use super::asking::{Ask, Said, ask};
use super::at_once;
use super::book::Told;
use super::database::{Change, Doing};
use super::network::{NoAnswer, request};
use super::plan::{Ending, Work};
use super::random::Random;
use super::world::World;

/// A branch as its client sees it.
#[derive(Debug, Clone, Default)]
struct Branch {
    session: Option<SessionName>,
    last: u64,
    /// A statement was sent whose reply never came.
    in_doubt: bool,
}

/// How a statement went.
pub(super) enum Went {
    Well,
    /// It failed; the branch lives.
    Failed,
    /// No reply came.
    Unknown,
    /// The branch is gone.
    Lost,
}

/// One client at one piece of work.
pub(super) struct Client {
    pub(super) world: Arc<World>,
    pub(super) work: Work,
    pub(super) random: Random,
    attempt: usize,
    gtid: Gtid,
    secret: Vec<u8>,
    branches: BTreeMap<usize, Branch>,
    /// Its own connection, where it has one.
    pub(super) own: Option<Application>,
}

/// Does one piece of work.
pub async fn work(world: Arc<World>, work: Work) {
    world.sleep(work.at).await;
    if at_once::is_drawn(&world.plan, &work) {
        return at_once::work(world, work).await;
    }
    let mut random = Random::new(world.plan.seed, &format!("client {}", work.number));
    let Some((attempt, begun)) = begin(&world, &work, &mut random).await else { return };
    let Begun { gtid, secret, attached } = begun;
    let own = work.attached.zip(attached.into_iter().next());
    let own = own.map(|(participant, (_, gid))| Application::new(participant, gid));
    let mut client = Client { world, work, random, attempt, gtid, secret, branches: BTreeMap::new(), own };
    client.run().await;
}

/// What notes call it.
pub fn name(work: &Work) -> String {
    format!("client {}", work.number)
}

fn key_record(key: u64) -> KeyRecord {
    KeyRecord {
        client: "shop".into(),
        key: format!("order-{key}"),
        request_hash: [u8::try_from(key).unwrap_or(0); 32],
    }
}

async fn begin(world: &Arc<World>, work: &Work, random: &mut Random) -> Option<(usize, Begun)> {
    let key = work.key.map(key_record);
    for _ in 0..work.tries {
        let attempt = world.book.begin(work.number, work.key);
        let begin = Begin {
            timeout: work.timeout,
            key: key.clone(),
            client: "shop".into(),
            label: format!("{attempt}"),
            participants: Vec::new(),
            attached: work
                .attached
                .and_then(|at| world.hosts.get(at))
                .map(|host| host.name.clone())
                .into_iter()
                .collect(),
        };
        match ask(world, work.patience, Ask::Begin(begin)).await {
            Ok(Said::Begun(begun)) => {
                world.note(&name(work), || format!("attempt {attempt} is {}", begun.gtid));
                world.book.write(attempt, |lines| lines.gtid = Some(begun.gtid.clone()));
                return Some((attempt, begun));
            }
            Ok(Said::Refused(RequestError::KeyCommitted(gtid))) => {
                world.note(&name(work), || format!("its key's work was committed as {gtid}"));
                world.book.write(attempt, |lines| {
                    lines.gtid = Some(gtid);
                    lines.told.push((world.now(), Told::Committed(Vec::new())));
                });
                return None;
            }
            Ok(Said::Refused(_) | Said::Outcome(_) | Said::OfKey(..) | Said::Transacted(_))
            | Err(NoAnswer) => {
                let pause = random.millis(10, 400);
                world.sleep(pause).await;
            }
        }
    }
    None
}

impl Client {
    pub(super) fn note(&self, what: impl FnOnce() -> String) {
        self.world.note(&name(&self.work), what);
    }

    pub(super) async fn think(&mut self) {
        let pause = self.random.micros(0, self.work.thinks_ms * 1000 + 1);
        self.world.sleep(pause).await;
    }

    async fn run(&mut self) {
        let mut going = true;
        for (place, (participant, doing)) in self.work.statements.clone().into_iter().enumerate() {
            self.think().await;
            match self.statement(place, participant, doing).await {
                Went::Well => {}
                // Most clients give up; some commit all the same, and must be refused.
                Went::Failed | Went::Unknown if self.random.chance(300) => {}
                Went::Failed | Went::Unknown | Went::Lost => {
                    going = false;
                    break;
                }
            }
        }
        self.think().await;
        going &= self.prepare_own(going).await;
        match self.work.ending {
            Ending::Abandon => self.note(|| "goes away".into()),
            Ending::Commit { completed, races_rollback } if going => {
                if races_rollback {
                    let (world, patience) = (Arc::clone(&self.world), self.work.patience);
                    let rollback = Ask::Rollback(self.gtid.clone(), self.secret.clone());
                    let attempt = self.attempt;
                    self.world.spawn(async move {
                        if let Ok(Said::Outcome(outcome)) = ask(&world, patience, rollback).await {
                            told(&world, attempt, &outcome);
                        }
                    });
                }
                self.commit(completed).await;
            }
            Ending::Commit { .. } | Ending::Rollback => self.roll_back().await,
        }
        self.prepare_late().await;
        self.ask_later().await;
    }

    fn request(&self, participant: usize, ordinal: u64, doing: &Doing) -> v1::ExecuteRequest {
        let session = self.branches.get(&participant).and_then(|branch| branch.session);
        let host = self.world.hosts.get(participant);
        v1::ExecuteRequest {
            gtid: self.gtid.to_string(),
            secret: self.secret.clone(),
            participant: host.map(|host| host.name.to_string()).unwrap_or_default(),
            ordinal,
            session: session.map(Into::into),
            statement: doing.text(),
            options: Some(v1::BranchOptions {
                isolation: v1::Isolation::ReadCommitted.into(),
                read_only: self.work.read_only,
                timeout_ms: u64::try_from(self.work.timeout.as_millis()).unwrap_or(0),
            }),
            ..Default::default()
        }
    }

    async fn statement(&mut self, place: usize, participant: usize, doing: Doing) -> Went {
        let branch = self.branches.entry(participant).or_default();
        let ordinal = branch.last + 1;
        let changes = matches!(doing, Doing::Change(_));
        let doing = match doing {
            Doing::Change(change) => {
                let tag = format!("{}:{participant}:{ordinal}", self.attempt);
                // A key of its own attempt would never meet another's.
                Doing::Change(Change { tag, ..change })
            }
            Doing::Look(_) | Doing::Fail => doing,
        };
        self.note(|| format!("statement {place} at {participant}, ordinal {ordinal}: {}", doing.text()));
        if self.own.as_ref().is_some_and(|own| own.participant == participant) {
            return self.own_statement(participant, ordinal, changes, &doing).await;
        }
        for _ in 0..self.work.tries {
            let asked = self.request(participant, ordinal, &doing);
            let Ok(reply) = execute(&self.world, self.work.patience, participant, asked).await else {
                continue;
            };
            let went = self.take_in(participant, ordinal, changes, reply);
            match went {
                Some(went) => return went,
                None => {
                    let pause = self.random.millis(5, 200);
                    self.world.sleep(pause).await;
                }
            }
        }
        self.note(|| format!("no reply to ordinal {ordinal} at {participant}"));
        if let Some(branch) = self.branches.get_mut(&participant) {
            branch.in_doubt = true;
        }
        Went::Unknown
    }

    /// Its reply was seen.
    pub(super) fn has_done(&mut self, participant: usize, ordinal: u64, changes: bool) {
        self.branches.entry(participant).or_default().last = ordinal;
        if changes {
            self.world.book.write(self.attempt, |lines| {
                lines.done.entry(participant).or_default().insert(ordinal);
            });
        }
    }

    /// What a reply says; `None`: nothing has happened, and it may be sent again.
    fn take_in(&mut self, participant: usize, ordinal: u64, changes: bool, reply: Replied) -> Option<Went> {
        let branch = self.branches.entry(participant).or_default();
        if let Some(session) = reply.session {
            branch.session.get_or_insert(session);
        }
        match reply.end {
            Ok(()) => {
                self.has_done(participant, ordinal, changes);
                Some(Went::Well)
            }
            Err(status) if reply.session.is_some() && status.code() != tonic::Code::Aborted => {
                branch.last = ordinal;
                self.note(|| format!("ordinal {ordinal} failed: {}", status.message()));
                Some(Went::Failed)
            }
            Err(status) => {
                self.note(|| format!("ordinal {ordinal} refused: {}", status.message()));
                let code = status.code();
                let busy = matches!(code, tonic::Code::Unavailable | tonic::Code::ResourceExhausted);
                // The coordinator has just started, and has not spoken to the agent yet.
                let early = code == tonic::Code::FailedPrecondition && status.message().contains("try again");
                if busy || early { None } else { Some(Went::Lost) }
            }
        }
    }

    async fn commit(&mut self, completed: bool) {
        let mut claims = Vec::new();
        let mut claimed = BTreeMap::new();
        for (participant, branch) in &self.branches {
            if self.own.as_ref().is_some_and(|own| own.participant == *participant) {
                claimed.insert(*participant, branch.last);
            }
            let Some(session) = branch.session else { continue };
            claimed.insert(*participant, branch.last);
            let Some(host) = self.world.hosts.get(*participant) else { continue };
            claims.push(BranchClaim { participant: host.name.clone(), session, last_ordinal: branch.last });
        }
        self.note(|| format!("commits {} with {claimed:?}", self.gtid));
        self.world.book.write(self.attempt, |lines| lines.claimed = Some(claimed));
        let wait = if completed { Wait::Completed } else { Wait::Decided };
        let commit = Commit { gtid: self.gtid.clone(), secret: self.secret.clone(), branches: claims, wait };
        self.until_told(Ask::Commit(commit)).await;
    }

    async fn roll_back(&mut self) {
        self.note(|| format!("rolls {} back", self.gtid));
        self.until_told(Ask::Rollback(self.gtid.clone(), self.secret.clone())).await;
    }

    async fn until_told(&mut self, what: Ask) {
        for _ in 0..self.work.tries {
            match ask(&self.world, self.work.patience, what.clone()).await {
                Ok(Said::Outcome(outcome)) => {
                    self.note(|| format!("is told of {}: {outcome:?}", self.gtid));
                    told(&self.world, self.attempt, &outcome);
                    match outcome {
                        Outcome::InProgress(_) | Outcome::Unknown(_) => {}
                        Outcome::Committed { .. }
                        | Outcome::Aborted { .. }
                        | Outcome::ReadOnly
                        | Outcome::Expired => return,
                    }
                }
                Ok(Said::Refused(RequestError::Invalid(_))) => return,
                Ok(Said::Refused(_) | Said::Begun(_) | Said::OfKey(..) | Said::Transacted(_))
                | Err(NoAnswer) => {}
            }
            let pause = self.random.millis(5, 400);
            self.world.sleep(pause).await;
        }
    }

    async fn ask_later(&mut self) {
        for _ in 0..self.random.below(3) {
            let pause = self.random.millis(10, 5_000);
            self.world.sleep(pause).await;
            match self.work.key.map(key_record) {
                Some(key) if self.random.chance(300) => {
                    if let Ok(Said::OfKey(gtid, outcome)) =
                        ask(&self.world, self.work.patience, Ask::GetByKey(key)).await
                    {
                        self.note(|| format!("asks for its key, and is told of {gtid}: {outcome:?}"));
                        told_of(&self.world, &gtid, &outcome);
                    }
                }
                Some(_) | None => {
                    ask_once(&self.world, self.work.patience, self.attempt, self.gtid.clone()).await;
                }
            }
        }
    }
}

/// Somebody asks what became of an attempt, and writes it down.
pub async fn ask_once(world: &Arc<World>, patience: Duration, attempt: usize, gtid: Gtid) {
    if let Ok(Said::Outcome(outcome)) = ask(world, patience, Ask::Get(gtid.clone())).await {
        world.note("somebody", || format!("asks, and is told of {gtid}: {outcome:?}"));
        told(world, attempt, &outcome);
    }
}

/// Writes down what somebody was told of a transaction whose attempt another may have made.
pub fn told_of(world: &World, gtid: &Gtid, outcome: &Outcome) {
    let attempts = world.book.open().attempts.clone();
    let place = attempts.iter().position(|attempt| attempt.gtid.as_ref() == Some(gtid));
    if let Some(attempt) = place {
        told(world, attempt, outcome);
    }
}

/// Writes down what a client was told.
pub fn told(world: &World, attempt: usize, outcome: &Outcome) {
    let now = world.now();
    world.book.write(attempt, |lines| lines.told.push((now, Told::of(outcome))));
}

/// A reply to a statement, whole.
#[derive(Debug, Clone)]
struct Replied {
    /// The session, where the ordinal was used up.
    session: Option<SessionName>,
    end: Result<(), tonic::Status>,
}

async fn execute(
    world: &Arc<World>,
    patience: Duration,
    participant: usize,
    asked: v1::ExecuteRequest,
) -> Result<Replied, NoAnswer> {
    let there = Arc::clone(world);
    request(world, patience, move || run_there(Arc::clone(&there), participant, asked.clone())).await
}

/// At the agent: in its process, so that it dies and stops with it.
async fn run_there(world: Arc<World>, participant: usize, asked: v1::ExecuteRequest) -> Option<Replied> {
    let place = world.agents.iter().find(|place| place.participants.contains(&participant))?;
    let running = place.running()?;
    let (tell, told) = tokio::sync::oneshot::channel();
    let agent = running.agent.clone();
    let task = async move {
        let mut replied = Replied { session: None, end: Err(tonic::Status::aborted("the reply broke off")) };
        match agent.execute(asked) {
            Err(status) => replied.end = Err(status),
            Ok(mut parts) => {
                while let Some(part) = parts.recv().await {
                    match part {
                        Ok(v1::ExecuteResponse { part: Some(Part::Started(started)) }) => {
                            replied.session = started.session.map(SessionName::from);
                        }
                        Ok(v1::ExecuteResponse { part: Some(Part::Finished(_)) }) => replied.end = Ok(()),
                        Ok(v1::ExecuteResponse { part: Some(Part::Row(_)) | None }) => {}
                        Err(status) => replied.end = Err(status),
                    }
                }
            }
        }
        let _ = tell.send(replied);
    };
    running.process.spawn(Box::pin(task));
    told.await.ok()
}

/// Every ordinal of the changes that a client saw done.
pub fn done_until(done: Option<&BTreeSet<u64>>, last: u64) -> BTreeSet<u64> {
    done.into_iter().flatten().copied().filter(|ordinal| *ordinal <= last).collect()
}
