//! What preflight finds: `votumctl doctor`, and an agent at its start.

use super::Page;

/// Preflight only reads.
const ONLY_LOOKED: &str = "Preflight reads, in a transaction that is rolled back: nothing was changed and nothing \
    was prepared.";
/// What a broken database does to transactions that are under way.
const ABORTS: &str = "Transactions that meet it are aborted, everywhere. No half of one is left.";

pub(super) const PAGES: &[Page] = &[
    Page {
        code: "VOTUM-2201",
        title: "a participant's database cannot be asked",
        meaning: "Its agent could not serve it now: branches are refused there, and what is in doubt there stays \
            so. Nothing is known of what else may be wrong.",
        cause: "The server is down, or its address, database, role or password is another one; pg_hba.conf does \
            not let the agent in.",
        safe: "Nothing is concluded from silence: decisions wait until it answers.",
        remedy: "Read what the server or the network said; the finding has the statement or the line for what it \
            said. Then look again.",
    },
    Page {
        code: "VOTUM-2202",
        title: "a server is of a version that is too old",
        meaning: "Votum is tested on PostgreSQL 15 to 18. Older ones lack what the agent asks by.",
        cause: "A server that was not upgraded.",
        safe: ABORTS,
        remedy: "Upgrade the server, with nothing prepared in it: pg_upgrade refuses prepared transactions.",
    },
    Page {
        code: "VOTUM-2203",
        title: "a server is of a version that is newer than this Votum",
        meaning: "Nobody has tried Votum on it. Views and messages may have changed.",
        cause: "A server that was upgraded before Votum.",
        safe: "What the agent cannot read it does not guess: the branch is voted against, or asked about again.",
        remedy: "Run Votum's own tests on that version, or use one that it is tested on.",
    },
    Page {
        code: "VOTUM-2204",
        title: "a participant's server is a standby",
        meaning: "It takes no writes, and the agent concludes nothing from what it shows.",
        cause: "A connection string that was not changed after a failover, or names the standby.",
        safe: "Decisions wait for the primary.",
        remedy: "Name the primary, or every server of the database, in the participant's connection and restart \
            the agent. Promote the standby only where the primary is gone for good: two primaries of one \
            database decide against each other.",
    },
    Page {
        code: "VOTUM-2205",
        title: "a server cannot prepare transactions",
        meaning: "max_prepared_transactions is 0, PostgreSQL's own default: every branch that writes there votes no.",
        cause: "A server that was not set up for two-phase commit.",
        safe: ABORTS,
        remedy: "Run the statement of the finding and restart the server: the setting takes effect at a start only. \
            Standbys need at least the same value.",
    },
    Page {
        code: "VOTUM-2206",
        title: "a server has fewer slots for prepared transactions than agents have sessions",
        meaning: "A branch needs a slot from its PREPARE until its decision is delivered. When more are prepared at \
            once than there are slots, the others vote no.",
        cause: "`sessions` was raised, or participants were added on one server, without its setting.",
        safe: ABORTS,
        remedy: "Raise max_prepared_transactions, here and at the standbys, or lower `sessions`. A slot takes about \
            47 kB of the server's memory.",
    },
    Page {
        code: "VOTUM-2207",
        title: "the slots for prepared transactions are nearly all taken",
        meaning: "Without a free slot every branch that writes there votes no.",
        cause: "Prepared transactions that nobody ends, whose list is among the findings; a coordinator that is \
            down or does not reach the agent; or more load than slots.",
        safe: ABORTS,
        remedy: "Look for what is not ended: `votumctl in-doubt` for branches, VOTUM-2231 for those of others. \
            Then raise max_prepared_transactions.",
    },
    Page {
        code: "VOTUM-2208",
        title: "a server has fewer connections than its agents may need",
        meaning: "An agent opens up to `sessions` and `phase2_connections` connections and a few more. What ordinary \
            roles may use is max_connections without those that are reserved.",
        cause: "`sessions` was raised, or participants were added on one server, without its setting.",
        safe: "Branches that find no connection are turned away before they have done anything. Decisions wait.",
        remedy: "Raise max_connections, or lower `sessions`. Applications that connect past Votum need room, too.",
    },
    Page {
        code: "VOTUM-2209",
        title: "a limit of the role or the database is below what the agent may need",
        meaning: "CONNECTION LIMIT of the agent's role, or of the database, is smaller than `sessions`, \
            `phase2_connections` and a few more.",
        cause: "A limit from before the agent, or from a template.",
        safe: "Branches that find no connection are turned away before they have done anything. Decisions wait.",
        remedy: "Raise the limit by the statement of the finding, or lower `sessions`.",
    },
    Page {
        code: "VOTUM-2211",
        title: "a server does not force its writes",
        meaning: "With fsync off, a crash of the machine loses what PREPARE and COMMIT have promised. One database \
            then lacks its half of a committed transaction.",
        cause: "A server that was set up for a bulk load, or for tests.",
        safe: "Nothing is: a loss is found, and recorded as a heuristic outcome, only where the server still \
            knows of it.",
        remedy: "Switch fsync on before the server serves anything that matters, and let a checkpoint pass.",
    },
    Page {
        code: "VOTUM-2212",
        title: "a server does not guard its pages against half writes",
        meaning: "With full_page_writes off, a crash of the machine may leave pages that recovery cannot repair.",
        cause: "A setting for file systems that never write half a page, kept on one that does.",
        safe: "What a crash damages is the server's to find, not Votum's.",
        remedy: "Switch it on, unless the file system is known to write pages whole.",
    },
    Page {
        code: "VOTUM-2213",
        title: "commits of the agent wait for less than they should",
        meaning: "With synchronous_commit off the agent's plain commits wait for no disk, and its PREPARE for no \
            synchronous standby; with local for no standby. What was acknowledged can be lost by a failover.",
        cause: "A default of the role, the database or the server that was set for speed.",
        safe: "PREPARE and COMMIT PREPARED reach the server's own disk in any case.",
        remedy: "Set it for the agent's role, by the statement of the finding. Other roles may keep theirs.",
    },
    Page {
        code: "VOTUM-2214",
        title: "sessions of the agent are read-only",
        meaning: "default_transaction_read_only is on for its role: every statement that writes fails.",
        cause: "A default that was set for maintenance, or a database that was made read-only.",
        safe: ABORTS,
        remedy: "Run the statements of the finding in one session: the first is needed where the database's own \
            default holds for whoever mends it.",
    },
    Page {
        code: "VOTUM-2215",
        title: "the server ends sessions that wait for work",
        meaning: "The agent keeps sessions open between branches. With idle_session_timeout the server ends them; a \
            branch that is given one at that moment is lost.",
        cause: "A default against forgotten connections.",
        safe: "A branch that is lost was not prepared: its transaction is aborted, and may be run again.",
        remedy: "Set it to 0 for the agent's role, by the statement of the finding.",
    },
    Page {
        code: "VOTUM-2216",
        title: "the server ends long transactions of the agent's own connections",
        meaning: "Branches have timeouts that the agent gives them. On the connections that list what is prepared \
            and carry out decisions transaction_timeout holds: it ends them at their work.",
        cause: "A default of PostgreSQL 17 or later against forgotten transactions.",
        safe: "What was cut off is looked up and tried again.",
        remedy: "Set it to 0 for the agent's role: branches are ended by `max_branch_timeout_ms`.",
    },
    Page {
        code: "VOTUM-2217",
        title: "a timeout of the role does not hold for branches",
        meaning: "The agent opens branches with timeouts of its own, which go before the role's statement_timeout \
            and idle_in_transaction_session_timeout. Somebody may believe that those bound a branch.",
        cause: "A default that was set for the role, or for all.",
        safe: "A branch ends at its transaction's timeout, and at `max_branch_timeout_ms` at the latest.",
        remedy: "Nothing, if that is meant. Otherwise put the bound where it holds, into the agent's configuration.",
    },
    Page {
        code: "VOTUM-2218",
        title: "statements of branches give up waiting for locks",
        meaning: "lock_timeout holds for the statements of branches: one that waits longer fails, and its branch \
            can only be rolled back.",
        cause: "A default of the role or the database, which may well be meant.",
        safe: "A failed statement commits nothing. The agent's own commits wait as long as they need.",
        remedy: "Nothing, if that is meant: it also ends waits across databases that no server sees. Otherwise set it \
            to 0 for the agent's role.",
    },
    Page {
        code: "VOTUM-2221",
        title: "the agent's role is denied what it asks by",
        meaning: "The agent finds out by functions and views of PostgreSQL what is prepared, what became of it and \
            which server it speaks to. They are open to every role unless an administrator closed them.",
        cause: "A server that was hardened: REVOKE … FROM PUBLIC.",
        safe: "What cannot be asked is not concluded: branches are voted against, decisions wait.",
        remedy: "Run the GRANTs of the finding, in the participant's database.",
    },
    Page {
        code: "VOTUM-2222",
        title: "the agent is not shown its own sessions",
        meaning: "Its role works as another one by default, and that one is not shown when sessions of the first \
            began. The agent opens no session that it could not find again.",
        cause: "ALTER ROLE … SET role for the role that the agent logs in as.",
        safe: "No branch can be opened, so that none is lost.",
        remedy: "Grant pg_read_all_stats to the role that it works as, or take the default away.",
    },
    Page {
        code: "VOTUM-2223",
        title: "the agent may not end its own sessions",
        meaning: "When a connection breaks, the agent ends the server process behind it, so that it holds no locks \
            and prepares nothing late. Working as another role, it lacks the right.",
        cause: "ALTER ROLE … SET role for the role that the agent logs in as.",
        safe: "Nothing is concluded about the branch until that process has ended by itself.",
        remedy: "Grant pg_signal_backend to the role that it works as, or take the default away.",
    },
    Page {
        code: "VOTUM-2224",
        title: "the agent's role is a superuser",
        meaning: "Clients' statements run as the agent's role: with a superuser every client may read and change \
            everything, and run programs on the server's machine.",
        cause: "A quick start with the role postgres.",
        safe: "The promises about transactions hold all the same.",
        remedy: "Make a role of its own for the agent, with the privileges that its clients' statements need.",
    },
    Page {
        code: "VOTUM-2225",
        title: "a role declared for attached work cannot be taken",
        meaning: "The agent ends what such a role has prepared by becoming it. It may not, or there is no such role.",
        cause: "A name that is mistyped in `attached_roles`, or a GRANT that is missing.",
        safe: "What the agent prepares itself is its own.",
        remedy: "Run the GRANT of the finding, or take the role out of `attached_roles`.",
    },
    Page {
        code: "VOTUM-2226",
        title: "a database keeps nothing of what its agent remembers",
        meaning: "An agent remembers which life of each coordinator spoke last, and how far its log had reached. \
            Where the database has no table for that, or the role may not write there, a restart of the agent \
            forgets it.",
        cause: "`votumctl install` was not run there, or rights were taken away since.",
        safe: "Everything works as before. What is missing is a safeguard: a coordinator's log that was copied, or \
            restored from an older copy, is noticed only by agents that have not restarted since.",
        remedy: "`votumctl install --role ROLE | psql …`, as somebody who may create a schema in that database.",
    },
    Page {
        code: "VOTUM-2227",
        title: "the schema votum is on the search path of the agent's role",
        meaning: "What a client's statement names without a schema is looked for in votum first, and what it creates \
            without one is to be created there, which the role may not.",
        cause: "The role is itself called votum, and its search path begins with \"$user\", as it does by default.",
        safe: "Statements that name their schemas, and tables that exist and are not called marker or witness, are \
            found as before.",
        remedy: "Run the statement of the finding: it takes the schema off the path in that database.",
    },
    Page {
        code: "VOTUM-2228",
        title: "a database has a table for commit markers, and the agent's role may not use it",
        meaning: "Branches leave no row there. What became of one that a failover lost cannot be proven then.",
        cause: "Rights were taken away since `votumctl install --commit-marker`, or it was run for another role.",
        safe: "Everything works as in a database without that table.",
        remedy: "`votumctl install --role ROLE --commit-marker | psql …`, as somebody who may create a schema in that \
            database.",
    },
    Page {
        code: "VOTUM-2231",
        title: "somebody else's transaction is prepared at a server",
        meaning: "It is none of Votum's branches by its name. Until it is ended it keeps its locks over every \
            restart, takes a slot, and keeps vacuum from removing what it might still see, up to the point where \
            the server assigns no more transaction ids.",
        cause: "Another transaction manager that works now, or one that lost it; a PREPARE by hand.",
        safe: "Votum never touches it.",
        remedy: "Find out who prepared it, by its name and its owner, and end it as they say. It is a warning when \
            sessions wait for it or a tenth of autovacuum_freeze_max_age has passed, an error past the whole.",
    },
    Page {
        code: "VOTUM-2232",
        title: "a branch stays prepared",
        meaning: "A branch is prepared for the moment between its vote and its decision. This one holds others up, \
            or has been there for many transactions.",
        cause: "Its coordinator is down, does not reach the agent, or waits for a person. Under load a session that \
            waits for a branch for a moment is no news.",
        safe: "It is ended as decided as soon as its coordinator and its agent speak again. Whoever ends it by hand \
            may split its transaction.",
        remedy: "Ask `votumctl in-doubt` what will happen to it, and why it has not yet.",
    },
    Page {
        code: "VOTUM-2233",
        title: "a branch belongs to a role that the agent is not",
        meaning: "By its name it is a branch of Votum. Only its owner or a superuser may end it, and anybody may \
            prepare something under such a name.",
        cause: "The agent's role was dropped or changed while it was prepared, a deferred trigger changed the role, \
            or somebody forged the name.",
        safe: "The decision stands and is tried again.",
        remedy: "Ask `votumctl in-doubt` for its decision, and have a superuser run exactly that.",
    },
    Page {
        code: "VOTUM-2241",
        title: "two participants are one database",
        meaning: "Votum refuses a transaction that has branches at both: they would wait for each other's locks, and \
            each listing would show the other's branches.",
        cause: "A connection string that was copied and not changed.",
        safe: "Such transactions are refused as a whole.",
        remedy: "Correct the connection of one of them, or take one out of both configurations.",
    },
    Page {
        code: "VOTUM-2242",
        title: "two agents are configured for one participant",
        meaning: "A name stands for one database behind one agent. The coordinator dials one of the two; what is \
            prepared through the other is not settled.",
        cause: "A configuration that was copied and not changed, or an agent that was moved and not removed.",
        safe: "An agent does nothing for a coordinator that does not dial it.",
        remedy: "Rename one of them on both sides, or remove the one that its coordinator does not dial.",
    },
    Page {
        code: "VOTUM-2243",
        title: "the coordinator knows a participant of which no agent's configuration was given",
        meaning: "Either a file was left out, and nothing is known of that database; or no agent serves it.",
        cause: "A forgotten --agent-config, or a name that is written differently on the two sides.",
        safe: ONLY_LOOKED,
        remedy: "Look again with the file of its agent, or correct the name.",
    },
    Page {
        code: "VOTUM-2244",
        title: "an agent serves a participant that the coordinator does not know",
        meaning: "No transaction of this coordinator can have a branch there; what is prepared there of an earlier \
            time is kept and not settled.",
        cause: "A name that is written differently on the two sides, a participant that was taken out, or an agent \
            that serves several coordinators.",
        safe: ONLY_LOOKED,
        remedy: "Add it to the coordinator's configuration, or correct the name, or take it out of the agent's.",
    },
    Page {
        code: "VOTUM-2245",
        title: "an agent does not serve this coordinator",
        meaning: "The agent's `coordinators` names others only: it refuses this one's hello, and every branch.",
        cause: "A coordinator_id that is mistyped, or was not added.",
        safe: "What is prepared stays prepared.",
        remedy: "Add the coordinator_id to `coordinators` and restart the agent.",
    },
];
