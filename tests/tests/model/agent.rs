//! The agents and their databases. The agent's fence is the real one; what its tasks do is told again here,
//! as thin as it could be made, since they are written against sessions, queues and locks: `exchange.rs`
//! (hello, prepare), `host` (a branch's life), `phase2` (orders) and `listing.rs`. A task's steps between two
//! waits are one step here. What a database does is what PostgreSQL does to prepared transactions.

use std::collections::BTreeMap;
use std::sync::Arc;

use votum_coordinator::protocol::lives::Witness;
use votum_coordinator::protocol::recovery::low_half;
use votum_participant::fence::Verdict;
use votum_proto::names::{Gid, Gtid, Life, SessionName};

use super::state::{
    Agent, Body, Branch, BranchPhase, Database, EndOrder, Fate, Link, Listing, Message, Order, SaidVote, Say,
    State, Work,
};

impl Agent {
    pub(crate) fn new(instance: u64) -> Self {
        Self {
            instance,
            fence: votum_participant::fence::Fence::default(),
            witness: None,
            sessions_opened: 0,
            branches: BTreeMap::new(),
            orders: BTreeMap::new(),
        }
    }

    fn note_witness(&mut self, witness: Witness) {
        let order = |witness: &Witness| (witness.life.epoch, witness.position);
        if self.witness.as_ref().is_none_or(|known| order(&witness) > order(known)) {
            self.witness = Some(witness);
        }
    }

    /// Gids that are worked on, which no listing shows.
    fn busy(&self, gid: &Gid) -> bool {
        let working = |branch: &Branch| match branch.phase {
            BranchPhase::Preparing | BranchPhase::Unsettled => branch.gid.as_ref() == Some(gid),
            BranchPhase::Open | BranchPhase::Settled => false,
        };
        let ordered = |orders: &Vec<(Life, EndOrder)>| {
            orders.first().is_some_and(|(_, order)| order.gid() == Some(gid))
        };
        self.branches.values().any(working) || self.orders.values().any(ordered)
    }
}

impl State {
    pub(crate) fn agent_mut(&mut self, agent: usize) -> &mut Agent {
        Arc::make_mut(self.agents[agent].as_mut().unwrap())
    }

    pub(crate) fn database_mut(&mut self, agent: usize) -> &mut Database {
        Arc::make_mut(&mut self.databases[agent])
    }

    fn branch_mut(&mut self, agent: usize, gtid: &Gtid) -> &mut Branch {
        self.agent_mut(agent).branches.get_mut(gtid).unwrap()
    }

    /// Said on the newest stream, to the life that speaks; lost where none stands.
    pub(crate) fn report(&mut self, agent: usize, say: Say) {
        let speaking = self.agents[agent].as_ref().and_then(|agent| agent.fence.speaking());
        let Some(life) = speaking.filter(|life| Some(*life) == self.life()) else { return };
        if self.link(agent) != Link::Down {
            self.post(Message { agent, life, body: Body::Say(say) });
        }
    }

    fn report_vote(&mut self, agent: usize, gtid: &Gtid) {
        let branch = &self.agents[agent].as_ref().unwrap().branches[gtid];
        let (Some(gid), Some(vote)) = (branch.gid.clone(), branch.vote) else { return };
        if self.agents[agent].as_ref().unwrap().fence.speaking() == Some(gtid.life) {
            self.report(agent, Say::Vote(gid, vote));
        }
    }

    /// A coordinator dials, its hello is judged, what older lives left is ended, and the answer is under way.
    pub(crate) fn greet(&mut self, agent: usize) {
        let Some(life) = self.life() else { return };
        let witness = self.agent_mut(agent).witness;
        if !self.hear(agent, life) {
            return;
        }
        let listing = self.list(agent);
        let instance = self.agents[agent].as_ref().unwrap().instance;
        self.coordinator_mut().links[agent] = Link::Greeting;
        let witness = witness.map(|witness| (witness.life, witness.position));
        self.post(Message { agent, life, body: Body::Say(Say::Hello { instance, witness, listing }) });
    }

