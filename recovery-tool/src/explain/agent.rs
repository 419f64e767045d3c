//! What an agent refuses, and what it cannot do.

use super::Page;

pub(super) const PAGES: &[Page] = &[
    Page {
        code: "VOTUM-2001",
        title: "a request to an agent cannot be understood",
        meaning: "A field is missing, malformed or beyond its bound.",
        cause: "A mistake in the client.",
        safe: "Nothing was run.",
        remedy: "Read the sentence, which names the field. The same request will be refused again.",
    },
    Page {
        code: "VOTUM-2002",
        title: "the agent serves no such participant",
        meaning: "The statement was sent to the wrong agent, or the name is mistyped.",
        cause: "An address list that is older than a change of the configuration.",
        safe: "Nothing was run.",
        remedy: "Take the addresses from the reply to Begin; compare the participants in the agent's \
            configuration.",
    },
    Page {
        code: "VOTUM-2003",
        title: "the transaction is not of the coordinator's life that speaks to this agent",
        meaning: "The agent takes statements only for the epoch that speaks to it.",
        cause: "The coordinator has just restarted, or is not connected to this agent.",
        safe: "Nothing was run.",
        remedy: "Try again if the coordinator has just started. Otherwise the transaction has ended: run it \
            again.",
    },
    Page {
        code: "VOTUM-2004",
        title: "the secret shown is not the transaction's",
        meaning: "Whoever asked did not begin this transaction.",
        cause: "A client that passes the gtid on without its secret.",
        safe: "Nothing was run.",
        remedy: "Hand a transaction over with its export, which carries the secret.",
    },
    Page {
        code: "VOTUM-2005",
        title: "a branch was lost before it was prepared",
        meaning: "Its session, its connection or its agent ended. It is never opened again, for half of it \
            would be missing.",
        cause: "A database or an agent that restarted, a timeout, or an administrator who ended the session.",
        safe: "The branch cannot commit, and so neither can its transaction. Nothing of it is left at any \
            database.",
        remedy: "Run the transaction again.",
    },
    Page {
        code: "VOTUM-2006",
        title: "a statement came out of its order",
        meaning: "A branch takes each ordinal once, in order. After anything else nobody could tell which \
            statements it holds, so it was ended.",
        cause: "Two callers that use one branch without knowing of each other.",
        safe: "The branch cannot commit, and so neither can its transaction. Nothing of it is left at any \
            database.",
        remedy: "Send the statements of one branch from one place, one after the other.",
    },
    Page {
        code: "VOTUM-2007",
        title: "a statement names another session",
        meaning: "The branch's session was opened by another life of the agent, or by another caller.",
        cause: "An agent that restarted between two statements.",
        safe: "The statement was not run; the branch that it belonged to cannot commit.",
        remedy: "Run the transaction again.",
    },
    Page {
        code: "VOTUM-2008",
        title: "the reply to a repeated statement was too large to be kept",
        meaning: "The statement ran once and must not run twice, and its reply is gone.",
        cause: "A connection that broke while a large result was read.",
        safe: "The branch cannot commit, and so neither can its transaction. Nothing of it is left at any \
            database.",
        remedy: "Run the transaction again, and read large results in parts.",
    },
    Page {
        code: "VOTUM-2009",
        title: "the branch is being prepared",
        meaning: "Commit has been asked for: the branch takes no more statements.",
        cause: "A caller that goes on after Commit.",
        safe: "The commit is not touched by it.",
        remedy: "Send every statement before Commit.",
    },
    Page {
        code: "VOTUM-2010",
        title: "no session became free in time",
        meaning: "All sessions of the agent at this database are in use by other transactions.",
        cause: "More clients at once than sessions, or transactions that are left open.",
        safe: "The statement was not run. Commits do not wait for these sessions.",
        remedy: "Try again. If it lasts, shorten transactions, or raise the agent's limit of sessions \
            together with the database's.",
    },
    Page {
        code: "VOTUM-2011",
        title: "too many statements wait for one branch",
        meaning: "A branch runs one statement after another, and its queue is bounded.",
        cause: "A client that does not wait for replies.",
        safe: "The statement was not run.",
        remedy: "Send the next statement after the reply to the last.",
    },
    Page {
        code: "VOTUM-2012",
        title: "the participant's database cannot be reached",
        meaning: "The agent could not open a session.",
        cause: "The database is down, refuses connections, or its address or password is wrong.",
        safe: "The statement was not run.",
        remedy: "Read what the database or the network said; `votumctl status` shows the participant.",
    },
    Page {
        code: "VOTUM-2013",
        title: "the database refused a statement",
        meaning: "The error is PostgreSQL's own, with its SQLSTATE.",
        cause: "As the SQLSTATE says.",
        safe: "The branch is as PostgreSQL leaves it after an error: it can only be rolled back, to a \
            savepoint or as a whole.",
        remedy: "Read SQLSTATE and message. After 40001 and 40P01 the transaction may succeed if it is run \
            again.",
    },
    Page {
        code: "VOTUM-2014",
        title: "a statement is not for a branch",
        meaning: "It would open or end a transaction, which is the coordinator's part, or it is COPY.",
        cause: "A library that sends BEGIN or COMMIT by itself.",
        safe: "The statement was not run.",
        remedy: "Use Commit and Rollback of the coordinator. SAVEPOINT, RELEASE and ROLLBACK TO may be used.",
    },
    Page {
        code: "VOTUM-2015",
        title: "the agent is stopping",
        meaning: "It opens no more branches.",
        cause: "An agent that is being restarted.",
        safe: "The statement was not run. What is prepared stays prepared, and is settled after the restart.",
        remedy: "Try again.",
    },
    Page {
        code: "VOTUM-2101",
        title: "phase 2 does not get on at a database",
        meaning: "The agent tries to commit or to roll back a prepared branch, and the database's answer asks \
            for a person.",
        cause: "As the SQLSTATE says: a role without the right, a branch of another owner, a database that \
            is not writable.",
        safe: "The decision stands, the branch stays prepared, and it is tried again.",
        remedy: "Mend the cause at the database. See VOTUM-1403, its other side at the coordinator.",
    },
    Page {
        code: "VOTUM-2103",
        title: "a coordinator expects a participant that this agent does not serve",
        meaning: "The coordinator's configuration names this agent for a participant, and the agent's own \
            configuration has none of that name. Branches there are refused until it has.",
        cause: "A name that is written differently in the two configurations, or the address of another \
            agent.",
        safe: "The agent's other participants are served. Nothing is concluded about the one that is missing.",
        remedy: "Correct the name, or the address, in one of the two configurations, and restart that process.",
    },
];
