//! What can happen next, and what it makes of the world.

use std::sync::Arc;

use stateright::{Model, Property};
use votum_coordinator::protocol::event::Event;
use votum_proto::names::{Gid, Gtid, Life, SessionName};

use super::agent::Preparation;
use super::bounds::{Bounds, Fault};
use super::faults::Wrong;
use super::knowledge::Answer;
use super::properties;
use super::state::{
    ACME, Agent, Body, BranchPhase, Client, Database, Link, Log, Message, Say, Seen, Stage, State, Work,
};

/// One step of somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    Begin(usize),
    /// A client's next statement, or the one whose reply it misses.
    Execute(usize, usize),
    Commit(usize),
    Deliver(usize),
    Prepare(usize, Gtid, Preparation),
    LatePrepare(usize, Gid),
    EndBackend(usize, Gtid),
    CarryOut(usize, Gtid),
    Force,
    Count,
    StartCoordinator,
    StartAgent(usize),
    StartDatabase(usize),
    Connect(usize),
    Sweep(usize),
    AskAgain(Gtid, u16),
    /// The time is over, when nothing else is going on.
    Deadline(Gtid),
    /// A fault.
    Wrong(Wrong),
}

impl Action {
    /// Whether it is a fault.
    pub(crate) fn is_wrong(&self) -> bool {
        matches!(self, Self::Wrong(_))
    }
}

impl Model for Bounds {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![self.first()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.progress(state, actions);
        if state.faults_left > 0 {
            let wrongs = self.faults(state, actions);
            actions.extend(wrongs.into_iter().map(Action::Wrong));
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut next = last.clone();
        if action.is_wrong() {
            next.faults_left -= 1;
        }
        self.act(&mut next, action);
        next.observe();
        (next != *last).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }
}

impl Bounds {
    /// Everything is up, and the coordinator has been heard by every agent.
    fn first(&self) -> State {
        let database = Database {
            up: true,
            timeline: 1,
            open: Default::default(),
            late: Default::default(),
            prepared: if self.foreign { foreign() } else { Default::default() },
            fates: Default::default(),
        };
        let client = Client { gtid: None, stage: Stage::Idle, replies: Default::default(), unanswered: None };
        let mut state = State {
            coordinator: None,
            log: Arc::new(Log { durable: Vec::new(), tail: Vec::new() }),
            agents: vec![Some(Arc::new(Agent::new(1))); self.participants],
            agent_starts: vec![1; self.participants],
            databases: std::iter::repeat_n(Arc::new(database), self.participants).collect(),
            network: Vec::new(),
            clients: vec![client; self.transactions],
            seen: Arc::new(Seen { witnesses: self.kinds.contains(&Fault::OlderCopy), ..Seen::default() }),
            faults_left: self.faults,
        };
        state.start_coordinator();
        state.on_counted();
        for agent in 0..self.participants {
            self.act(&mut state, Action::Connect(agent));
        }
        if self.executed {
            for client in 0..self.transactions {
                self.act(&mut state, Action::Begin(client));
                for at in 0..self.participants {
                    for _ in 0..self.statements {
                        self.act(&mut state, Action::Execute(client, at));
                    }
                }
            }
            while !state.network.is_empty() {
                self.act(&mut state, Action::Deliver(0));
            }
        }
        state
    }

    /// What goes on by itself: all of it happens, sooner or later.
    pub(crate) fn progress(&self, state: &State, actions: &mut Vec<Action>) {
        self.progress_of_clients(state, actions);
        for (at, message) in state.network.iter().enumerate() {
            let link = state.link(message.agent);
            let arrives = match &message.body {
                Body::Order(..) => state.agents[message.agent].is_some(),
                Body::Say(Say::Hello { .. }) => link == Link::Greeting,
                Body::Say(_) => matches!(link, Link::Up { .. }),
            };
            if arrives && (at == 0 || state.network[at - 1] != *message) {
                actions.push(Action::Deliver(at));
            }
        }
        for agent in 0..self.participants {
            self.progress_of_agent(state, agent, actions);
        }
        self.progress_of_coordinator(state, actions);
    }

