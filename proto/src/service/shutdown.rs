//! Being told to stop: SIGTERM or SIGINT once asks for an orderly end, a second one ends the process at once.

use std::io;

use futures::future::{Either, select};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::runtime::Seams;

/// Resolves when the process is asked to stop. Clones see the same request.
#[derive(Debug, Clone)]
pub struct Shutdown {
    requested: watch::Receiver<bool>,
}

/// Asks for the stop that a [`Shutdown`] waits for. Dropping it asks for nothing.
#[derive(Debug)]
pub struct Trigger {
    requested: watch::Sender<bool>,
}

impl Trigger {
    /// Asks for it.
    pub fn request(&self) {
        self.requested.send_replace(true);
    }
}

impl Shutdown {
    /// One that a test, or a process that embeds a server, triggers itself.
    pub fn manual() -> (Trigger, Self) {
        let (sender, receiver) = watch::channel(false);
        (Trigger { requested: sender }, Self { requested: receiver })
    }

    /// Takes over SIGTERM and SIGINT for this process. A second signal ends it at once with exit code 143 or
    /// 130; nothing is flushed or cleaned up then, as after a crash.
    ///
    /// # Errors
    /// When the system does not let the handlers be installed.
    pub fn on_signals(seams: &Seams) -> io::Result<Self> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let (trigger, shutdown) = Self::manual();
        seams.spawn(async move {
            let code = next(&mut terminate, &mut interrupt).await;
            tracing::info!(signal = code - 128, "asked to stop; a second signal ends the process at once");
            trigger.request();
            let code = next(&mut terminate, &mut interrupt).await;
            tracing::warn!(signal = code - 128, "asked again: ending at once");
            std::process::exit(code);
        });
        Ok(shutdown)
    }

    /// Whether the stop has been asked for.
    pub fn is_requested(&self) -> bool {
        *self.requested.borrow()
    }

    /// Resolves once the stop has been asked for; at once if it already was.
    pub async fn requested(&self) {
        let mut requested = self.requested.clone();
        if requested.wait_for(|requested| *requested).await.is_err() {
            // The trigger is gone, so nobody can ask any more.
            std::future::pending::<()>().await;
        }
    }
}

/// The exit code that belongs to the next signal.
async fn next(terminate: &mut Signal, interrupt: &mut Signal) -> i32 {
    let terminated = std::pin::pin!(terminate.recv());
    let interrupted = std::pin::pin!(interrupt.recv());
    let kind = match select(terminated, interrupted).await {
        Either::Left(_) => SignalKind::terminate(),
        Either::Right(_) => SignalKind::interrupt(),
    };
    128 + kind.as_raw_value()
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::process::{Child, Command, Stdio};

    use super::*;

    #[tokio::test]
    async fn a_request_is_seen_by_all_clones_before_and_after() {
        let (trigger, shutdown) = Shutdown::manual();
        let waiting = shutdown.clone();
        assert!(!shutdown.is_requested());
        let ((), ()) = futures::join!(waiting.requested(), async { trigger.request() });
        shutdown.requested().await;
        assert!(shutdown.is_requested());
    }

    fn send(signal: &str, child: &Child) {
        let sent = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Signals are sent to a child of the test: the ignored test below, in its own process.
    #[test]
    fn a_second_signal_ends_the_process_at_once() {
        for (signal, code) in [("-TERM", 143), ("-INT", 130)] {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["--ignored", "--exact", "--nocapture"])
                .arg("service::shutdown::tests::child_waits_for_signals")
                .env("VOTUM_TEST_CHILD", "1")
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            let mut wait_for = |word: &str| assert!(lines.any(|line| line.unwrap().contains(word)), "{word}");
            wait_for("ready");
            send("-TERM", &child);
            wait_for("requested");
            send(signal, &child);
            assert_eq!(child.wait().unwrap().code(), Some(code));
        }
    }

    #[tokio::test]
    #[ignore = "run by a_second_signal_ends_the_process_at_once"]
    async fn child_waits_for_signals() {
        if std::env::var_os("VOTUM_TEST_CHILD").is_none() {
            return;
        }
        let shutdown = Shutdown::on_signals(&Seams::production()).unwrap();
        println!("ready");
        shutdown.requested().await;
        println!("requested");
        std::future::pending::<()>().await;
    }
}
