//! Transact: a whole transaction in one request. Its branches are opened by the orders to prepare them, in sessions
//! that are named here: by the life of the agent that is to do the work, so that no other life of it ever does.

use std::collections::{BTreeMap, VecDeque};

use votum_proto::names::{BranchNumber, Gtid, ParticipantName, SessionName};
use votum_proto::runtime::Monotonic;
use votum_proto::v1;

use super::last_agent::Last;
use super::request::{Answer, BranchClaim, Outcome, Request, RequestError, Transact, Transacted, Wait};
use super::{Driver, Live, LocalId, Teller};

/// What a transaction does, as long as an agent may have to be told, and what came of it.
pub(super) struct Whole {
    branches: Vec<WholeBranch>,
    options: v1::BranchOptions,
    failed: Option<Box<v1::FailedStatement>>,
    /// The participants whose votes are awaited.
    awaited: Vec<ParticipantName>,
    /// When the transaction's time is over.
    deadline: Option<Monotonic>,
    /// The branch that decides for the others.
    pub(super) last: Option<Last>,
}

struct WholeBranch {
    participant: ParticipantName,
    /// Begun READ ONLY.
    read_only: bool,
    statements: Vec<v1::WorkStatement>,
    results: Vec<v1::StatementResult>,
}

/// How many requests are remembered, so that one which comes again gets the same answer.
const ATTEMPTS: usize = 65_536;

/// The requests that transactions came in last, as their clients named them.
#[derive(Default)]
pub(super) struct Attempts {
    order: VecDeque<u64>,
    /// `None`: it came, and nothing of it was begun.
    began: BTreeMap<u64, Option<LocalId>>,
    /// Some are not remembered any more.
    forgotten: bool,
}

impl Attempts {
    pub(super) fn note(&mut self, attempt: u64, id: Option<LocalId>) {
        if self.began.insert(attempt, id).is_some() {
            return;
        }
        self.order.push_back(attempt);
        if self.order.len() > ATTEMPTS
            && let Some(oldest) = self.order.pop_front()
        {
            self.began.remove(&oldest);
            self.forgotten = true;
        }
    }
}

impl Whole {
    fn new(transact: Transact, deadline: Option<Monotonic>) -> Self {
        let Transact { isolation, read_only, branches, .. } = transact;
        let branch = |(participant, work): (ParticipantName, v1::BranchWork)| WholeBranch {
            participant,
            read_only: read_only || work.read_only,
            statements: work.statements,
            results: Vec::new(),
        };
        let options = v1::BranchOptions { isolation: isolation.into(), ..Default::default() };
        let branches: Vec<_> = branches.into_iter().map(branch).collect();
        let awaited = branches.iter().map(|branch| branch.participant.clone()).collect();
        Self { branches, options, failed: None, awaited, deadline, last: None }
    }

    /// The work at one participant, with what is left of the transaction's time.
    pub(super) fn work(&self, branch: BranchNumber, now: Monotonic) -> Option<v1::Work> {
        let WholeBranch { read_only, statements, .. } = self.branches.get(usize::from(branch))?;
        let left = self.deadline.map_or(0, |deadline| deadline.since(now).as_millis());
        let options = v1::BranchOptions {
            read_only: *read_only,
            // 0 would be the agent's longest.
            timeout_ms: u64::try_from(left).unwrap_or(u64::MAX).max(1),
            ..self.options
        };
        Some(v1::Work { statements: statements.clone(), options: Some(options) })
    }

    /// When the transaction's time is over.
    pub(super) fn deadline(&self) -> Option<Monotonic> {
        self.deadline
    }

    /// Keeps what a branch's vote brought along.
    pub(super) fn note(
        &mut self,
        branch: BranchNumber,
        results: Vec<v1::StatementResult>,
        failed: Option<Box<v1::FailedStatement>>,
    ) {
        if let Some(branch) = self.branches.get_mut(usize::from(branch)) {
            branch.results = results;
        }
        if self.failed.is_none() {
            self.failed = failed;
        }
    }

    /// A participant has voted; false where that was known.
    pub(super) fn heard(&mut self, participant: &ParticipantName) -> bool {
        let place = self.awaited.iter().position(|awaited| awaited == participant);
        place.map(|place| self.awaited.swap_remove(place)).is_some()
    }