    fn progress_of_clients(&self, state: &State, actions: &mut Vec<Action>) {
        let counted = state.coordinator.as_ref().is_some_and(|c| c.counted && !c.stale);
        for (number, client) in state.clients.iter().enumerate() {
            match client.stage {
                Stage::Idle if counted => actions.push(Action::Begin(number)),
                Stage::Working => {
                    let next = self.next_statement(client);
                    actions.extend(next.map(|at| Action::Execute(number, at)));
                    if state.coordinator.is_some() && (next.is_none() || client.unanswered.is_some()) {
                        actions.push(Action::Commit(number));
                    }
                }
                Stage::Idle | Stage::Waiting | Stage::Told | Stage::Gone => {}
            }
        }
    }

    /// Where a client runs its next statement.
    pub(crate) fn next_statement(&self, client: &Client) -> Option<usize> {
        let run = |at: &usize| client.replies.get(at).map_or(0, |(_, last)| *last);
        (0..self.participants).find(|at| run(at) < self.statements)
    }

    fn progress_of_agent(&self, state: &State, at: usize, actions: &mut Vec<Action>) {
        let database = &state.databases[at];
        if !database.up {
            actions.push(Action::StartDatabase(at));
        }
        actions.extend(database.late.keys().map(|gid| Action::LatePrepare(at, gid.clone())));
        let Some(agent) = &state.agents[at] else { return actions.push(Action::StartAgent(at)) };
        for (gtid, branch) in &agent.branches {
            match branch.phase {
                BranchPhase::Preparing => {
                    let ways = state.preparations(at, gtid).into_iter();
                    actions.extend(ways.map(|way| Action::Prepare(at, gtid.clone(), way)));
                }
                BranchPhase::Unsettled if database.up => actions.push(Action::EndBackend(at, gtid.clone())),
                BranchPhase::Open | BranchPhase::Unsettled | BranchPhase::Settled => {}
            }
        }
        let orders = agent.orders.keys().filter(|gtid| state.can_carry_out(at, gtid));
        actions.extend(orders.map(|gtid| Action::CarryOut(at, gtid.clone())));
        match state.link(at) {
            Link::Down if state.coordinator.is_some() => actions.push(Action::Connect(at)),
            Link::Up { .. } if database.up && agent.orders.is_empty() && state.quiet_link(at) => {
                let listing = state.list(at);
                if !listing.prepared.is_empty() || !listing.sessions.is_empty() {
                    actions.push(Action::Sweep(at));
                }
            }
            Link::Down | Link::Greeting | Link::Up { .. } => {}
        }
    }

    fn progress_of_coordinator(&self, state: &State, actions: &mut Vec<Action>) {
        let Some(coordinator) = &state.coordinator else { return actions.push(Action::StartCoordinator) };
        if !state.log.tail.is_empty() {
            actions.push(Action::Force);
        }
        if !coordinator.counted {
            actions.push(Action::Count);
        }
        if !state.network.is_empty() {
            return;
        }
        for (gtid, live) in &coordinator.live {
            actions.extend(live.asking_again.iter().map(|branch| Action::AskAgain(gtid.clone(), *branch)));
        }
        let idle = actions.iter().all(|action| {
            matches!(action, Action::Sweep(_) | Action::Execute(..) | Action::Commit(_) | Action::Begin(_))
        });
        if idle {
            let armed = coordinator.live.iter().filter(|(_, live)| live.deadline);
            actions.extend(armed.map(|(gtid, _)| Action::Deadline(gtid.clone())));
        }
    }

