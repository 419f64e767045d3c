//! Calls to what is within this process: straight to the handler that answers a server's clients.

use std::sync::{Arc, Weak};

use tokio::sync::mpsc;
use tonic::{Code, Status};
use votum_proto::calls::{self, Handler, Part};
use votum_proto::error;
use votum_proto::v1;
use votum_proto::v1::call::Request;
use votum_proto::v1::execute_response::Part as Piece;
use votum_proto::v1::reply::Kind;

use crate::calls::Answer;

/// The coordinator's log failed: a stable code of the coordinator's.
const LOG_FAILED: &str = "VOTUM-1209";
/// Nothing can be asked now: a stable code of the coordinator's.
const UNAVAILABLE: &str = "VOTUM-1203";
/// How many parts of a reply are taken at once.
const PARTS: usize = 32;

/// Starts a call.
type Start = dyn Fn(Request) -> calls::Answer + Send + Sync;

/// What answers calls; dropped when that is shut down.
pub(super) type Serve = Arc<Start>;

/// The way there, which may be held for longer.
pub(crate) struct Here(Weak<Start>);

/// What asks `handler`.
pub(super) fn serving<H: Handler>(handler: Arc<H>) -> Serve {
    Arc::new(move |request| handler.call(request))
}

impl Here {
    /// Asks `serve` for as long as it is there.
    pub(super) fn new(serve: &Serve) -> Self {
        Self(Arc::downgrade(serve))
    }

    /// The call's answer. The work goes on where nobody waits for it.
    pub(crate) async fn ask(&self, request: Request) -> Answer {
        let Some(answer) = self.0.upgrade().map(|serve| serve(request)) else {
            let why = "this coordinator was shut down: open its directory again";
            return Answer { parts: Vec::new(), last: Err(refused(UNAVAILABLE, why)) };
        };
        match answer {
            calls::Answer::One(reply) => Answer { parts: Vec::new(), last: reply.await.map_err(for_good) },
            calls::Answer::Parts(parts) => gather(parts).await,
        }
    }
}

/// A statement's reply to its end.
async fn gather(mut coming: mpsc::Receiver<Part>) -> Answer {
    let (mut parts, mut came) = (Vec::new(), Vec::new());
    while coming.recv_many(&mut came, PARTS).await > 0 {
        for part in came.drain(..) {
            match part {
                Ok(part) if matches!(part.part, Some(Piece::Finished(_))) => {
                    return Answer { parts, last: Ok(Kind::Execute(part)) };
                }
                Ok(part) => parts.push(part),
                Err(status) => return Answer { parts, last: Err(status) },
            }
        }
    }
    Answer { parts, last: Err(Status::unavailable("the agent ended before it answered")) }
}

/// A server whose log failed is started again by whoever watches over it, and asking again helps. Here nobody
/// does that meanwhile (I11).
fn for_good(status: Status) -> Status {
    match error::detail(&status) {
        Some(detail) if detail.code == LOG_FAILED => {
            let why = "the decision log failed, and nothing more is decided or answered in this epoch. Shut it \
                       down and open its directory again";
            refused(LOG_FAILED, &format!("{why} ({})", status.message()))
        }
        Some(_) | None => status,
    }
}

/// An answer that asking again does not change.
fn refused(code: &str, why: &str) -> Status {
    let detail = v1::ErrorDetail { code: code.to_owned(), ..v1::ErrorDetail::default() };
    error::status(Code::FailedPrecondition, why, &detail)
}