    /// Nobody's vote is awaited any more, but for the branch that decides, where it is at work; whose was.
    pub(super) fn nobody_is_awaited(&mut self, last_works: bool) -> Vec<ParticipantName> {
        let last = self.last.as_ref().filter(|_| last_works).map(|last| &last.participant);
        self.awaited.extract_if(.., |awaited| Some(&*awaited) != last).collect()
    }

    /// It is decided: nobody is told again what to do.
    pub(super) fn decided(&mut self) {
        for branch in &mut self.branches {
            branch.statements = Vec::new();
        }
    }

    fn results(&self) -> Vec<v1::BranchResult> {
        let result = |branch: &WholeBranch| v1::BranchResult {
            participant: branch.participant.to_string(),
            statements: branch.results.clone(),
        };
        self.branches.iter().map(result).collect()
    }
}

impl Transacted {
    /// What a client is told of a transaction in memory.
    pub(super) fn of(live: &Live, outcome: Outcome) -> Self {
        let gtid = live.transaction.gtid().clone();
        let whole = live.whole.as_deref();
        let (results, failed) = match &outcome {
            Outcome::Committed { .. } | Outcome::ReadOnly => {
                (whole.map(Whole::results).unwrap_or_default(), None)
            }
            Outcome::Aborted { .. } => (Vec::new(), whole.and_then(|whole| whole.failed.clone())),
            Outcome::InProgress(_) | Outcome::Unknown(_) | Outcome::Expired => (Vec::new(), None),
        };
        let decided_by = whole.and_then(|whole| whole.last.as_ref()).map(|last| last.participant.clone());
        Self { gtid, outcome, results, failed, decided_by }
    }
}

impl Driver {
    pub(super) fn transact(&mut self, transact: Transact, answer: Answer<Transacted>) {
        // Whoever came before has what room and what gtids there are: this may be the same request again.
        self.begin_where_room();
        if !self.has_lease() && self.refuse_unless_beginning().is_ok() {
            return self.park(Request::Transact(transact, answer));
        }
        // Before it is asked what is remembered of those that were begun: one that waits is not among them.
        let Some((transact, answer)) = self.join_queued(transact, answer) else { return };
        let Some(answer) = self.answer_known(&transact, answer) else { return };
        let sessions = self.may_open(&transact);
        match sessions.and_then(|claims| self.refuse_what_would_wait(&transact).map(|()| claims)) {
            Ok(claims) => {
                if let Some((transact, answer)) = self.queue_without_room(transact, answer) {
                    self.decide_whole(transact, claims, answer);
                }
            }
            Err(error) => drop(answer.send(Err(error))),
        }
    }

    /// One that has waited for room. Much may have happened since it came.
    pub(super) fn transact_queued(&mut self, transact: Transact, answer: Answer<Transacted>) {
        let Some(answer) = self.answer_known(&transact, answer) else { return };
        match self.may_open(&transact) {
            Ok(claims) => self.decide_whole(transact, claims, answer),
            Err(error) => drop(answer.send(Err(error))),
        }
    }

    /// Answers what is not to be begun because it was, or is another life's; returns the answer that is still owed.
    fn answer_known(
        &mut self,
        transact: &Transact,
        answer: Answer<Transacted>,
    ) -> Option<Answer<Transacted>> {
        match self.refuse_after_doubt().and(self.refuse_known(transact)) {
            Ok(()) => return Some(answer),
            // The same request, or the same work: there is one outcome for all of them.
            Err(RequestError::KeyInUse(gtid) | RequestError::KeyCommitted(gtid)) => {
                self.join_whole(&gtid, transact.wait, Teller::Transacted(answer));
            }
            Err(other) => drop(answer.send(Err(other))),
        }
        None
    }

    /// The session of each branch, where nothing keeps it from being begun everywhere.
    fn may_open(&self, transact: &Transact) -> Result<Vec<BranchClaim>, RequestError> {
        self.refuse_unless_beginning().map_err(not_begun)?;
        self.sessions_of(transact)
    }

    fn decide_whole(&mut self, transact: Transact, claims: Vec<BranchClaim>, answer: Answer<Transacted>) {
        let (wait, teller) = (transact.wait, Teller::Transacted(answer));
        match self.open_whole(transact, &claims) {
            Ok(id) => self.decide(id, claims, wait, teller),
            Err(error) => teller.refuse(error),
        }
    }

