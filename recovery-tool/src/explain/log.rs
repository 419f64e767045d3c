//! The decision log: why it is not opened, or no longer written.

use super::Page;

pub(super) const PAGES: &[Page] = &[
    Page {
        code: "VOTUM-1101",
        title: "there is no log in the directory",
        meaning: "The directory is missing, empty, or its initialization was interrupted. A log begun by \
            mistake would presume every transaction in doubt aborted, so none is begun unless told to.",
        cause: "A wrong `directory` in the configuration, a volume that is not mounted, or a coordinator \
            that was never initialized.",
        safe: "Nothing was written and nothing was decided. Prepared branches stay prepared, with their \
            locks, until a coordinator opens the right log.",
        remedy: "Check the directory and its mount. Only for a coordinator that never ran: `votum-coordinator \
            init`.",
    },
    Page {
        code: "VOTUM-1102",
        title: "a new log was to be begun in a directory that is not empty",
        meaning: "Something is there already, and a new log must never be laid over an old one.",
        cause: "`init` was run twice, or in the wrong directory.",
        safe: "What is in the directory was not touched.",
        remedy: "Choose an empty directory, or look at what is in this one with `votumctl log verify \
            --directory DIR` before it is moved away.",
    },
    Page {
        code: "VOTUM-1103",
        title: "another process has the log open",
        meaning: "Two coordinators on one log would decide against each other, so the second one stops.",
        cause: "The coordinator runs already, or a tool reads the directory of a running one.",
        safe: "Nothing was written and nothing was decided. Prepared branches stay prepared, with their \
            locks, until a coordinator opens the right log.",
        remedy: "Stop the other process, or configure another directory. To read the log of a running \
            coordinator, leave --directory out, or copy the directory first.",
    },
    Page {
        code: "VOTUM-1104",
        title: "the operating system refused to read or write the log",
        meaning: "The log cannot be trusted until the disk works.",
        cause: "A full disk, missing permissions, or a failing device.",
        safe: "Nothing was written and nothing was decided. Prepared branches stay prepared, with their \
            locks, until a coordinator opens the right log.",
        remedy: "Repair the disk, its space or its permissions, then start again. The message names the file \
            and the error.",
    },
    Page {
        code: "VOTUM-1105",
        title: "a file of the log is missing",
        meaning: "Decisions that were forced to disk may be in that file.",
        cause: "An incomplete copy or restore, or a file that somebody removed.",
        safe: "Nothing was written and nothing was decided. Prepared branches stay prepared, with their \
            locks, until a coordinator opens the right log.",
        remedy: "Put the file back, or restore the whole directory from one backup. `votumctl log salvage` \
            lists every record that is still intact.",
    },
    Page {
        code: "VOTUM-1106",
        title: "a file of the log is shorter than it was",
        meaning: "Decisions that were forced to disk stood in the part that is gone.",
        cause: "An incomplete copy or restore, or a file system that lost data.",
        safe: "Nothing was written and nothing was decided. Prepared branches stay prepared, with their \
            locks, until a coordinator opens the right log.",
        remedy: "Restore the whole directory from one backup. `votumctl log salvage` lists every record that \
            is still intact.",
    },
    Page {
        code: "VOTUM-1107",
        title: "bytes of the log are not what was written",
        meaning: "Decisions that were forced to disk can no longer be read there. A torn last batch is not \
            this: that is expected after a crash, and harmless.",
        cause: "A failing disk, memory or file system, or a file that was edited.",
        safe: "Nothing was written and nothing was decided. Prepared branches stay prepared, with their \
            locks, until a coordinator opens the right log.",
        remedy: "Keep a copy of the directory. Restore it from a backup; `votumctl log salvage` lists every \
            record that is still intact.",
    },
    Page {
        code: "VOTUM-1108",
        title: "the two halves of the journal do not belong together",
        meaning: "They are not of one log at one time: one of them was replaced.",
        cause: "A restore of single files, or two backups mixed.",
        safe: "Nothing was written and nothing was decided. Prepared branches stay prepared, with their \
            locks, until a coordinator opens the right log.",
        remedy: "Put the right file back, or restore the whole directory from one backup. `votumctl log \
            salvage` lists every record that is intact.",
    },
    Page {
        code: "VOTUM-1109",
        title: "the log belongs to another coordinator",
        meaning: "Its decisions say nothing about this coordinator's transactions.",
        cause: "A wrong `coordinator_id` or `directory` in the configuration.",
        safe: "Nothing was written and nothing was decided. Prepared branches stay prepared, with their \
            locks, until a coordinator opens the right log.",
        remedy: "Correct coordinator_id or the directory in the configuration.",
    },
    Page {
        code: "VOTUM-1110",
        title: "the log was written by a newer version",
        meaning: "Reading on would skip a record, and a record skipped is a decision lost.",
        cause: "An older version of Votum was started after an upgrade.",
        safe: "Nothing was written and nothing was decided. Prepared branches stay prepared, with their \
            locks, until a coordinator opens the right log.",
        remedy: "Start the version of Votum that wrote this log, or a newer one.",
    },
    Page {
        code: "VOTUM-1111",
        title: "the log's store cannot be opened or read",
        meaning: "Decisions still owed are delivered from the journal. Of everything else absence means \
            nothing, so nothing is presumed aborted and nothing is begun.",
        cause: "A disk without room, or one that failed for a moment; or a damaged file of the store: a \
            failing disk, or an incomplete copy.",
        safe: "Commits that were decided go on being delivered. No branch is rolled back for want of a \
            record.",
        remedy: "See that the disk can be read and has room, and start again. If that does not help, stop the \
            coordinator, keep a copy of the directory, and restore the whole directory from one backup. \
            `votumctl log verify` names what is wrong.",
    },
    Page {
        code: "VOTUM-1112",
        title: "the log's store lacks records",
        meaning: "The store does not hold what the journal no longer holds, or does not belong to this \
            journal. Decisions still owed are delivered from the journal; nothing is presumed aborted \
            and nothing is begun.",
        cause: "A restore of single files, or a disk that lost what it had acknowledged.",
        safe: "Commits that were decided go on being delivered. No branch is rolled back for want of a \
            record.",
        remedy: "Stop the coordinator, keep a copy of the directory, and restore the whole directory from one \
            backup. `votumctl log verify` names what is wrong.",
    },
    Page {
        code: "VOTUM-1114",
        title: "the decision log failed while it was written",
        meaning: "Nobody knows whether what was written last is on disk, so nothing more is acknowledged in \
            this life of the coordinator. Clients that waited hear UNKNOWN.",
        cause: "A full or failing disk, or a write that did not end within its deadline.",
        safe: "What was acknowledged before is on disk. What was not acknowledged was told to nobody.",
        remedy: "Repair the disk first if it fails again, then restart the coordinator: it reads the disk, \
            and knows.",
    },
];