    /// Judges a hello: the one that is accepted ends what other lives have under way.
    pub(crate) fn hear(&mut self, agent: usize, life: Life) -> bool {
        match self.agent_mut(agent).fence.judge(life) {
            Verdict::Same | Verdict::Newer => {}
            Verdict::Older { .. } | Verdict::Copied { .. } => return false,
        }
        self.end_older(agent, life);
        self.network.retain(|message| message.agent != agent || message.life == life);
        true
    }

    fn end_older(&mut self, agent: usize, life: Life) {
        let here = self.agent_mut(agent);
        for orders in here.orders.values_mut() {
            orders.retain(|(by, _)| *by == life);
        }
        here.orders.retain(|_, orders| !orders.is_empty());
        let older: Vec<Gtid> = here.branches.keys().filter(|gtid| gtid.life != life).cloned().collect();
        for gtid in older {
            self.end_branch(agent, &gtid, false);
        }
    }

    /// Asks a branch to end: an idle one is rolled back at once.
    pub(crate) fn end_branch(&mut self, agent: usize, gtid: &Gtid, report: bool) {
        let branch = self.branch_mut(agent, gtid);
        branch.ending = true;
        if branch.phase == BranchPhase::Open {
            let session = branch.session;
            branch.phase = BranchPhase::Settled;
            branch.vote = Some(SaidVote::No);
            self.database_mut(agent).drop_session(gtid);
            if report {
                self.report(agent, Say::SessionLost(gtid.clone(), session));
            }
            self.forget_branch(agent, gtid);
        }
    }

    /// What is prepared and open at a participant. While something of an older life runs there, or the database
    /// is down, it fails.
    pub(crate) fn list(&self, agent: usize) -> Listing {
        let here = self.agents[agent].as_ref().unwrap();
        let database = &self.databases[agent];
        let running = |(gtid, branch): (&Gtid, &Branch)| {
            let quiet = match branch.phase {
                BranchPhase::Open | BranchPhase::Preparing => false,
                BranchPhase::Unsettled | BranchPhase::Settled => true,
            };
            Some(gtid.life) != here.fence.speaking() && !quiet
        };
        let failed = !database.up || here.branches.iter().any(running);
        let shown = |(gid, work): (&Gid, &Work)| (gid.clone(), low_half(work.xid8));
        let rows = database.prepared.iter().filter(|(gid, _)| !here.busy(gid));
        let open = here.branches.iter().filter(|(_, branch)| match branch.phase {
            BranchPhase::Open | BranchPhase::Preparing => true,
            BranchPhase::Unsettled | BranchPhase::Settled => false,
        });
        Listing {
            failed,
            prepared: if failed { Vec::new() } else { rows.map(shown).collect() },
            sessions: open.map(|(gtid, branch)| (gtid.clone(), branch.session)).collect(),
        }
    }

    /// A statement of a client. A new branch is opened by ordinal 1; a repeated one gets its stored reply.
    /// Answers with what the reply names, or nothing where there is none.
    pub(crate) fn execute(
        &mut self,
        agent: usize,
        gtid: &Gtid,
        session: Option<SessionName>,
        ordinal: u64,
        wrote: bool,
    ) -> Option<(SessionName, u64)> {
        let here = self.agents[agent].as_ref()?;
        if here.fence.speaking() != Some(gtid.life) || !self.databases[agent].up {
            return None;
        }
        let Some(branch) = here.branches.get(gtid) else {
            return (ordinal == 1 && session.is_none()).then(|| self.open_branch(agent, gtid, wrote));
        };
        let same = session.is_none_or(|session| session == branch.session);
        if branch.phase != BranchPhase::Open || !same {
            return None;
        }
        let named = branch.session;
        if ordinal == branch.last + 1 {
            self.branch_mut(agent, gtid).last = ordinal;
            let open = &mut self.database_mut(agent).open;
            open.get_mut(gtid).unwrap().statements += 1;
        } else if ordinal != branch.last {
            self.end_branch(agent, gtid, true);
            return None;
        }
        Some((named, ordinal))
    }

