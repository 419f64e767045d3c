//! What may go wrong next, and what it makes of the world.

use std::sync::Arc;

use votum_proto::names::{Gid, Gtid, Life, SessionName};

use super::agent::Preparation;
use super::bounds::{Bounds, Fault};
use super::coordinator::lives_of;
use super::state::{Body, Client, Database, Fate, Link, Message, Order, Say, Stage, State, Work};
use super::steps::Action;

/// One thing that goes wrong, or that somebody does against the plan: what [`Fault`] is, with where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wrong {
    Lose(usize),
    Duplicate(usize),
    Cut(usize),
    CrashCoordinator(usize),
    WakeOldLife(usize, Life),
    CrashAgent(usize),
    CrashDatabase(usize),
    BreakPrepare(usize),
    KillSession(usize, Gtid),
    RefusePrepare(usize),
    LateListing(usize),
    LateHello(usize),
    SlowPrepare(usize),
    TimeOut(Gtid),
    RollBack(usize),
    Vanish(usize),
    LoseReply(usize, usize),
    RepeatStatement(usize, usize),
    RollBackByHand(usize, Gid),
    CommitByHand(usize, Gid),
    Impostor(usize, Gid),
    LosePrepared(usize, Gid),
    UndoCommit(usize, Gid),
    OlderCopy(usize),
}

impl Wrong {
    /// Its kind.
    fn fault(&self) -> Fault {
        match self {
            Self::Lose(_) => Fault::Lose,
            Self::Duplicate(_) => Fault::Duplicate,
            Self::Cut(_) => Fault::Cut,
            Self::CrashCoordinator(_) => Fault::CrashCoordinator,
            Self::WakeOldLife(..) => Fault::WakeOldLife,
            Self::CrashAgent(_) => Fault::CrashAgent,
            Self::CrashDatabase(_) => Fault::CrashDatabase,
            Self::BreakPrepare(_) => Fault::BreakPrepare,
            Self::KillSession(..) => Fault::KillSession,
            Self::RefusePrepare(_) => Fault::RefusePrepare,
            Self::LateListing(_) => Fault::LateListing,
            Self::LateHello(_) => Fault::LateHello,
            Self::SlowPrepare(_) => Fault::SlowPrepare,
            Self::TimeOut(_) => Fault::TimeOut,
            Self::RollBack(_) => Fault::RollBack,
            Self::Vanish(_) => Fault::Vanish,
            Self::LoseReply(..) => Fault::LoseReply,
            Self::RepeatStatement(..) => Fault::RepeatStatement,
            Self::RollBackByHand(..) => Fault::RollBackByHand,
            Self::CommitByHand(..) => Fault::CommitByHand,
            Self::Impostor(..) => Fault::Impostor,
            Self::LosePrepared(..) => Fault::LosePrepared,
            Self::UndoCommit(..) => Fault::UndoCommit,
            Self::OlderCopy(_) => Fault::OlderCopy,
        }
    }
}

impl Bounds {
    /// Every fault that may happen now, where `progress` goes on by itself.
    pub(crate) fn faults(&self, state: &State, progress: &[Action]) -> Vec<Wrong> {
        let mut wrongs = Vec::new();
        self.faults_of_processes(state, progress, &mut wrongs);
        self.faults_of_transactions(state, &mut wrongs);
        self.faults_of_databases(state, &mut wrongs);
        wrongs.retain(|wrong| self.kinds.contains(&wrong.fault()));
        wrongs
    }

    fn faults_of_processes(&self, state: &State, progress: &[Action], wrongs: &mut Vec<Wrong>) {
        for at in 0..state.network.len() {
            let hello = matches!(state.network[at].body, Body::Say(Say::Hello { .. }));
            if at == 0 || state.network[at - 1] != state.network[at] {
                wrongs.push(Wrong::Lose(at));
                if !hello && progress.contains(&Action::Deliver(at)) {
                    wrongs.push(Wrong::Duplicate(at));
                    let prepare = matches!(state.network[at].body, Body::Order(Order::Prepare { .. }, _));
                    if prepare {
                        let ways =
                            [Wrong::SlowPrepare(at), Wrong::BreakPrepare(at), Wrong::RefusePrepare(at)];
                        wrongs.extend(ways);
                    }
                }
            }
        }
        if state.coordinator.is_some() {
            wrongs.extend((0..=state.log.tail.len()).map(Wrong::CrashCoordinator));
        } else {
            wrongs.extend((1..state.log.durable.len()).map(Wrong::OlderCopy));
        }
        for at in 0..self.participants {
            if state.agents[at].is_some() {
                wrongs.push(Wrong::CrashAgent(at));
                let older = lives_of(&state.log.durable).into_iter().map(|seen| seen.life);
                let older = older.filter(|life| state.life().is_some_and(|present| *life != present));
                wrongs.extend(older.map(|life| Wrong::WakeOldLife(at, life)));
            }
            if state.databases[at].up {
                wrongs.push(Wrong::CrashDatabase(at));
            }
            match state.link(at) {
                Link::Up { .. } => {
                    wrongs.push(Wrong::Cut(at));
                    if state.agents[at].is_some() && state.databases[at].up {
                        wrongs.push(Wrong::LateListing(at));
                    }
                }
                Link::Greeting => wrongs.push(Wrong::Cut(at)),
                Link::Down if progress.contains(&Action::Connect(at)) => wrongs.push(Wrong::LateHello(at)),
                Link::Down => {}
            }
        }
    }

