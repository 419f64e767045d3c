//! What is to be said on one stream, on its way into frames. Most of it goes out at once. An enlistment rides
//! with whatever goes out next: the coordinator needs it only where a client forgets a branch or vanishes, and
//! a frame of its own would be a write here and a wake-up there for each branch.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::{Either, select};
use tokio::sync::{Notify, mpsc};
use votum_proto::runtime::Seams;
use votum_proto::v1;
use votum_proto::v1::agent_message::Kind as Message;

/// The most messages in one frame, besides those that ride.
const FRAME: usize = 256;
/// How long an enlistment waits at most for something to ride with.
const RIDE: Duration = Duration::from_millis(20);

/// Where messages are put. Dropping it ends the stream.
pub(crate) struct Outbox {
    urgent: mpsc::UnboundedSender<v1::AgentMessage>,
    riders: Arc<Riders>,
}

/// Where frames come from.
pub(crate) struct Frames {
    urgent: mpsc::UnboundedReceiver<v1::AgentMessage>,
    riders: Arc<Riders>,
    /// Resolves when riders have waited long enough.
    due: Pin<Box<dyn Future<Output = ()> + Send>>,
    seams: Seams,
}

#[derive(Default)]
struct Riders {
    waiting: Mutex<Waiting>,
    first: Notify,
}

#[derive(Default)]
struct Waiting {
    messages: Vec<v1::AgentMessage>,
    /// A timer runs, also for those who come while it does: one for each [`RIDE`], not one for each rider.
    timed: bool,
}

/// The two ends for one stream.
pub(crate) fn outbox(seams: &Seams) -> (Outbox, Frames) {
    let (urgent, receiver) = mpsc::unbounded_channel();
    let riders = Arc::new(Riders::default());
    let due = due(Arc::clone(&riders), seams.clone());
    let frames = Frames { urgent: receiver, riders: Arc::clone(&riders), due, seams: seams.clone() };
    (Outbox { urgent, riders }, frames)
}

fn due(riders: Arc<Riders>, seams: Seams) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        riders.first.notified().await;
        seams.clock.sleep(RIDE).await;
    })
}

impl Outbox {
    /// Sends a message, in the order in which this is called: a rider goes out before what comes after it.
    pub(crate) fn put(&self, message: Message) {
        let rides = matches!(message, Message::Enlisted(_));
        let message = v1::AgentMessage { kind: Some(message) };
        if !rides {
            let _ = self.urgent.send(message);
            return;
        }
        let mut waiting = self.riders.waiting();
        waiting.messages.push(message);
        if !std::mem::replace(&mut waiting.timed, true) {
            self.riders.first.notify_one();
        }
    }
}

impl Riders {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Frames {
    /// The next frame; `None` when the outbox is gone.
    pub(crate) async fn next(&mut self) -> Option<v1::AgentFrame> {
        loop {
            let urgent = match select(std::pin::pin!(self.urgent.recv()), &mut self.due).await {
                Either::Left((first, _)) => Some(first?),
                Either::Right(((), _)) => None,
            };
            if let Some(first) = urgent {
                return Some(self.frame(first));
            }
            self.due = due(Arc::clone(&self.riders), self.seams.clone());
            let mut waiting = self.riders.waiting();
            waiting.timed = false;
            let messages = std::mem::take(&mut waiting.messages);
            if !messages.is_empty() {
                return Some(v1::AgentFrame { messages });
            }
        }
    }

    /// What rides, then what is there to be said.
    fn frame(&mut self, first: v1::AgentMessage) -> v1::AgentFrame {
        let mut urgent = vec![first];
        while urgent.len() < FRAME
            && let Ok(next) = self.urgent.try_recv()
        {
            urgent.push(next);
        }
        // Taken last, so that none stays behind that was put before one of these.
        let mut messages = std::mem::take(&mut self.riders.waiting().messages);
        messages.append(&mut urgent);
        v1::AgentFrame { messages }
    }
}

#[cfg(test)]
mod tests {
    use votum_proto::runtime::Seams;

    use super::*;

    fn enlisted(gtid: &str) -> Message {
        Message::Enlisted(v1::Enlisted { gtid: gtid.into(), ..Default::default() })
    }

    fn lost(gtid: &str) -> Message {
        Message::SessionLost(v1::SessionLost { gtid: gtid.into(), ..Default::default() })
    }

    async fn next(frames: &mut Frames) -> Vec<Message> {
        let clock = Seams::production().clock;
        let frame =
            clock.timeout(Duration::from_secs(30), frames.next()).await.expect("no frame within 30 s");
        frame.unwrap().messages.into_iter().filter_map(|message| message.kind).collect()
    }

    #[tokio::test]
    async fn an_enlistment_rides_with_what_goes_out_next_and_before_it() {
        let (outbox, mut frames) = outbox(&Seams::production());
        outbox.put(enlisted("a"));
        outbox.put(enlisted("b"));
        outbox.put(lost("a"));
        assert_eq!(next(&mut frames).await, [enlisted("a"), enlisted("b"), lost("a")]);
        outbox.put(lost("b"));
        assert_eq!(next(&mut frames).await, [lost("b")]);
    }

    #[tokio::test]
    async fn an_enlistment_that_finds_nothing_to_ride_with_goes_out_alone_again_and_again() {
        let seams = Seams::production();
        let (outbox, mut frames) = outbox(&seams);
        for gtid in ["a", "b", "c"] {
            let put = seams.clock.now();
            outbox.put(enlisted(gtid));
            assert_eq!(next(&mut frames).await, [enlisted(gtid)]);
            assert!(seams.clock.now().since(put) >= RIDE);
        }
        drop(outbox);
        assert!(frames.next().await.is_none());
    }
}
