//! The codes of preflight, and why each matters.

/// One thing that is looked for.
pub(super) struct Check {
    pub(super) code: &'static str,
    pub(super) why: &'static str,
}

const fn check(code: &'static str, why: &'static str) -> Check {
    Check { code, why }
}

pub(super) const UNANSWERED: Check =
    check("VOTUM-2201", "no branch can be opened there, and what is in doubt there stays so");
pub(super) const TOO_OLD: Check =
    check("VOTUM-2202", "Votum relies on functions and views that this version lacks or has otherwise");
pub(super) const TOO_NEW: Check = check("VOTUM-2203", "nobody has tried Votum on this version");
pub(super) const STANDBY: Check =
    check("VOTUM-2204", "a standby takes no writes, and nothing is concluded from what it shows");
pub(super) const NO_SLOTS: Check =
    check("VOTUM-2205", "nothing can be prepared: every transaction that writes there is aborted");
pub(super) const FEW_SLOTS: Check =
    check("VOTUM-2206", "when all are taken, transactions that write there are aborted (SQLSTATE 53200)");
pub(super) const SLOTS_TAKEN: Check =
    check("VOTUM-2207", "without a free one, transactions that write there are aborted (SQLSTATE 53200)");
pub(super) const FEW_CONNECTIONS: Check = check(
    "VOTUM-2208",
    "branches are turned away, and decisions wait, when the server has no connection left",
);
pub(super) const CONNECTION_LIMIT: Check =
    check("VOTUM-2209", "branches are turned away, and decisions wait, when the limit is reached");
pub(super) const NO_FSYNC: Check =
    check("VOTUM-2211", "a crash of the machine may lose what was prepared or committed: half a transaction");
pub(super) const TORN_PAGES: Check = check(
    "VOTUM-2212",
    "a crash of the machine may leave pages half written, and what was committed unreadable",
);
pub(super) const COMMITS_ALONE: Check =
    check("VOTUM-2213", "what is acknowledged may not have reached the disk, or the standby that takes over");
pub(super) const READ_ONLY: Check =
    check("VOTUM-2214", "every statement that writes there fails (SQLSTATE 25006)");
pub(super) const IDLE_TIMEOUT: Check = check(
    "VOTUM-2215",
    "the server ends sessions that wait for their next branch; a branch that meets that moment is lost",
);
pub(super) const TRANSACTION_TIMEOUT: Check = check(
    "VOTUM-2216",
    "it also ends the agent's own connections: listings that take long, and commits whose answer is then lost",
);
pub(super) const BRANCH_TIMEOUT: Check = check(
    "VOTUM-2217",
    "it does not hold for branches: the agent gives each its own timeouts in place of it",
);
pub(super) const LOCK_TIMEOUT: Check =
    check("VOTUM-2218", "a statement of a branch that waits longer for a lock fails (SQLSTATE 55P03)");
pub(super) const PRIVILEGES: Check = check(
    "VOTUM-2221",
    "the agent asks by it what is prepared, what became of it, or which server it speaks to",
);
pub(super) const BLIND: Check =
    check("VOTUM-2222", "the agent opens no session that it could not find again: no branch can be opened");
pub(super) const POWERLESS: Check = check(
    "VOTUM-2223",
    "a session whose connection broke keeps its branch and its locks until the server notices by itself",
);
pub(super) const SUPERUSER: Check =
    check("VOTUM-2224", "every client's statements run with all rights, on the server's machine, too");
pub(super) const ATTACHED_ROLE: Check =
    check("VOTUM-2225", "what this role prepares could not be ended by the agent (SQLSTATE 42501)");
pub(super) const FORGETFUL: Check = check(
    "VOTUM-2226",
    "once its agent has restarted, a log that was copied or restored from an older copy is not noticed there",
);
pub(super) const SHADOWED: Check = check(
    "VOTUM-2227",
    "what clients create without naming a schema is to go into it, and is refused (SQLSTATE 42501)",
);
pub(super) const UNMARKED: Check = check(
    "VOTUM-2228",
    "branches leave no commit marker: after a failover nobody can prove what became of them",
);
pub(super) const FOREIGN: Check = check(
    "VOTUM-2231",
    "Votum never touches it; until it is ended it keeps a slot, its locks, and what vacuum would remove",
);
pub(super) const BRANCH: Check = check(
    "VOTUM-2232",
    "a branch is prepared for a moment; one that stays keeps its locks, and what vacuum would remove",
);
pub(super) const OWNER: Check =
    check("VOTUM-2233", "the agent cannot end it (SQLSTATE 42501), if it is one of its coordinator's at all");
pub(super) const SAME_DATABASE: Check =
    check("VOTUM-2241", "a transaction that has branches at both is refused");
pub(super) const SAME_NAME: Check = check(
    "VOTUM-2242",
    "a participant is one database behind one agent: its coordinator speaks to one of them",
);
pub(super) const NO_AGENT: Check = check(
    "VOTUM-2243",
    "nothing was looked at there; with no agent that serves it, its branches are refused",
);
pub(super) const NO_COORDINATOR: Check =
    check("VOTUM-2244", "no transaction can have a branch there, and nothing prepared there is settled");
pub(super) const NOT_SERVED: Check =
    check("VOTUM-2245", "the agent refuses this coordinator: what it decides is not carried out there");
