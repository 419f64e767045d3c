//! The end of a branch that was not prepared: its session is rolled back before anybody hears of it.

use std::sync::Arc;
use std::time::Duration;

use tracing::Instrument as _;
use votum_proto::runtime::Backoff;
use votum_proto::v1;
use votum_proto::v1::agent_message::Kind as Message;

use super::{Command, Host, PATIENCE};
use crate::agent::{Inner, Participant};
use crate::branch::{Ending, no};
use crate::crash::{self, CrashPoint};
use crate::database::BackendId;
use crate::errors::ExecuteError;
use crate::sessions::Leased;

impl Host {
    /// Gives back a session whose transaction has ended well.
    pub(super) fn release(&self, leased: Leased) {
        if !self.cancelled {
            leased.give_back();
        }
    }

    /// Ends an unprepared branch.
    pub(super) async fn end(&mut self, ending: Ending) {
        tracing::info!(reason = %ending.reason.message, "the branch ends");
        if let Some(leased) = self.session.take() {
            self.roll_back(leased).await;
        }
        let preparing = self.branch.standing().gid.is_some();
        {
            let mut registry = self.agent.lock();
            let vote = no(ending.reason.clone());
            if preparing {
                self.participant.counts.voted(&vote);
            }
            self.branch.settle(|standing| standing.vote = Some(vote));
            registry.retire(&self.branch);
            if preparing {
                registry.report_vote(&self.branch);
            } else if ending.report {
                registry.report(
                    &self.branch.gtid,
                    Message::SessionLost(v1::SessionLost {
                        gtid: self.branch.gtid.to_string(),
                        participant: self.branch.participant.to_string(),
                        session: Some(self.branch.session.into()),
                        reason: Some(ending.reason.clone()),
                    }),
                );
            }
        }
        if preparing {
            crash::here(CrashPoint::VoteSent);
        }
        self.turn_away(&ending);
    }

    /// Answers what was queued behind the end.
    pub(super) fn turn_away(&mut self, ending: &Ending) {
        self.commands.close();
        let error = ExecuteError::BranchLost {
            reason: ending.reason.message.clone(),
            retryable: ending.reason.retryable,
        };
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Execute(execute) => self.refuse(&execute.client, &error),
                Command::Prepare(_) => self.agent.send_vote(&self.branch),
                // Who ordered it finds the branch settled.
                Command::CommitOnePhase => {}
            }
        }
    }

    /// Rolls back, so that its locks are free before anybody hears of the end.
    pub(super) async fn roll_back(&self, mut leased: Leased) {
        if !leased.session.is_lost() {
            let rolling_back = leased.session.roll_back();
            match self.agent.seams.clock.timeout(PATIENCE, rolling_back).await {
                Ok(Ok(())) => return self.release(leased),
                Ok(Err(error)) => tracing::warn!(%error, "the session's rollback failed"),
                Err(_) => tracing::warn!("the session does not answer: its server process is ended"),
            }
        }
        // The server notices a lost connection late, while it waits for a lock for example.
        let backend = leased.session.backend();
        drop(leased);
        let (agent, participant) = (Arc::clone(&self.agent), Arc::clone(&self.participant));
        self.agent
            .seams
            .spawn(async move { end_backend(&agent, &participant, &backend, 8).await }.in_current_span());
    }

    /// Ends the server process of a connection that broke during PREPARE, however long that takes: until it
    /// is gone, nobody knows whether the gid will turn up.
    pub(super) async fn end_backend(&self, backend: &BackendId) {
        end_backend(&self.agent, &self.participant, backend, u32::MAX).await;
    }

    /// Settles a branch whose server process is gone.
    pub(super) fn close(&self) {
        let mut registry = self.agent.lock();
        self.branch.settle(|_| {});
        registry.retire(&self.branch);
        drop(registry);
        self.participant.sweep_now();
    }
}

async fn end_backend(agent: &Inner, participant: &Participant, backend: &BackendId, attempts: u32) {
    let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(5));
    for _ in 0..attempts {
        match participant.database.end_backend(backend).await {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => tracing::debug!(%error, pid = backend.pid, "cannot end a server process yet"),
        }
        agent.seams.clock.sleep(backoff.delay(&*agent.seams.entropy)).await;
    }
}
