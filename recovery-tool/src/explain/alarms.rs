//! What lasts until a person has looked at it.

use super::Page;

pub(super) const PAGES: &[Page] = &[
    Page {
        code: "VOTUM-1401",
        title: "the log is stale",
        meaning: "A participant remembers a newer or another log of this coordinator than the one that is \
            open. What this log lacks proves nothing, so nothing is begun, what is undecided is aborted, and no \
            abort is presumed.",
        cause: "The directory was restored from a backup or copied, and the coordinator ran elsewhere since.",
        safe: "Commits that this log knows are delivered. No branch is rolled back for want of a record.",
        remedy: "Find the newest log of this coordinator and start on that. `votumctl status` says what was \
            seen, and where. Only if it is lost for good: `votumctl write-off --reason …` shows what would be \
            given up, and how to do it; after the restart, what the lost part left prepared waits for a person \
            (VOTUM-1402). Where not even a backup is left, `votumctl lost-log` first says what the databases \
            prove by themselves.",
    },
    Page {
        code: "VOTUM-1402",
        title: "a branch waits for a person",
        meaning: "It is prepared, no decision is recorded, and the absence of a record does not prove an \
            abort: its record may have been dropped after retention, or been lost with a log and written \
            off (R10), or the log cannot be trusted now, or an agent that may know better has not been heard since the start (R8).",
        cause: "A participant that came back after longer than the retention, or was restored from a backup; \
            VOTUM-1401; or an agent that is down, which the alarm names: start it, or take its participants \
            out of the configuration if they are gone for good.",
        safe: "Nothing is done to it. It keeps its locks.",
        remedy: "Find out from the other databases how its transaction ended: the gid says how many branches \
            there were. Then `votumctl resolve GID --participant NAME --commit` or `--rollback`; without \
            --yes it only says what it would do.",
    },
    Page {
        code: "VOTUM-1403",
        title: "phase 2 does not get on at a branch",
        meaning: "The transaction is decided, and the database does not let this branch be ended. It is tried \
            again and again.",
        cause: "The database is down or full, the agent's role may not end the branch, or its owner was \
            dropped.",
        safe: "The decision stands; the branch stays prepared and keeps its locks until it is delivered.",
        remedy: "Read SQLSTATE and message, and mend the cause at the database. The agent tries again by \
            itself; nothing has to be ordered.",
    },
    Page {
        code: "VOTUM-1404",
        title: "work that nobody decided is prepared under one of our names",
        meaning: "The decision does not name this branch, or names another transaction id. It is rolled back \
            (R1x).",
        cause: "A failover brought an old branch back, or somebody prepared other work under this name by \
            hand.",
        safe: "The branch that was decided is not touched: it is compared by its transaction id.",
        remedy: "Look for who prepares transactions by hand at this database, or for a failover that lost \
            writes.",
    },
    Page {
        code: "VOTUM-1405",
        title: "a prepared transaction looks like ours and is not",
        meaning: "It bears this coordinator's name and is owned by the agent's role, and this log never began \
            that epoch. It is never touched (R12).",
        cause: "Another coordinator with the same coordinator_id, a log that was begun anew while branches \
            were in doubt, or a name that somebody chose.",
        safe: "It is left as it is, and keeps its locks.",
        remedy: "Find the log of the epoch that the gid names, and start on it. If there is none any more, an \
            administrator of the database ends the branch by hand.",
    },
    Page {
        code: "VOTUM-1406",
        title: "a participant cannot be heard",
        meaning: "Its agent is not connected, refuses us or does not serve it; or its database does not answer, \
            is a standby or a former primary, or is not the database system that it was. Or a commit is owed \
            to it and the configuration no longer names it. Nothing is concluded from its silence (R11).",
        cause: "The database or the agent is down, the network is cut, or a failover is under way.",
        safe: "Other participants go on. What is prepared there stays prepared.",
        remedy: "Bring database and agent up. `votumctl status` says what the last attempt met, at each host \
            where the agent knows several. It goes on by itself.",
    },
    Page {
        code: "VOTUM-1407",
        title: "a branch ended otherwise than decided",
        meaning: "One database holds the transaction's work and another does not, or nobody can say. This \
            cannot be undone by Votum.",
        cause: "Somebody ended the prepared transaction by hand, or by `votumctl resolve --heuristic`, or a \
            failover lost a write that the database had acknowledged.",
        safe: "It is recorded in the log, is part of every answer about this transaction, and is shown \
            until it is dealt with.",
        remedy: "`votumctl show GTID` names the branch and what was seen there. Repair the data by hand, with \
            those who own it; then `votumctl acknowledge GTID --reason TEXT --yes` ends the alarm and keeps \
            in the log who did what.",
    },
    Page {
        code: "VOTUM-1408",
        title: "the history of the log cannot be read",
        meaning: "Decisions still owed are delivered from the journal. Absence means nothing: nothing is \
            presumed aborted and nothing is begun.",
        cause: "A damaged store: see VOTUM-1111 and VOTUM-1112.",
        safe: "Commits that were decided go on being delivered.",
        remedy: "Stop the coordinator, keep a copy of the directory, and restore it from one backup. \
            `votumctl log verify` names file and place.",
    },
    Page {
        code: "VOTUM-1409",
        title: "an agent refuses this coordinator",
        meaning: "A newer epoch of the same coordinator_id, or a second incarnation of this epoch, has spoken \
            to that agent.",
        cause: "Two coordinators run on copies of one log, or an old one woke up after its successor took \
            over.",
        safe: "The refused coordinator has no effect there: that is what the refusal is for.",
        remedy: "Stop the coordinator that should not run. If both logs are copies of one, keep the one that \
            ran longer and start only that.",
    },
    Page {
        code: "VOTUM-1410",
        title: "the log failed, and this coordinator is frozen",
        meaning: "Nobody knows whether what was written last is on disk, so nothing more is sent and nothing \
            more is answered.",
        cause: "A full or failing disk: see VOTUM-1114.",
        safe: "What was acknowledged before is on disk.",
        remedy: "Repair the disk and restart the coordinator.",
    },
    Page {
        code: "VOTUM-1411",
        title: "the log forgets too soon",
        meaning: "It has dropped transactions that ended less than an hour ago, or less than twice the longest \
            timeout, because its records took more than log.retention_bytes. Who asks about one of them is told \
            EXPIRED, a retry under its idempotency key runs again, and what a failover brings back of it waits \
            for a person (VOTUM-1402).",
        cause: "More transactions than the bound was chosen for, or larger ones.",
        safe: "What has not ended, and what departed from its decision, is never dropped.",
        remedy: "Raise log.retention_bytes in the coordinator's configuration and restart it: \
            votum_log_reach_seconds says how far back the log remembers, and grows from then on. The alarm is \
            over when that is enough.",
    },
    Page {
        code: "VOTUM-1412",
        title: "a failover may have lost commits, and nobody can prove that it did not",
        meaning: "The participant's server is on another timeline: a standby took over, or a backup was restored. \
            The commits that were acknowledged before were looked for there. So many of them left no commit marker, \
            and a transaction id may mean another transaction now.",
        cause: "A failover of a database without the table for commit markers. Where the standby was synchronous, \
            nothing is lost; where it was not, the last commits before the failover may be.",
        safe: "What is known to be lost is named by VOTUM-1407, one by one; what is known to be there is not \
            counted here. Transactions go on.",
        remedy: "Compare the last transactions before the failover with the other databases: `votumctl list` names \
            them. `votumctl install --commit-marker` makes the next failover's losses known for certain. When they \
            were compared, `votumctl acknowledge --participant NAME --timeline NUMBER --reason TEXT --yes` ends the \
            alarm and keeps who said so and why; after the next failover it comes again. By itself it ends when \
            the log has forgotten those commits (its retention).",
    },
];
