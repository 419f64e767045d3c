//! What is known of a transaction, and answered about it: gathered here, judged by the protocol.

use std::sync::Arc;

use votum_coordinator::log::TransactionHistory;
use votum_coordinator::protocol::knowledge::{Became, Known, Readable};
use votum_coordinator::protocol::lives::Witness;
use votum_coordinator::protocol::record::Decision;
use votum_coordinator::protocol::standing::Standing;
use votum_proto::names::Gtid;

use super::state::{ACME, Entry, Said, State};

/// What a question is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Said(Said),
    InProgress,
    Unavailable,
    /// It never was, or is no longer known.
    Forgotten,
}

impl State {
    /// The log's history of a transaction; nothing before the log is counted.
    pub(crate) fn history(&self, gtid: &Gtid) -> TransactionHistory {
        let mut history = TransactionHistory::default();
        if self.coordinator.as_ref().is_some_and(|coordinator| coordinator.counted) {
            for record in self.log.records_of(gtid) {
                history.add(0, 0, record.clone());
            }
        }
        history
    }

    pub(crate) fn known<'a>(&'a self, gtid: &Gtid, history: &'a TransactionHistory) -> Known<'a> {
        let coordinator = self.coordinator.as_ref().unwrap();
        Known {
            coordinator_id: &ACME,
            lives: &coordinator.lives,
            readable: if coordinator.counted { Readable::Whole } else { Readable::Journal },
            stale: coordinator.stale.then_some("a witness saw more of it"),
            // The driver waits for every agent; the model judges without that wait, which is the harder case.
            unheard: None,
            live: coordinator.live.get(gtid).map(|live| &live.transaction),
            history,
        }
    }

    /// What is answered about a transaction now; `None` while the coordinator is down.
    pub(crate) fn answer(&self, gtid: &Gtid) -> Option<Answer> {
        let coordinator = self.coordinator.as_ref()?;
        let standing = coordinator.live.get(gtid).map(|live| live.transaction.standing());
        if let Some(said) = standing.as_ref().and_then(said).or(coordinator.recent.get(gtid).copied()) {
            return Some(Answer::Said(said));
        }
        let history = self.history(gtid);
        let present = (coordinator.life, coordinator.next_seq);
        Some(match self.known(gtid, &history).became(gtid, present, &|| Ok(None)) {
            Became::Recorded => match history.decided.unwrap().decision {
                Decision::Commit => Answer::Said(Said::Committed),
                Decision::Abort(_) => Answer::Said(Said::Aborted),
            },
            Became::PresumedAborted => Answer::Said(Said::Aborted),
            Became::Live => Answer::InProgress,
            Became::Unproven(_) => Answer::Unavailable,
            Became::UnknownLife
            | Became::NeverBegun
            | Became::Delegated
            | Became::Expired
            | Became::BeyondLease => Answer::Forgotten,
        })
    }

    /// An independent look at the witness: whether it saw more of this log than there is.
    pub(crate) fn note_proof(&mut self, witness: Option<Witness>) {
        let Some(Witness { life, position }) = witness else { return };
        let begun = self.log.durable.iter().position(|entry| *entry == Entry::Life(life));
        let end = begun.map(|begun| {
            let later = self.log.durable.iter().skip(begun + 1);
            let length = later.take_while(|entry| matches!(entry, Entry::Record(_))).count();
            (begun + 1 + length) as u64
        });
        if end.is_none_or(|end| position > end) {
            Arc::make_mut(&mut self.seen).proof_shown = true;
        }
    }
}

/// What a standing outcome says.
pub(crate) fn said(standing: &Standing) -> Option<Said> {
    match standing {
        Standing::InProgress(_) => None,
        Standing::Committed { .. } => Some(Said::Committed),
        Standing::Aborted(_) => Some(Said::Aborted),
        Standing::ReadOnly => Some(Said::ReadOnly),
    }
}