    /// What this request, or another with its key, has begun already; or that another life is to carry it out.
    fn refuse_known(&self, transact: &Transact) -> Result<(), RequestError> {
        let repeated = match transact.attempt.and_then(|attempt| self.attempts.began.get(&attempt)) {
            Some(Some(id)) => return Err(RequestError::KeyInUse(self.gtid(*id))),
            Some(None) => false,
            None => transact.repeated,
        };
        match &transact.begin.key {
            Some(key) => self.refuse_known_key(key)?,
            None if repeated && self.attempts.forgotten => {
                return Err(RequestError::Invalid(
                    "the request was repeated so late that nobody remembers whether it was carried out: look what \
                     became of its work, and give the next one an idempotency key"
                        .into(),
                ));
            }
            None => {}
        }
        let Transact { life, attempt, .. } = transact;
        if attempt.is_some() && *life != self.life.to_string() {
            // No transaction has this seq.
            let present = self.gtid(LocalId { life: self.life, seq: 0 });
            return Err(RequestError::OtherLife { asked: life.clone(), present });
        }
        Ok(())
    }

    fn join_whole(&mut self, gtid: &Gtid, wait: Wait, teller: Teller) {
        let id = LocalId::from(gtid);
        if self.live.contains_key(&id) {
            return self.wait_for(id, wait, teller);
        }
        match (teller, self.lookup(gtid)) {
            (Teller::Transacted(answer), Ok(outcome)) => {
                let (results, failed, decided_by) = (Vec::new(), None, None);
                let known = Transacted { gtid: gtid.clone(), outcome, results, failed, decided_by };
                let _ = answer.send(Ok(known));
            }
            (Teller::Outcome(answer), Ok(outcome)) => drop(answer.send(Ok(outcome))),
            (teller, Err(error)) => teller.refuse(error),
        }
    }

    fn open_whole(&mut self, transact: Transact, claims: &[BranchClaim]) -> Result<LocalId, RequestError> {
        let id = self.open(transact.begin.clone()).map_err(not_begun)?;
        if let Some(attempt) = transact.attempt {
            self.attempts.note(attempt, Some(id));
        }
        let now = self.seams.clock.now();
        for (participant, _) in &transact.branches {
            self.admission.enters(participant, now);
            self.rooms.enters(participant);
        }
        let last = self.choose_last(&transact, claims);
        if let Some(live) = self.live.get_mut(&id) {
            let mut whole = Whole::new(transact, live.deadline);
            if let Some((last, agent)) = last {
                live.transaction.let_decide(agent);
                whole.last = Some(last);
            }
            live.whole = Some(Box::new(whole));
        }
        Ok(id)
    }

    /// The session of each branch.
    fn sessions_of(&self, transact: &Transact) -> Result<Vec<BranchClaim>, RequestError> {
        let claims = transact.branches.iter().map(|(participant, work)| {
            let known = self.participants.get(participant).ok_or_else(|| {
                RequestError::Invalid(format!(
                    "participant {participant} is not configured at this coordinator"
                ))
            })?;
            let link = self.links.get(known.agent).filter(|link| link.generation.is_some());
            let Some(link) = link else {
                return Err(RequestError::NotBegun(format!(
                    "the agent of participant {participant} is not connected"
                )));
            };
            if !link.can_work {
                return Err(RequestError::NotBegun(format!(
                    "the agent of participant {participant} is of an older version, which takes no whole \
                     transactions: start the present one, or begin and commit by calls of their own"
                )));
            }
            Ok(BranchClaim {
                participant: participant.clone(),
                session: SessionName { agent_instance: link.instance, counter: 0 },
                last_ordinal: u64::try_from(work.statements.len()).unwrap_or(u64::MAX),
            })
        });
        let claims: Vec<_> = claims.collect::<Result<_, _>>()?;
        super::clients::one_name_each(&self.participants, claims.iter().map(|claim| &claim.participant))?;
        Ok(claims)
    }
}

/// What cannot be begun everywhere is not begun anywhere.
fn not_begun(error: RequestError) -> RequestError {
    if let RequestError::Unavailable(why) = &error { RequestError::NotBegun(why.clone()) } else { error }
}