    fn faults_of_transactions(&self, state: &State, wrongs: &mut Vec<Wrong>) {
        for (number, client) in state.clients.iter().enumerate() {
            let known = client.replies.keys().copied();
            wrongs.extend(known.map(|at| Wrong::RepeatStatement(number, at)));
            if client.stage == Stage::Working {
                wrongs.push(Wrong::Vanish(number));
                if state.coordinator.is_some() {
                    wrongs.push(Wrong::RollBack(number));
                }
                wrongs.extend(self.next_statement(client).map(|at| Wrong::LoseReply(number, at)));
            }
        }
        if let Some(coordinator) = &state.coordinator {
            let armed = coordinator.live.iter().filter(|(_, live)| live.deadline);
            wrongs.extend(armed.map(|(gtid, _)| Wrong::TimeOut(gtid.clone())));
        }
        for (at, agent) in state.agents.iter().enumerate() {
            let branches = agent.iter().flat_map(|agent| agent.branches.keys());
            let open = branches.filter(|gtid| state.databases[at].open.contains_key(gtid));
            wrongs.extend(open.map(|gtid| Wrong::KillSession(at, gtid.clone())));
        }
    }

    fn faults_of_databases(&self, state: &State, wrongs: &mut Vec<Wrong>) {
        for (at, database) in state.databases.iter().enumerate().filter(|(_, database)| database.up) {
            // Not what a failover brought back: to lose that once more is seen by a commit marker only (R2).
            let first = |work: &Work| work.of.is_some() && !database.fates.contains_key(&work.xid8);
            for (gid, _) in database.prepared.iter().filter(|(_, work)| first(work)) {
                wrongs.push(Wrong::RollBackByHand(at, gid.clone()));
                wrongs.push(Wrong::CommitByHand(at, gid.clone()));
                wrongs.push(Wrong::LosePrepared(at, gid.clone()));
            }
            for gid in names_of(state, at) {
                if database.prepared.contains_key(&gid) || database.late.contains_key(&gid) {
                    continue;
                }
                // Between a vote and the first order nothing is compared: who takes the name there is not seen.
                let first_order_to_come = state.agents[at].iter().any(|agent| {
                    agent.branches.get(&gid.gtid).is_some_and(|branch| branch.prepared.is_some())
                });
                if !first_order_to_come {
                    wrongs.push(Wrong::Impostor(at, gid.clone()));
                }
                if ended_by(database, &gid.gtid, Fate::Committed).is_some() {
                    wrongs.push(Wrong::UndoCommit(at, gid));
                }
            }
        }
    }

