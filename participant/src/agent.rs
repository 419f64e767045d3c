//! The agent: what it is made of, and how requests of clients find their branch.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tonic::Status;
use votum_proto::exchange::AgentEnd;
use votum_proto::names::{Gtid, ParticipantName, SessionName};
use votum_proto::runtime::{BoxFuture, Seams};
use votum_proto::v1;
use votum_proto::v1::abort_reason::Kind as Cause;

use crate::branch::{Branch, Ending, Phase, reason};
use crate::config::AgentConfig;
use crate::database::{BeginOptions, Database, ServerFacts, Statement};
use crate::errors::ExecuteError;
use crate::exchange;
use crate::host::{Command, Execute, Host};
use crate::metrics::{Counts, Metrics};
use crate::preflight;
use crate::registry::{Registry, Stage};
use crate::sessions::Sessions;

/// How many parts of a reply may wait for a slow client before the statement does.
const REPLY_DEPTH: usize = 32;
/// How long the sessions that are left at the end of a shutdown's grace may take to roll back.
const LAST_ROLLBACKS: Duration = Duration::from_secs(5);

/// A coordinator expects a participant that is not served here.
pub(crate) const NOT_SERVED: &str = "VOTUM-2103";

/// One agent. Clones are the same agent.
#[derive(Clone)]
pub struct Agent {
    pub(crate) inner: Arc<Inner>,
}

/// What all tasks of an agent share.
pub(crate) struct Inner {
    /// Drawn when it was made: a different value means a restarted agent, whose sessions are gone.
    pub(crate) instance: u64,
    pub(crate) config: AgentConfig,
    pub(crate) seams: Seams,
    pub(crate) participants: BTreeMap<ParticipantName, Arc<Participant>>,
    pub(crate) stopping: watch::Sender<bool>,
    pub(crate) metrics: Metrics,
    registry: Mutex<Registry>,
}

/// One database behind the agent.
pub(crate) struct Participant {
    pub(crate) database: Arc<dyn Database>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) counts: Counts,
    /// How many transactions of ours were prepared, by the last listing.
    pub(crate) prepared: AtomicU64,
    /// By which codes the database was found unable to serve, when it was looked at last.
    faults: Mutex<Vec<&'static str>>,
    /// The system identifier of the first server seen. Another one is another database.
    identity: OnceLock<u64>,
    sweep: watch::Sender<u64>,
    /// Whether the last thing asked of the database was answered.
    answers: watch::Sender<bool>,
    /// Whether the database has a place for what is kept of coordinators.
    place: watch::Sender<bool>,
}

impl Participant {
    pub(crate) fn name(&self) -> &ParticipantName {
        self.database.name()
    }

    /// Compares a server with the first one seen (R11).
    pub(crate) fn identify(&self, facts: &ServerFacts) -> Result<(), String> {
        let known = *self.identity.get_or_init(|| facts.system_identifier);
        if known == facts.system_identifier {
            return Ok(());
        }
        Err(format!(
            "the server at this address is another one: its system identifier is {}, and this agent began with \
             {known}; correct the connection, or restart the agent if the database has been moved there",
            facts.system_identifier
        ))
    }

    /// Notes whether the database has a place for what is kept of coordinators.
    pub(crate) fn note_place(&self, there: bool) {
        self.place.send_if_modified(|known| std::mem::replace(known, there) != there);
    }

    /// Waits until it has.
    pub(crate) async fn has_place(&self) {
        let mut place = self.place.subscribe();
        let _ = place.wait_for(|there| *there).await;
    }

    /// Notes by which codes the database was found unable to serve, until it is looked at again.
    pub(crate) fn note_faults(&self, codes: Vec<&'static str>) {
        *self.faults.lock().unwrap_or_else(PoisonError::into_inner) = codes;
    }

    /// By which codes it was.
    pub(crate) fn faults(&self) -> Vec<&'static str> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes whether the database answers. When it begins to again, everything that waits goes on at once
    /// (I14).
    pub(crate) fn note_answer(&self, answers: bool) {
        self.answers.send_if_modified(|known| std::mem::replace(known, answers) != answers);
    }

    /// Waits until the database answers again.
    pub(crate) async fn answers_again(&self) {
        let mut answers = self.answers.subscribe();
        let _ = answers.wait_for(|answers| *answers).await;
    }

    /// Has the next sweep begin now.
    pub(crate) fn sweep_now(&self) {
        self.sweep.send_modify(|count| *count += 1);
    }

    /// Resolves when a sweep is wanted at once: asked for, or because a connection broke, or because the
    /// database began or ceased to answer.
    pub(crate) fn sweep_wanted(&self) -> BoxFuture<()> {
        let mut sweep = self.sweep.subscribe();
        let mut answers = self.answers.subscribe();
        let broke = self.database.next_break();
        Box::pin(async move {
            // Neither sender goes before the participant does, and with it the sweep.
            let asked = std::pin::pin!(sweep.changed());
            let turned = std::pin::pin!(answers.changed());
            futures::future::select(futures::future::select(asked, turned), broke).await;
        })
    }
}