    fn open_branch(&mut self, agent: usize, gtid: &Gtid, wrote: bool) -> (SessionName, u64) {
        let here = self.agent_mut(agent);
        here.sessions_opened += 1;
        let session = SessionName { agent_instance: here.instance, counter: here.sessions_opened };
        let branch = Branch {
            session,
            phase: BranchPhase::Open,
            last: 1,
            gid: None,
            asked: None,
            vote: None,
            prepared: None,
            perhaps_prepared: false,
            ending: false,
        };
        here.branches.insert(gtid.clone(), branch);
        // A transaction id of its own, whatever else happens: the second life of a session has another.
        let xid8 = 1000 * (agent as u64 + 1) + 100 * session.agent_instance + 10 * gtid.seq + session.counter;
        let work = Work { of: Some(gtid.clone()), xid8, session, statements: 1, wrote };
        self.database_mut(agent).open.insert(gtid.clone(), work);
        self.report(agent, Say::Enlisted(gtid.clone(), session));
        (session, 1)
    }

    /// An order arrives. One of a life that does not speak any more has no effect (I12).
    pub(crate) fn obey(
        &mut self,
        agent: usize,
        life: Life,
        (order, witness): (Order, Option<u64>),
        slow: bool,
    ) {
        let here = self.agent_mut(agent);
        if here.fence.speaking() != Some(life) {
            return;
        }
        if let Some(position) = witness {
            here.note_witness(Witness { life, position });
        }
        match order {
            Order::Prepare { gid, session, last_ordinal } => {
                self.prepare(agent, life, gid, (session, last_ordinal), slow);
            }
            Order::End(gtid, order) => self.admit(agent, life, &gtid, order),
            Order::EndSession(gtid) => {
                if here.branches.contains_key(&gtid) {
                    self.end_branch(agent, &gtid, false);
                }
            }
        }
    }

    /// Prepares a branch at once, unless its database is `slow`.
    fn prepare(
        &mut self,
        agent: usize,
        life: Life,
        gid: Gid,
        (session, last_ordinal): (SessionName, u64),
        slow: bool,
    ) {
        let gtid = gid.gtid.clone();
        if gtid.life != life {
            return;
        }
        let here = self.agent_mut(agent);
        let Some(branch) = here.branches.get_mut(&gtid) else {
            return self.report(agent, Say::Vote(gid, SaidVote::No));
        };
        if let Some(vote) = branch.vote {
            let other = branch.gid.as_ref().is_some_and(|known| *known != gid);
            return self.report(agent, Say::Vote(gid, if other { SaidVote::No } else { vote }));
        }
        if branch.phase == BranchPhase::Open {
            branch.phase = BranchPhase::Preparing;
            branch.gid = Some(gid);
            branch.asked = Some((session, last_ordinal));
            if let ([way], false) = (self.preparations(agent, &gtid).as_slice(), slow) {
                self.run_prepare(agent, &gtid, *way);
            }
        }
    }

    /// How PREPARE may go on now. A branch that is to end may have been prepared a moment before.
    pub(crate) fn preparations(&self, agent: usize, gtid: &Gtid) -> Vec<Preparation> {
        let Some(branch) = self.agents[agent].as_ref().and_then(|here| here.branches.get(gtid)) else {
            return Vec::new();
        };
        let database = &self.databases[agent];
        if branch.phase != BranchPhase::Preparing {
            return Vec::new();
        }
        let Some(work) = database.open.get(gtid) else { return vec![Preparation::Broken] };
        if branch.asked != Some((branch.session, branch.last)) {
            return vec![Preparation::Refused];
        }
        let taken = branch.gid.as_ref().is_some_and(|gid| database.prepared.contains_key(gid));
        let goes = match (taken, work.wrote) {
            (true, _) => Preparation::Refused,
            (false, true) => Preparation::Prepared,
            (false, false) => Preparation::ReadOnly,
        };
        if branch.ending { vec![goes, Preparation::Refused] } else { vec![goes] }
    }

