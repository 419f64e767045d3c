//! The tasks of one embedded coordinator, which end together: what a process's end does to a server's.

use std::sync::Arc;
use std::time::Duration;

use futures::future::select;
use tokio::sync::watch;
use votum_proto::runtime::{BoxFuture, Clock, Spawn};

/// Spawns tasks, and drops those that are left when it is told to end. Clones are the same group.
#[derive(Clone)]
pub(super) struct Group {
    spawn: Arc<dyn Spawn>,
    /// Each task watches this.
    ended: watch::Sender<bool>,
}

impl Group {
    /// One that spawns by `spawn`.
    pub(super) fn new(spawn: Arc<dyn Spawn>) -> Self {
        Self { spawn, ended: watch::Sender::new(false) }
    }

    /// Ends every task, and waits at most `limit` until none is left: none is in the middle of a step then.
    pub(super) async fn end(&self, clock: &dyn Clock, limit: Duration) {
        self.ended.send_replace(true);
        if clock.timeout(limit, self.ended.closed()).await.is_err() {
            tracing::warn!("some tasks of the embedded coordinator are still in the middle of a step");
        }
    }
}

impl Spawn for Group {
    fn spawn(&self, task: BoxFuture<()>) {
        let mut ended = self.ended.subscribe();
        self.spawn.spawn(Box::pin(async move {
            let end = std::pin::pin!(ended.wait_for(|ended| *ended));
            select(task, end).await;
        }));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use votum_proto::runtime::Seams;

    use super::*;

    struct Counted(Arc<AtomicUsize>);

    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[tokio::test]
    async fn tasks_that_would_never_end_are_gone_when_the_group_has_ended() {
        let seams = Seams::production();
        let group = Group::new(seams.spawn.clone());
        let dropped = Arc::new(AtomicUsize::new(0));
        for _ in 0..10 {
            let counted = Counted(dropped.clone());
            group.spawn(Box::pin(async move {
                std::future::pending::<()>().await;
                drop(counted);
            }));
        }
        tokio::task::yield_now().await;
        group.end(&*seams.clock, Duration::from_secs(30)).await;
        assert_eq!(dropped.load(Ordering::SeqCst), 10);
    }
}
