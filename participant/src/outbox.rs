//! What is to be said on one stream, on its way into frames, in the order in which it was put. Most of it goes
//! out at once. The rest rides with whatever is put next: an enlistment, which the coordinator needs only where
//! a client forgets a branch or vanishes, and the acknowledgement of a commit that nobody waits for. A frame of
//! its own would be a write here and a wake-up there for each branch.
//!
//! The order matters. An acknowledgement that overtook a listing would make that look newer than it is: what
//! the listing shows prepared would seem to have come back.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::{Either, select};
use prost::Message as _;
use tokio::sync::Notify;
use votum_proto::runtime::Seams;
use votum_proto::v1;
use votum_proto::v1::agent_message::Kind as Message;

/// The most messages in one frame.
const FRAME: usize = 512;
/// The most bytes in one frame, unless it is of one message: votes carry the results of whole transactions.
const FRAME_BYTES: usize = 8 << 20;
/// How long a rider waits at most for something to ride with.
const RIDE: Duration = Duration::from_millis(20);

/// Where messages are put. Dropping it ends the stream.
pub(crate) struct Outbox(Arc<Queue>);

/// Where frames come from.
pub(crate) struct Frames {
    queue: Arc<Queue>,
    /// Resolves when riders have waited long enough.
    due: Pin<Box<dyn Future<Output = ()> + Send>>,
    seams: Seams,
}

#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    /// Something is to go out now, or nothing will come any more.
    now: Notify,
    /// A rider came while no timer ran.
    first: Notify,
}

#[derive(Default)]
struct Waiting {
    messages: VecDeque<v1::AgentMessage>,
    /// How many of them, from the front, do not wait: those up to the last that does not ride.
    urgent: usize,
    /// A timer runs, also for those who come while it does: one for each [`RIDE`], not one for each rider.
    timed: bool,
    /// The outbox is gone.
    over: bool,
}

/// The two ends for one stream.
pub(crate) fn outbox(seams: &Seams) -> (Outbox, Frames) {
    let queue = Arc::new(Queue::default());
    let due = due(Arc::clone(&queue), seams.clone());
    let frames = Frames { queue: Arc::clone(&queue), due, seams: seams.clone() };
    (Outbox(queue), frames)
}

fn due(queue: Arc<Queue>, seams: Seams) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        queue.first.notified().await;
        seams.clock.sleep(RIDE).await;
        let mut waiting = queue.waiting();
        waiting.timed = false;
        waiting.urgent = waiting.messages.len();
    })
}

impl Outbox {
    /// Sends a message at once, and with it every rider that was there.
    pub(crate) fn put(&self, message: Message) {
        let mut waiting = self.0.waiting();
        waiting.messages.push_back(v1::AgentMessage { kind: Some(message) });
        waiting.urgent = waiting.messages.len();
        drop(waiting);
        self.0.now.notify_one();
    }

    /// Sends a message with what is put next, or after [`RIDE`].
    pub(crate) fn put_by_the_way(&self, message: Message) {
        let mut waiting = self.0.waiting();
        waiting.messages.push_back(v1::AgentMessage { kind: Some(message) });
        if !std::mem::replace(&mut waiting.timed, true) {
            self.0.first.notify_one();
        }
    }

    /// Sends what rides at once: nothing comes any more that it could ride with.
    pub(crate) fn hurry(&self) {
        let mut waiting = self.0.waiting();
        waiting.urgent = waiting.messages.len();
        drop(waiting);
        self.0.now.notify_one();
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.0.waiting().over = true;
        self.0.now.notify_one();
    }
}

