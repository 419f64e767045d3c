//! The names of what travels between the parts, link by link, so that a fault can be placed at each of them.

/// Which two parts speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Link {
    /// A client's connections to the coordinator.
    ClientCoordinator,
    /// A client's connections to an agent.
    ClientAgent,
    /// The exchange.
    CoordinatorAgent,
    /// An agent's connections to its database.
    AgentDatabase,
}

impl Link {
    /// Every link.
    pub const ALL: [Self; 4] =
        [Self::ClientCoordinator, Self::ClientAgent, Self::CoordinatorAgent, Self::AgentDatabase];
}

impl std::fmt::Display for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::ClientCoordinator => "client-coordinator",
            Self::ClientAgent => "client-agent",
            Self::CoordinatorAgent => "coordinator-agent",
            Self::AgentDatabase => "agent-database",
        })
    }
}

/// In which direction something travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// From the side that dialled.
    Onward,
    /// To the side that dialled.
    Back,
}

impl Direction {
    /// The other one.
    pub fn opposite(self) -> Self {
        match self {
            Self::Onward => Self::Back,
            Self::Back => Self::Onward,
        }
    }
}

macro_rules! messages {
    ($($link:ident $direction:ident { $($(#[$doc:meta])* $name:ident = $text:literal,)* })*) => {
        /// A message by its name. An answer of the database is known by its command tag, a request to it by
        /// the statement.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Message {
            $($($(#[$doc])* $name,)*)*
        }

        impl Message {
            /// Every message.
            pub const ALL: &[Self] = &[$($(Self::$name,)*)*];

            /// On which link it travels.
            pub fn link(self) -> Link {
                match self { $($(Self::$name)|* => Link::$link,)* }
            }

            /// In which direction it travels.
            pub fn direction(self) -> Direction {
                match self { $($(Self::$name)|* => Direction::$direction,)* }
            }

            /// Its name, for people.
            pub fn name(self) -> &'static str {
                match self { $($(Self::$name => $text,)*)* }
            }
        }
    };
}

messages! {
    ClientCoordinator Onward {
        /// Coordinator.Begin.
        Begin = "Begin",
        /// Coordinator.Commit.
        Commit = "Commit",
        /// Coordinator.Rollback.
        Rollback = "Rollback",
        /// Coordinator.GetTransaction.
        GetTransaction = "GetTransaction",
        /// Coordinator.Transact.
        Transact = "Transact",
    }
    ClientCoordinator Back {
        /// The answer to Begin.
        BeginReply = "Begin's reply",
        /// The answer to Commit.
        CommitReply = "Commit's reply",
        /// The answer to Rollback.
        RollbackReply = "Rollback's reply",
        /// The answer to GetTransaction.
        GetTransactionReply = "GetTransaction's reply",
        /// The answer to Transact.
        TransactReply = "Transact's reply",
    }
    ClientAgent Onward {
        /// Participant.Execute.
        Execute = "Execute",
    }
    ClientAgent Back {
        /// The head of a statement's reply.
        Started = "Started",
        /// One of its rows.
        Row = "Row",
        /// Its end.
        Finished = "Finished",
        /// The error with which a call over one stream ended.
        CallError = "CallError",
    }
    CoordinatorAgent Onward {
        /// Who speaks.
        CoordinatorHello = "the coordinator's hello",
        /// Commit a branch that is not prepared, or settle how it ended.
        CommitOnePhase = "CommitOnePhase",
        /// The same with the work of a branch that decides for its siblings.
        Decide = "CommitOnePhase with its work",
        /// Prepare, and vote.
        Prepare = "Prepare",
        /// Look whether an attached branch is prepared, and vote.
        VerifyAttached = "VerifyAttached",
        /// The order to commit.
        CommitBranch = "CommitBranch",
        /// The order to abort.
        RollbackBranch = "RollbackBranch",
        /// The order to end an open session.
        EndSession = "EndSession",
        /// The order to list.
        ListParticipant = "ListParticipant",
        /// The question what became of commits after a change of timeline.
        VerifyBranches = "VerifyBranches",
        /// The order to delete commit markers.
        PruneMarkers = "PruneMarkers",
        /// The order to let go of a branch.
        HoldBranch = "HoldBranch",
    }
    CoordinatorAgent Back {
        /// The agent accepts the coordinator.
        AgentHello = "the agent's hello",
        /// The agent does not accept it.
        Refusal = "Refusal",
        /// A session was opened.
        Enlisted = "Enlisted",
        /// The answer to Prepare and VerifyAttached.
        Vote = "Vote",
        /// The answer to CommitBranch and RollbackBranch.
        BranchEnd = "BranchEnd",
        /// The answer to the order to decide, with what the work has returned.
        Decided = "BranchEnd with results",
        /// A session ended before it was prepared.
        SessionLost = "SessionLost",
        /// What is prepared and open.
        Listing = "Listing",
        /// A branch cannot be ended at present.
        PhaseTwoTrouble = "PhaseTwoTrouble",
        /// The answer to VerifyBranches.
        BranchesVerified = "BranchesVerified",
        /// The answer to HoldBranch.
        BranchHeld = "BranchHeld",
    }
    AgentDatabase Onward {
        /// A connection is opened.
        Connect = "connecting",
        /// A branch's BEGIN.
        SqlBegin = "BEGIN",
        /// A client's statement.
        SqlStatement = "a statement",
        /// PREPARE TRANSACTION.
        SqlPrepare = "PREPARE TRANSACTION",
        /// The COMMIT of a branch that wrote nothing.
        SqlCommit = "COMMIT",
        /// The ROLLBACK of a branch that is not prepared.
        SqlRollback = "ROLLBACK",
        /// COMMIT PREPARED.
        SqlCommitPrepared = "COMMIT PREPARED",
        /// ROLLBACK PREPARED.
        SqlRollbackPrepared = "ROLLBACK PREPARED",
        /// A session is reset for the next branch.
        SqlReset = "the reset",
        /// What is prepared.
        SqlList = "the listing",
        /// Whether one gid is prepared.
        SqlFind = "the look for a gid",
        /// What became of a transaction id.
        SqlOutcome = "the question for an outcome",
        /// What makes the server flush before a commit that was found is reported.
        SqlConfirm = "the flush",
        /// A late server process is ended.
        SqlTerminate = "the end of a server process",
        /// A cancel request.
        Cancel = "a cancel request",
    }
    AgentDatabase Back {
        /// A connection is ready.
        Connected = "connecting's answer",
        /// BEGIN's answer.
        SqlBegun = "BEGIN's answer",
        /// The answer to a client's statement.
        SqlStatementDone = "a statement's answer",
        /// PREPARE TRANSACTION's answer.
        SqlPrepared = "PREPARE TRANSACTION's answer",
        /// COMMIT's answer.
        SqlCommitted = "COMMIT's answer",
        /// ROLLBACK's answer.
        SqlRolledBack = "ROLLBACK's answer",
        /// COMMIT PREPARED's answer.
        SqlCommitPreparedDone = "COMMIT PREPARED's answer",
        /// ROLLBACK PREPARED's answer.
        SqlRollbackPreparedDone = "ROLLBACK PREPARED's answer",
        /// The reset's answer.
        SqlResetDone = "the reset's answer",
        /// The listing.
        SqlListed = "the listing's answer",
        /// Whether the gid is prepared.
        SqlFound = "the look for a gid's answer",
        /// What became of the transaction id.
        SqlOutcomeTold = "the question for an outcome's answer",
        /// The flush's answer.
        SqlConfirmed = "the flush's answer",
        /// Whether the server process was there.
        SqlTerminated = "the end of a server process's answer",
    }
}

impl std::fmt::Display for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
