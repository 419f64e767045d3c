//! What runs while an embedded coordinator is open, and how that ends.

use std::time::Duration;

use futures::future::select;
use tokio::sync::{oneshot, watch};
use votum_coordinator::driver::request::DriverHandle;
use votum_participant::Agent;
use votum_proto::runtime::Seams;

use super::group::Group;
use super::here::Serve;
use crate::Error;

/// How long the driver may take, beyond its grace, to close the log.
const CLOSING: Duration = Duration::from_secs(5);
/// How long operators have to take their answers and hang up; and each task to end its step.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// How an embedded coordinator stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It answers.
    Open,
    /// It has ended, and the directory is free.
    Closed,
    /// It has ended, and the log did not close in time.
    Hangs,
}

/// The application's hold on it. Dropped, it is closed in the background.
pub(crate) struct Running {
    stop: watch::Sender<bool>,
    standing: watch::Receiver<Standing>,
}

/// All that runs.
pub(super) struct Parts {
    pub(super) driver: DriverHandle,
    /// How long undecided transactions may go on at the end.
    pub(super) grace: Duration,
    pub(super) agent: Agent,
    /// The same of open branches.
    pub(super) agent_grace: Duration,
    /// What answers the application's calls.
    pub(super) handlers: [Serve; 2],
    pub(super) operators: Option<Operators>,
    pub(super) tasks: Group,
    pub(super) seams: Seams,
}

/// The server for operators.
pub(super) struct Operators {
    /// Dropped, it ends the server.
    pub(super) stop: oneshot::Sender<()>,
    /// Resolves when it has ended.
    pub(super) ended: oneshot::Receiver<()>,
}

impl Running {
    /// Watches over `parts` until nobody needs them, and ends them.
    pub(super) fn start(parts: Parts) -> Self {
        let stop = watch::Sender::new(false);
        let mut told = stop.subscribe();
        let (standing, seen) = watch::channel(Standing::Open);
        let (driver, seams) = (parts.driver.clone(), parts.seams.clone());
        seams.spawn(async move {
            // An error: everything that could have told was dropped.
            let told = std::pin::pin!(told.wait_for(|told| *told));
            let stopped = std::pin::pin!(driver.stopped());
            select(told, stopped).await;
            standing.send_replace(parts.close().await);
        });
        Self { stop, standing: seen }
    }

    /// See [`Votum::shutdown`](crate::Votum::shutdown).
    pub(crate) async fn shutdown(&self, seams: &Seams) -> Result<(), Error> {
        let begun = seams.clock.now();
        self.stop.send_replace(true);
        let mut standing = self.standing.clone();
        let ended = standing.wait_for(|standing| *standing != Standing::Open).await.map(|standing| *standing);
        match ended {
            Ok(Standing::Closed) => Ok(()),
            // An error: the runtime ends, and with it everything here.
            Ok(Standing::Open | Standing::Hangs) | Err(_) => Err(Error::Unreachable {
                whom: "the embedded log".to_owned(),
                waited: seams.clock.now().since(begun),
                detail: "it did not close; the directory is locked until the disk answers, or until this \
                         process ends"
                    .to_owned(),
            }),
        }
    }
}

impl Parts {
    /// Ends everything, in bounded time.
    async fn close(self) -> Standing {
        let Self { driver, grace, agent, agent_grace, handlers, operators, tasks, seams } = self;
        let clock = &*seams.clock;
        tracing::info!(grace_ms = grace.as_millis(), "closing the embedded coordinator");
        let drained = clock.timeout(grace.saturating_add(CLOSING), driver.drain(grace)).await;
        let standing = if drained.is_ok() { Standing::Closed } else { Standing::Hangs };
        agent.shutdown(agent_grace).await;
        if let Some(Operators { stop, ended }) = operators {
            drop(stop);
            let _ = clock.timeout(LAST_ANSWERS, ended).await;
        }
        // What is still at work would go on for ever: a server's process takes it along.
        drop((driver, agent, handlers));
        tasks.end(clock, LAST_ANSWERS).await;
        match standing {
            Standing::Hangs => tracing::error!(
                "the log did not close in time. What was decided is in it all the same; its directory stays \
                 locked until the disk answers, or until this process ends"
            ),
            Standing::Open | Standing::Closed => {
                tracing::info!("the embedded coordinator is closed; what is prepared stays prepared");
            }
        }
        standing
    }
}
