//! The same transfers through Votum: Begin, a statement at every bank at once, Commit.

use futures::future::join_all;
use votum_client::{Outcome, Votum};

use crate::installation::BankAddress;
use crate::transfer::{Ended, Leg, MOVE};

/// One worker. All workers share the connections of one client, as those of an application do.
pub(crate) struct Hosted {
    votum: Votum,
    participants: Vec<String>,
}

impl Hosted {
    /// A worker of `votum`.
    pub(crate) fn new(votum: Votum, banks: &[BankAddress]) -> Self {
        Self { votum, participants: banks.iter().map(|bank| bank.participant.clone()).collect() }
    }

    /// Carries out one transfer.
    pub(crate) async fn transfer(&self, legs: &[Leg]) -> Ended {
        let tx = match self.votum.begin().await {
            Ok(tx) => tx,
            Err(error) => return Ended::NotCommitted(error.to_string()),
        };
        let branches = self.participants.iter().zip(legs).map(|(participant, leg)| {
            let parameters = [leg.amount.into(), leg.account.into()];
            let tx = &tx;
            async move { tx.execute(participant, MOVE, &parameters).await }
        });
        let updated = join_all(branches).await.into_iter().collect::<Result<Vec<_>, _>>();
        let refused = match updated {
            Ok(rows) if rows.iter().all(|&rows| rows == 1) => None,
            Ok(rows) => Some(format!("the accounts are {rows:?} rows")),
            Err(error) => Some(error.to_string()),
        };
        if let Some(reason) = refused {
            // What was not rolled back now is so at its timeout.
            let _ = tx.rollback().await;
            return Ended::NotCommitted(reason);
        }
        match tx.commit().await {
            Ok(Outcome::Committed(_) | Outcome::ReadOnly) => Ended::Committed,
            Ok(Outcome::Aborted(abort)) => Ended::NotCommitted(abort.to_string()),
            Ok(Outcome::Unknown { detail, .. }) => Ended::Unknown(detail),
            Err(error) => Ended::Unknown(error.to_string()),
        }
    }
}
