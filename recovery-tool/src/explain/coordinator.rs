//! What the coordinator says of itself, and what it refuses.

use super::Page;

pub(super) const PAGES: &[Page] = &[
    Page {
        code: "VOTUM-1001",
        title: "a restart has settled what earlier lives left",
        meaning: "Every branch that was in doubt when the coordinator stopped has been committed or rolled \
            back as the log says, or has departed from it. The line counts them, says how long it took, and \
            names the participants where branches departed, if any did: such a branch was decided commit and \
            ended otherwise, or nobody can say how it ended. It is never counted as committed.",
        cause: "A start of the coordinator.",
        safe: "Everything that the line counts as committed or rolled back ended as the log says.",
        remedy: "There is nothing to do, unless `departed` names a participant: then see `votumctl explain \
            VOTUM-1407`.",
    },
    Page {
        code: "VOTUM-1201",
        title: "a request cannot be carried out as it stands",
        meaning: "The request is malformed, beyond a bound, or contradicts what is known of the transaction. A \
            resolution that contradicts a decision ends here too.",
        cause: "A mistake in the client, or a gid or gtid that was mistyped.",
        safe: "Nothing was done.",
        remedy: "Read the sentence: it names the field, the bound or the contradiction. The same request will \
            be refused again.",
    },
    Page {
        code: "VOTUM-1202",
        title: "the secret shown is not the transaction's",
        meaning: "Whoever asked did not begin this transaction, or mixed up two of them.",
        cause: "A client that passes the gtid on without its secret.",
        safe: "Nothing was done: the transaction is as it was.",
        remedy: "Hand a transaction over with its export, which carries the secret.",
    },
    Page {
        code: "VOTUM-1203",
        title: "the coordinator cannot answer now",
        meaning: "Its log is still being counted, is stale or unreadable, or it is stopping. It says so rather \
            than guess.",
        cause: "A restart that is a moment old, or one of VOTUM-1401 and VOTUM-1408.",
        safe: "Nothing was done, and nothing is answered that might turn out wrong.",
        remedy: "Try again. If it lasts longer than a minute, look at `votumctl status`.",
    },
    Page {
        code: "VOTUM-1204",
        title: "no such transaction was ever begun here",
        meaning: "The number lies beyond those that this coordinator has handed out, or the gtid is another \
            coordinator's.",
        cause: "A mistyped gtid, or a question to the wrong coordinator.",
        safe: "Nothing was done.",
        remedy: "Compare the coordinator_id in the gtid with that of `votumctl status`.",
    },
    Page {
        code: "VOTUM-1205",
        title: "the idempotency key is in use by a live transaction",
        meaning: "The same work is under way, so it is not begun a second time.",
        cause: "A retry that overtakes its first attempt.",
        safe: "Nothing was begun: the work is not done twice.",
        remedy: "Wait for the transaction that the message names; ask for it by its gtid.",
    },
    Page {
        code: "VOTUM-1206",
        title: "the work of the idempotency key is committed",
        meaning: "The work was done, and the key keeps it from being done again.",
        cause: "A retry after a reply that was lost.",
        safe: "Nothing was begun: the work is not done twice.",
        remedy: "Take the outcome of the transaction that the message names.",
    },
    Page {
        code: "VOTUM-1207",
        title: "the idempotency key was used for another request",
        meaning: "The parameters differ from those of the first request with this key.",
        cause: "A key that is used for two different things.",
        safe: "Nothing was begun.",
        remedy: "Give each piece of work a key of its own.",
    },
    Page {
        code: "VOTUM-1208",
        title: "too many transactions are live",
        meaning: "The configured limit of undecided transactions is reached, so no more are begun.",
        cause: "More clients than the databases keep up with, or transactions that are left open.",
        safe: "Transactions that were begun go on.",
        remedy: "Try again later. `votumctl list --state active` shows who holds them; `max_transactions` is \
            the limit.",
    },
    Page {
        code: "VOTUM-1209",
        title: "the decision log failed",
        meaning: "This coordinator answers nothing more until it is restarted; one that is embedded in an \
            application, until its directory is opened again.",
        cause: "A full or failing disk: see VOTUM-1114.",
        safe: "What was acknowledged before is on disk. Nothing is told that might not be.",
        remedy: "Repair the disk, restart the coordinator (where it is embedded: shut it down and open its \
            directory again), and ask again: the answer is then read from the log.",
    },
    Page {
        code: "VOTUM-1210",
        title: "a whole transaction was not begun",
        meaning: "A transaction that came in one request could not be begun, and nothing of it was done.",
        cause: "As VOTUM-1203; or the agent of one of its participants is not connected, or is of a version that \
            takes no whole transactions.",
        safe: "Nothing was begun: the same request may be sent again, with or without an idempotency key.",
        remedy: "Try again later; clients of ours do. `votumctl status` shows which agents are connected.",
    },
    Page {
        code: "VOTUM-1211",
        title: "a whole transaction is for another life of the coordinator",
        meaning: "The request names the life of the coordinator that is to carry it out, and that is over.",
        cause: "The coordinator was restarted since its client heard of it last. A request that was under way then \
            may have been carried out before.",
        safe: "This request was not carried out, and is not carried out any more.",
        remedy: "Clients of ours repeat it for the present life where that is safe: under an idempotency key, or \
            where no earlier request is open. Otherwise look what became of the work.",
    },
    Page {
        code: "VOTUM-1212",
        title: "a transaction would wait too long",
        meaning: "Those that wait at a participant already take longer than a transaction may wait \
            (`limits.max_wait_ms`, or its own timeout): for a whole transaction by the pace at which it has voted \
            lately, for one that is only begun by how long branches wait for a session there, as its agent says.",
        cause: "More transactions than the database carries out; or it stands still, for example behind a lock.",
        safe: "Nothing was begun. Transactions that were begun go on.",
        remedy: "Try again after the time that the answer names (`google.rpc.RetryInfo`); clients of ours do, for as \
            long as their budget lasts. Where it lasts, send less, or look at the participant that it names.",
    },
];