    fn act(&self, state: &mut State, action: Action) {
        match action {
            Action::Begin(client) => state.begin(client),
            Action::Execute(client, at) => self.execute(state, client, at),
            Action::Commit(client) => state.commit(client),
            Action::Deliver(at) => {
                let message = state.network.remove(at);
                state.deliver(message, false);
            }
            Action::Prepare(at, gtid, way) => state.run_prepare(at, &gtid, way),
            Action::LatePrepare(at, gid) => state.late_prepare(at, &gid),
            Action::EndBackend(at, gtid) => state.end_backend(at, &gtid),
            Action::CarryOut(at, gtid) => state.carry_out_order(at, &gtid),
            Action::Force => state.on_durable(),
            Action::Count => state.on_counted(),
            Action::StartCoordinator => state.start_coordinator(),
            Action::StartAgent(at) => {
                state.agent_starts[at] += 1;
                state.agents[at] = Some(Arc::new(Agent::new(state.agent_starts[at])));
            }
            Action::StartDatabase(at) => state.database_mut(at).up = true,
            Action::Connect(at) => {
                state.greet(at);
                let hello = |m: &Message| m.agent == at && matches!(m.body, Body::Say(Say::Hello { .. }));
                if let Some(place) = state.network.iter().position(hello) {
                    let hello = state.network.remove(place);
                    state.deliver(hello, false);
                }
            }
            Action::Sweep(at) => {
                let listing = state.list(at);
                state.on_say(at, Say::Listing(listing));
            }
            Action::AskAgain(gtid, branch) => {
                if let Some(live) = state.coordinator_mut().live.get_mut(&gtid) {
                    live.asking_again.remove(&branch);
                }
                state.step(&gtid, Event::AskAgain { branch });
            }
            Action::Deadline(gtid) => state.time_out(&gtid),
            Action::Wrong(wrong) => self.go_wrong(state, wrong),
        }
    }

    pub(crate) fn execute(&self, state: &mut State, number: usize, at: usize) {
        let client = state.clients[number].clone();
        let Some(gtid) = client.gtid else { return };
        let (session, last) = client.replies.get(&at).map_or((None, 0), |(name, last)| (Some(*name), *last));
        let wrote = !self.read_only.contains(&at);
        if let Some(reply) = state.execute(at, &gtid, session, last + 1, wrote) {
            let client = &mut state.clients[number];
            client.replies.insert(at, reply);
            client.unanswered = client.unanswered.filter(|unanswered| *unanswered != at);
        }
    }
}

impl State {
    pub(crate) fn deliver(&mut self, message: Message, slow: bool) {
        let Message { agent, life, body } = message;
        match body {
            Body::Order(order, witness) => self.obey(agent, life, (order, witness), slow),
            Body::Say(say) => self.on_say(agent, say),
        }
    }

    pub(crate) fn time_out(&mut self, gtid: &Gtid) {
        if let Some(live) = self.coordinator_mut().live.get_mut(gtid) {
            live.deadline = false;
        }
        self.step(gtid, Event::TimedOut);
    }

    /// Somebody asks about every transaction, after every step.
    fn observe(&mut self) {
        let answers = self.clients.iter().filter_map(|client| {
            let gtid = client.gtid.as_ref()?;
            match self.answer(gtid)? {
                Answer::Said(said) => Some((gtid.clone(), said)),
                Answer::InProgress | Answer::Unavailable | Answer::Forgotten => None,
            }
        });
        let new: Vec<_> = answers.filter(|said| !self.seen.said.contains(said)).collect();
        if !new.is_empty() {
            Arc::make_mut(&mut self.seen).said.extend(new);
        }
    }
}

/// Prepared transactions that are not ours, though one bears our name.
fn foreign() -> std::collections::BTreeMap<Gid, Work> {
    let session = SessionName { agent_instance: 0, counter: 0 };
    let work = |xid8| Work { of: None, xid8, session, statements: 1, wrote: true };
    let life: Life = super::state::next_life(None, 1);
    let gid = |id: votum_proto::names::CoordinatorId, seq| Gid {
        gtid: Gtid { coordinator_id: id, life, seq },
        branch: 0,
        branches: 2,
    };
    [(gid("other".parse().unwrap(), 1), work(700_001)), (gid(ACME.clone(), 9), work(700_002))].into()
}
