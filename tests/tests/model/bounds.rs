//! What a model may do: how many transactions, where, and which faults, how many of them.

/// Something that goes wrong, or that somebody does against the plan. Each costs one of the faults that a
/// model allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// A message is lost, and its stream breaks. Others of it may still arrive, late.
    Lose,
    /// A message arrives, and arrives again later.
    Duplicate,
    /// A stream breaks, and with it goes what was under way.
    Cut,
    /// The coordinator's process ends. Of what was not forced, any first part is on disk.
    CrashCoordinator,
    /// A coordinator of an older life wakes, and says hello.
    WakeOldLife,
    /// An agent's process ends.
    CrashAgent,
    /// A database ends at once; what is prepared survives, sessions do not.
    CrashDatabase,
    /// The connection breaks in PREPARE, and its backend goes on.
    BreakPrepare,
    /// A session is ended behind the agent's back.
    KillSession,
    /// A database refuses to prepare.
    RefusePrepare,
    /// A listing is taken, and arrives later.
    LateListing,
    /// An agent answers a hello, and what it says arrives later.
    LateHello,
    /// PREPARE takes its time.
    SlowPrepare,
    /// The transaction's time is over.
    TimeOut,
    /// The client rolls back where it could commit.
    RollBack,
    /// The client vanishes.
    Vanish,
    /// The reply to a statement is lost.
    LoseReply,
    /// A client's first statement arrives once more, late.
    RepeatStatement,
    /// A person rolls back a prepared branch.
    RollBackByHand,
    /// A person commits a prepared branch.
    CommitByHand,
    /// Somebody with the agent's role prepares other work under a free name of ours.
    Impostor,
    /// A failover loses what was prepared.
    LosePrepared,
    /// A failover loses a COMMIT PREPARED: the branch is prepared again.
    UndoCommit,
    /// The log's directory is replaced by an older copy while the coordinator is down.
    OlderCopy,
}

impl Fault {
    /// What happens to processes, messages and sessions.
    pub(crate) const ORDINARY: &[Self] = &[
        Self::Lose,
        Self::Duplicate,
        Self::Cut,
        Self::CrashCoordinator,
        Self::WakeOldLife,
        Self::CrashAgent,
        Self::CrashDatabase,
        Self::BreakPrepare,
        Self::KillSession,
        Self::RefusePrepare,
        Self::LateListing,
        Self::LateHello,
        Self::SlowPrepare,
        Self::TimeOut,
        Self::RollBack,
        Self::Vanish,
        Self::LoseReply,
        Self::RepeatStatement,
    ];

    /// What persons, and failovers to a standby, do to prepared branches; and a crash of whoever knows.
    pub(crate) const HEURISTIC: &[Self] = &[
        Self::RollBackByHand,
        Self::CommitByHand,
        Self::Impostor,
        Self::LosePrepared,
        Self::UndoCommit,
        Self::CrashCoordinator,
        Self::CrashAgent,
        Self::LateListing,
    ];

    /// A log that is replaced, and crashes.
    pub(crate) const LOG: &[Self] = &[Self::CrashCoordinator, Self::OlderCopy, Self::Cut, Self::CrashAgent];
}

/// The bounds of one model.
#[derive(Debug, Clone)]
pub(crate) struct Bounds {
    /// For people.
    pub(crate) name: &'static str,
    pub(crate) transactions: usize,
    pub(crate) participants: usize,
    /// How many statements a client runs in each branch.
    pub(crate) statements: u64,
    /// The participants at which nothing is written.
    pub(crate) read_only: &'static [usize],
    /// Statements have run, and are known: the model begins before Commit.
    pub(crate) executed: bool,
    /// A foreign and a forged prepared transaction lie at each database.
    pub(crate) foreign: bool,
    /// How many faults may happen, of all kinds together.
    pub(crate) faults: u8,
    /// Which.
    pub(crate) kinds: Vec<Fault>,
}

impl Bounds {
    /// One transaction at two participants, from its Begin, with no faults.
    pub(crate) fn plain(name: &'static str) -> Self {
        Self {
            name,
            transactions: 1,
            participants: 2,
            statements: 1,
            read_only: &[],
            executed: false,
            foreign: false,
            faults: 0,
            kinds: Vec::new(),
        }
    }

    /// The same, from Commit on.
    pub(crate) fn executed(self) -> Self {
        Self { executed: true, ..self }
    }

    /// The same, with at most `faults` of `kinds`.
    pub(crate) fn with(self, faults: u8, kinds: &[Fault]) -> Self {
        Self { faults, kinds: kinds.to_vec(), ..self }
    }
}