impl Queue {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Frames {
    /// The next frame; `None` when the outbox is gone and what was urgent has gone out.
    pub(crate) async fn next(&mut self) -> Option<v1::AgentFrame> {
        loop {
            let over = {
                let mut waiting = self.queue.waiting();
                if waiting.urgent > 0 {
                    return Some(waiting.frame());
                }
                waiting.over
            };
            if over {
                return None;
            }
            let now = std::pin::pin!(self.queue.now.notified());
            if let Either::Right(_) = select(now, &mut self.due).await {
                self.due = due(Arc::clone(&self.queue), self.seams.clone());
            }
        }
    }
}

impl Waiting {
    /// What is urgent, and riders behind it for which there is room.
    fn frame(&mut self) -> v1::AgentFrame {
        let mut bytes = 0;
        let fits = |message: &&v1::AgentMessage| {
            bytes += message.encoded_len();
            bytes <= FRAME_BYTES
        };
        let fitting = self.messages.iter().take(FRAME).take_while(fits).count();
        let taken = fitting.max(1).min(self.messages.len());
        self.urgent = self.urgent.saturating_sub(taken);
        v1::AgentFrame { messages: self.messages.drain(..taken).collect(), ..Default::default() }
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
        outbox.put_by_the_way(enlisted("a"));
        outbox.put_by_the_way(enlisted("b"));
        outbox.put(lost("a"));
        assert_eq!(next(&mut frames).await, [enlisted("a"), enlisted("b"), lost("a")]);
        outbox.put(lost("b"));
        assert_eq!(next(&mut frames).await, [lost("b")]);
    }

    #[tokio::test]
    async fn what_rides_overtakes_nothing() {
        let (outbox, mut frames) = outbox(&Seams::production());
        outbox.put(lost("a"));
        outbox.put_by_the_way(enlisted("b"));
        assert_eq!(next(&mut frames).await, [lost("a"), enlisted("b")]);
        outbox.put_by_the_way(enlisted("c"));
        outbox.put(lost("c"));
        outbox.put_by_the_way(enlisted("d"));
        assert_eq!(next(&mut frames).await, [enlisted("c"), lost("c"), enlisted("d")]);
    }

    #[tokio::test]
    async fn more_than_one_frame_holds_goes_out_in_several() {
        let (outbox, mut frames) = outbox(&Seams::production());
        let all: Vec<Message> = (0..=FRAME).map(|n| lost(&n.to_string())).collect();
        all.iter().cloned().for_each(|message| outbox.put(message));
        drop(outbox);
        let first = next(&mut frames).await;
        assert_eq!(first.len(), FRAME);
        assert_eq!([first, next(&mut frames).await].concat(), all);
        assert!(frames.next().await.is_none());
    }

    #[tokio::test]
    async fn large_messages_go_out_in_several_frames() {
        let (outbox, mut frames) = outbox(&Seams::production());
        let large = || lost(&"x".repeat(FRAME_BYTES / 2));
        (0..3).for_each(|_| outbox.put(large()));
        outbox.put(lost(&"x".repeat(FRAME_BYTES * 2)));
        drop(outbox);
        for messages in [1, 1, 1, 1] {
            assert_eq!(next(&mut frames).await.len(), messages);
        }
        assert!(frames.next().await.is_none());
    }

    #[tokio::test]
    async fn what_rides_goes_out_before_the_end_when_it_is_hurried() {
        let (outbox, mut frames) = outbox(&Seams::production());
        outbox.put_by_the_way(enlisted("a"));
        outbox.hurry();
        drop(outbox);
        assert_eq!(next(&mut frames).await, [enlisted("a")]);
        assert!(frames.next().await.is_none());
    }

    #[tokio::test]
    async fn an_enlistment_that_finds_nothing_to_ride_with_goes_out_alone_again_and_again() {
        let seams = Seams::production();
        let (outbox, mut frames) = outbox(&seams);
        for gtid in ["a", "b", "c"] {
            let put = seams.clock.now();
            outbox.put_by_the_way(enlisted(gtid));
            assert_eq!(next(&mut frames).await, [enlisted(gtid)]);
            assert!(seams.clock.now().since(put) >= RIDE);
        }
        drop(outbox);
        assert!(frames.next().await.is_none());
    }
}