impl Inner {
    /// The registry. It is never held across a wait, and whoever panicked with it held left it whole.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a branch's vote to the newest stream.
    pub(crate) fn send_vote(&self, branch: &Branch) {
        self.lock().report_vote(branch);
    }
}

impl Agent {
    /// An agent of `databases`, which are named as participants are.
    pub fn new(
        config: AgentConfig,
        databases: BTreeMap<ParticipantName, Arc<dyn Database>>,
        seams: Seams,
    ) -> Self {
        let metrics = Metrics::default();
        let participants = databases
            .into_iter()
            .map(|(name, database)| {
                let participant = Participant {
                    sessions: Sessions::new(
                        Arc::clone(&database),
                        config.sessions,
                        config.work_sessions,
                        seams.clone(),
                    ),
                    counts: metrics.of(name.as_str()),
                    prepared: AtomicU64::new(0),
                    faults: Mutex::default(),
                    database,
                    identity: OnceLock::new(),
                    sweep: watch::Sender::new(0),
                    answers: watch::Sender::new(true),
                    place: watch::Sender::new(false),
                };
                (name, Arc::new(participant))
            })
            .collect();
        let instance = seams.entropy.bits();
        Self {
            inner: Arc::new(Inner {
                instance,
                config,
                seams,
                participants,
                stopping: watch::Sender::new(false),
                metrics,
                registry: Mutex::new(Registry::default()),
            }),
        }
    }

    /// Which life of the agent this is.
    pub fn instance(&self) -> u64 {
        self.inner.instance
    }

    /// Looks at every database, beside the caller, and again for as long as one of them cannot serve; logs what
    /// it finds. Ends with the agent.
    pub fn look_at_databases(&self) {
        let agent = self.clone();
        self.inner.seams.spawn(async move {
            let mut stopping = agent.inner.stopping.subscribe();
            let stopped = std::pin::pin!(stopping.wait_for(|stopping| *stopping));
            let looking = std::pin::pin!(preflight::look(&agent, &agent.inner.config));
            futures::future::select(looking, stopped).await;
        });
    }

    /// Serves one stream of a coordinator until it ends, is superseded or refused, or the agent stops.
    pub async fn serve_exchange(&self, end: AgentEnd) {
        exchange::serve(&self.inner, end).await;
    }

    /// Runs one statement of a client; its reply arrives in parts. The work goes on when nobody reads it.
    ///
    /// # Errors
    /// A status with [`v1::ErrorDetail`]. Where the reply began with `Started`, an error used the ordinal up;
    /// elsewhere nothing has happened.
    pub fn execute(
        &self,
        request: v1::ExecuteRequest,
    ) -> Result<mpsc::Receiver<Result<v1::ExecuteResponse, Status>>, Status> {
        let (gtid, participant) = (request.gtid.clone(), request.participant.clone());
        admit(&self.inner, request).map_err(|error| error.to_status(&gtid, &participant))
    }

    /// Stops: no new branches, open ones may go on for `grace`, then they are rolled back. Orders that came may
    /// be carried out within the same time; then all streams end. Other prepared branches stay as they are.
    pub async fn shutdown(&self, grace: Duration) {
        let open: Vec<_> = {
            let mut registry = self.inner.lock();
            registry.stopping = true;
            registry.branches.values().map(Arc::clone).collect()
        };
        let clock = &self.inner.seams.clock;
        let until = clock.now().after(grace);
        let all_quiet = || async {
            for branch in &open {
                branch.quiet().await;
            }
        };
        if clock.timeout(grace, all_quiet()).await.is_err() {
            for branch in &open {
                branch.end(Ending {
                    reason: reason(Cause::BranchLost, &branch.participant, "the agent is stopping"),
                    report: true,
                });
            }
            if clock.timeout(LAST_ROLLBACKS, all_quiet()).await.is_err() {
                tracing::warn!("some sessions did not roll back in time; the database ends them with us");
            }
        }
        let left = until.since(clock.now());
        if clock.timeout(left, self.orders_carried_out()).await.is_err() {
            tracing::info!("some orders are not carried out yet; they are given again once an agent is back");
        }
        // Under the lock, under which branches settle and vote: no vote is left behind, and no acknowledgement.
        let registry = self.inner.lock();
        for stream in registry.coordinators.values().filter_map(|known| known.stream.as_ref()) {
            stream.outbox.hurry();
        }
        self.inner.stopping.send_replace(true);
    }

    /// Waits until every order that came is carried out and reported.
    async fn orders_carried_out(&self) {
        loop {
            let running = self.inner.lock().orders.values().next().map(|slot| Arc::clone(&slot.control));
            let Some(control) = running else { return };
            let mut stage = control.stage.subscribe();
            // We hold the sender, so that the wait cannot fail.
            let _ = stage.wait_for(|stage| *stage == Stage::Done).await;
        }
    }
}