    pub(crate) fn run_prepare(&mut self, agent: usize, gtid: &Gtid, preparation: Preparation) {
        let timeline = self.databases[agent].timeline;
        let gid = self.branch_mut(agent, gtid).gid.clone().unwrap();
        let work = self.database_mut(agent).open.remove(gtid);
        let branch = self.branch_mut(agent, gtid);
        branch.phase = BranchPhase::Settled;
        branch.vote = Some(SaidVote::No);
        match (preparation, work) {
            (Preparation::Prepared, Some(work)) => {
                branch.vote = Some(SaidVote::Yes { xid8: work.xid8, timeline });
                branch.prepared = Some(work.xid8);
                self.database_mut(agent).prepared.insert(gid, work);
            }
            (Preparation::ReadOnly, Some(_)) => branch.vote = Some(SaidVote::ReadOnly),
            (Preparation::Refused, Some(work)) => self.database_mut(agent).note(work, Fate::Dropped),
            (Preparation::Broken, work) => {
                branch.phase = BranchPhase::Unsettled;
                branch.perhaps_prepared = true;
                self.database_mut(agent).late.extend(work.map(|work| (gid, work)));
            }
            (Preparation::Prepared | Preparation::ReadOnly | Preparation::Refused, None) => {}
        }
        self.report_vote(agent, gtid);
        self.forget_branch(agent, gtid);
    }

    /// A backend that lost its connection finishes PREPARE all the same.
    pub(crate) fn late_prepare(&mut self, agent: usize, gid: &Gid) {
        let database = self.database_mut(agent);
        let Some(work) = database.late.remove(gid) else { return };
        if database.prepared.contains_key(gid) {
            database.note(work, Fate::Dropped);
        } else {
            database.prepared.insert(gid.clone(), work);
        }
    }

    /// The agent finds that backend gone, or ends it.
    pub(crate) fn end_backend(&mut self, agent: usize, gtid: &Gtid) {
        let gid = self.branch_mut(agent, gtid).gid.clone().unwrap();
        let database = self.database_mut(agent);
        if let Some(work) = database.late.remove(&gid) {
            database.note(work, Fate::Dropped);
        }
        self.branch_mut(agent, gtid).phase = BranchPhase::Settled;
        self.forget_branch(agent, gtid);
    }

    /// An agent may forget a branch that is over; what it would answer about it, it answers all the same. Here
    /// it forgets at once.
    pub(crate) fn forget_branch(&mut self, agent: usize, gtid: &Gtid) {
        let branches = &mut self.agent_mut(agent).branches;
        let over = branches.get(gtid).is_some_and(|branch| {
            let no = branch.vote != Some(SaidVote::ReadOnly);
            branch.phase == BranchPhase::Settled && branch.prepared.is_none() && no
        });
        if over {
            branches.remove(gtid);
        }
    }

    /// The agent's process ends, and with it its sessions, and what it had to say. A backend that was in
    /// PREPARE does not notice.
    pub(crate) fn crash_agent(&mut self, agent: usize) {
        let preparing: Vec<(Gtid, Gid)> = self.agents[agent]
            .iter()
            .flat_map(|here| &here.branches)
            .filter(|(_, branch)| branch.phase == BranchPhase::Preparing)
            .filter_map(|(gtid, branch)| Some((gtid.clone(), branch.gid.clone()?)))
            .collect();
        self.agents[agent] = None;
        self.cut(agent);
        let database = self.database_mut(agent);
        for (gtid, gid) in preparing {
            let work = database.open.remove(&gtid).filter(|work| work.wrote);
            database.late.extend(work.map(|work| (gid, work)));
        }
        for gtid in database.open.keys().cloned().collect::<Vec<_>>() {
            database.drop_session(&gtid);
        }
    }

    /// The stream between the coordinator and an agent ends; what was under way is lost.
    pub(crate) fn cut(&mut self, agent: usize) {
        self.network.retain(|message| message.agent != agent);
        if self.coordinator.is_some() {
            self.coordinator_mut().links[agent] = Link::Down;
        }
    }

    /// The database ends, or loses a session: its agent notices at once.
    pub(crate) fn notice_lost_sessions(&mut self, agent: usize) {
        let Some(here) = &self.agents[agent] else { return };
        let open = here.branches.iter().filter(|(_, branch)| branch.phase == BranchPhase::Open);
        let lost: Vec<Gtid> = open
            .map(|(gtid, _)| gtid.clone())
            .filter(|gtid| !self.databases[agent].open.contains_key(gtid))
            .collect();
        for gtid in lost {
            self.end_branch(agent, &gtid, true);
        }
    }
}

/// How an attempt to prepare a branch ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Preparation {
    Prepared,
    ReadOnly,
    Refused,
    /// The connection broke: nobody knows.
    Broken,
}