    pub(crate) fn go_wrong(&self, state: &mut State, wrong: Wrong) {
        match wrong {
            Wrong::TimeOut(gtid) => state.time_out(&gtid),
            Wrong::Lose(at) => {
                let lost = state.network.remove(at);
                state.lose(&lost);
            }
            Wrong::Duplicate(at) => {
                let message = state.network[at].clone();
                state.deliver(message, false);
            }
            Wrong::Cut(at) => state.cut(at),
            Wrong::CrashCoordinator(kept) => state.crash_coordinator(kept),
            Wrong::WakeOldLife(at, life) => {
                state.hear(at, life);
            }
            Wrong::CrashAgent(at) => state.crash_agent(at),
            Wrong::CrashDatabase(at) => {
                state.database_mut(at).crash();
                state.notice_lost_sessions(at);
            }
            Wrong::BreakPrepare(at) => state.prepare_badly(at, Preparation::Broken),
            Wrong::RefusePrepare(at) => state.prepare_badly(at, Preparation::Refused),
            Wrong::KillSession(at, gtid) => {
                state.database_mut(at).drop_session(&gtid);
                state.notice_lost_sessions(at);
            }
            Wrong::LateListing(at) => {
                let (listing, life) = (state.list(at), state.life());
                if let Some(life) = life {
                    state.post(Message { agent: at, life, body: Body::Say(Say::Listing(listing)) });
                }
            }
            Wrong::LateHello(at) => state.greet(at),
            Wrong::SlowPrepare(at) => {
                let message = state.network.remove(at);
                state.deliver(message, true);
            }
            Wrong::RollBack(client) => state.roll_back(client),
            Wrong::Vanish(client) => state.clients[client].stage = Stage::Gone,
            Wrong::LoseReply(client, at) => {
                let before = state.clients[client].clone();
                self.execute(state, client, at);
                state.clients[client] = Client { unanswered: Some(at), ..before };
            }
            Wrong::RepeatStatement(client, at) => {
                if let Some(gtid) = state.clients[client].gtid.clone() {
                    let wrote = !self.read_only.contains(&at);
                    state.execute(at, &gtid, None, 1, wrote);
                }
            }
            Wrong::RollBackByHand(at, gid) => state.end_by_hand(at, &gid, Fate::RolledBackByHand),
            Wrong::CommitByHand(at, gid) => state.end_by_hand(at, &gid, Fate::CommittedByHand),
            Wrong::LosePrepared(at, gid) => {
                state.database_mut(at).timeline += 1;
                state.end_by_hand(at, &gid, Fate::Lost);
            }
            Wrong::UndoCommit(at, gid) => state.undo_commit(at, &gid),
            Wrong::Impostor(at, gid) => {
                let session = SessionName { agent_instance: 0, counter: 0 };
                let work =
                    Work { of: None, xid8: 900_000 + gid.gtid.seq, session, statements: 1, wrote: true };
                state.database_mut(at).prepared.insert(gid, work);
            }
            Wrong::OlderCopy(keep) => {
                Arc::make_mut(&mut state.log).durable.truncate(keep);
                Arc::make_mut(&mut state.seen).rolled_back = true;
            }
        }
    }
}

impl State {
    /// An order to prepare arrives, and PREPARE goes wrong.
    fn prepare_badly(&mut self, at: usize, way: Preparation) {
        let message = self.network.remove(at);
        let agent = message.agent;
        let Body::Order(Order::Prepare { gid, .. }, _) = message.body.clone() else { return };
        self.deliver(message, true);
        if !self.preparations(agent, &gid.gtid).is_empty() {
            self.run_prepare(agent, &gid.gtid, way);
        }
    }

    /// The stream of a lost message breaks: the hello that was to open it is gone too.
    fn lose(&mut self, lost: &Message) {
        if self.life() != Some(lost.life) {
            return;
        }
        self.coordinator_mut().links[lost.agent] = Link::Down;
        self.network.retain(|message| {
            message.agent != lost.agent || !matches!(message.body, Body::Say(Say::Hello { .. }))
        });
    }

    fn end_by_hand(&mut self, at: usize, gid: &Gid, fate: Fate) {
        let database = self.database_mut(at);
        if let Some(work) = database.prepared.remove(gid) {
            database.note(work, fate);
        }
    }

    /// A failover to a standby that had seen the PREPARE and not the COMMIT PREPARED.
    fn undo_commit(&mut self, at: usize, gid: &Gid) {
        let database = self.database_mut(at);
        database.timeline += 1;
        if let Some(xid8) = ended_by(database, &gid.gtid, Fate::Committed)
            && let Some((work, _)) = database.fates.get(&xid8).cloned()
        {
            database.prepared.insert(gid.clone(), work);
        }
    }
}

/// The xid8 of a transaction's work that ended so.
fn ended_by(database: &Database, gtid: &Gtid, fate: Fate) -> Option<u64> {
    let ended = |(_, (work, how)): &(&u64, &(Work, Fate))| work.of.as_ref() == Some(gtid) && *how == fate;
    database.fates.iter().find(ended).map(|(xid8, _)| *xid8)
}

/// The names of branches that were ever asked to prepare at a participant.
fn names_of(state: &State, at: usize) -> Vec<Gid> {
    let asked = state.seen.asked_to_prepare.keys();
    asked.filter(|(agent, _)| *agent == at).map(|(_, gid)| gid.clone()).collect()
}