/// Finds the branch of a statement, or opens it.
fn admit(
    agent: &Arc<Inner>,
    request: v1::ExecuteRequest,
) -> Result<mpsc::Receiver<Result<v1::ExecuteResponse, Status>>, ExecuteError> {
    let gtid: Gtid = request.gtid.parse().map_err(|error| ExecuteError::Malformed(format!("{error}")))?;
    let unknown = || ExecuteError::UnknownParticipant(request.participant.clone());
    let participant = request
        .participant
        .parse::<ParticipantName>()
        .ok()
        .and_then(|name| agent.participants.get(&name))
        .ok_or_else(unknown)?;
    if request.ordinal == 0 {
        return Err(ExecuteError::Malformed("ordinals count from 1".into()));
    }
    if request.parameters.iter().any(|parameter| parameter.kind.is_none()) {
        return Err(ExecuteError::Malformed("a parameter holds no value: NULL is written null: true".into()));
    }
    let options = begin_options(agent, request.options.as_ref())?;
    let (client, reply) = mpsc::channel(REPLY_DEPTH);
    let execute = Box::new(Execute {
        ordinal: request.ordinal,
        session: request.session.map(SessionName::from),
        statement: Statement {
            text: request.statement,
            parameters: request.parameters,
            raw_binary: request.raw_binary,
        },
        client,
    });
    let mut registry = agent.lock();
    authorize(&registry, &gtid, &request.secret)?;
    let key = (gtid, participant.name().clone());
    match registry.branch(&key) {
        Some(branch) => deliver(&branch, execute)?,
        None if execute.ordinal != 1 => {
            return Err(ExecuteError::BranchLost {
                reason: "the branch has no session here: it was never opened, or ended long ago".into(),
                retryable: true,
            });
        }
        None if registry.stopping => return Err(ExecuteError::Stopping),
        None => {
            registry.sessions_opened += 1;
            let session = SessionName { agent_instance: agent.instance, counter: registry.sessions_opened };
            let (branch, commands) = Branch::new(key.0.clone(), key.1.clone(), session);
            let branch = Arc::new(branch);
            registry.branches.insert(key, Arc::clone(&branch));
            drop(registry);
            Host::new(Arc::clone(agent), Arc::clone(participant), branch, commands, options).spawn(execute);
        }
    }
    Ok(reply)
}

/// Only the life that speaks to this agent has transactions here (I12), and only who was given a
/// transaction's secret takes part in it.
fn authorize(registry: &Registry, gtid: &Gtid, secret: &[u8]) -> Result<(), ExecuteError> {
    let not_speaking = || ExecuteError::NotSpeaking(gtid.clone());
    let coordinator = registry.coordinators.get(&gtid.coordinator_id).ok_or_else(not_speaking)?;
    if coordinator.fence.speaking() != Some(gtid.life) {
        return Err(not_speaking());
    }
    let key = coordinator.key.as_ref().ok_or_else(not_speaking)?;
    if key.admits(gtid, secret) { Ok(()) } else { Err(ExecuteError::WrongSecret(gtid.clone())) }
}

/// Hands a statement to a branch that is known.
fn deliver(branch: &Branch, execute: Box<Execute>) -> Result<(), ExecuteError> {
    let standing = branch.standing();
    let lost = |vote: Option<v1::vote::Kind>| match vote {
        Some(v1::vote::Kind::No(v1::VoteNo { reason: Some(reason) })) => {
            ExecuteError::BranchLost { reason: reason.message, retryable: reason.retryable }
        }
        Some(
            v1::vote::Kind::No(_)
            | v1::vote::Kind::Yes(_)
            | v1::vote::Kind::ReadOnly(_)
            | v1::vote::Kind::Ready(_),
        )
        | None => ExecuteError::Preparing,
    };
    match standing.phase {
        Phase::Open => branch.command(Command::Execute(execute)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => ExecuteError::TooManyWaiting,
            mpsc::error::TrySendError::Closed(_) => {
                ExecuteError::BranchLost { reason: "the branch is ending".into(), retryable: true }
            }
        }),
        Phase::Preparing | Phase::Ready | Phase::Committing => Err(ExecuteError::Preparing),
        Phase::Unsettled | Phase::Settled => Err(lost(standing.vote)),
    }
}

pub(crate) fn begin_options(
    agent: &Inner,
    options: Option<&v1::BranchOptions>,
) -> Result<BeginOptions, ExecuteError> {
    let longest = agent.config.max_branch_timeout();
    let (isolation, read_only, timeout_ms) =
        options.map_or((0, false, 0), |options| (options.isolation, options.read_only, options.timeout_ms));
    let isolation = v1::Isolation::try_from(isolation)
        .map_err(|_| ExecuteError::Malformed(format!("there is no isolation level {isolation}")))?;
    let timeout = if timeout_ms == 0 { longest } else { Duration::from_millis(timeout_ms).min(longest) };
    Ok(BeginOptions { isolation, read_only, timeout })
}
