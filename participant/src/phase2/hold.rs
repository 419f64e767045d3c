//! Lets go of a branch: no order that came before is carried out, or tried again, any more. What is at the
//! database is left to finish; where that lasts, or cannot be known, the coordinator is told that nothing was
//! let go.

use std::sync::Arc;
use std::time::Duration;

use tracing::Instrument as _;
use votum_proto::names::Gid;
use votum_proto::v1;
use votum_proto::v1::agent_message::Kind as Message;
use votum_proto::v1::branch_held::Kind as Held;

use crate::agent::{Inner, Participant};
use crate::registry::{Key, OrderControl, Registry, Stage};

/// How soon the database is asked again who is ending the branch.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

const AT_WORK: &str = "a server process is ending it at this moment, perhaps one whose connection broke";

/// One request to let go of a branch.
#[derive(Debug, Clone)]
pub(crate) struct Hold {
    pub(crate) gid: Gid,
    pub(crate) request: u64,
    /// How long to wait for what is at the database.
    pub(crate) patience: Duration,
}

/// Withdraws what was ordered of the branch, under the lock; what comes later is carried out as always. The
/// answer follows.
pub(crate) fn hold(
    agent: &Arc<Inner>,
    registry: &mut Registry,
    participant: &Arc<Participant>,
    key: Key,
    hold: Hold,
) {
    // No listing that is being taken may show it as it was.
    registry.busy(&key.1, &hold.gid);
    let running = registry.orders.get_mut(&key).map(|slot| {
        slot.queued.clear();
        slot.withdrawn = true;
        slot.control.stop.send_replace(true);
        Arc::clone(&slot.control)
    });
    let span = tracing::info_span!("hold", gtid = %key.0, participant = %key.1);
    let (agent, participant) = (Arc::clone(agent), Arc::clone(participant));
    let seams = agent.seams.clone();
    seams.spawn(
        async move {
            let found = let_go(&agent, &participant, &hold, running).await;
            tracing::info!(gid = %hold.gid, ?found, "asked to let go of the branch");
            let (gtid, at) = key;
            agent.lock().report(
                &gtid,
                Message::Held(v1::BranchHeld {
                    gtid: gtid.to_string(),
                    participant: at.to_string(),
                    gid: hold.gid.to_string(),
                    request: hold.request,
                    kind: Some(found),
                }),
            );
        }
        .instrument(span),
    );
}

fn not_held(reason: impl Into<String>) -> Held {
    Held::NotHeld(v1::NotHeld { reason: reason.into() })
}

async fn let_go(
    agent: &Inner,
    participant: &Participant,
    hold: &Hold,
    running: Option<Arc<OrderControl>>,
) -> Held {
    let clock = &agent.seams.clock;
    if let Some(control) = running {
        let mut stage = control.stage.subscribe();
        let over = async {
            // We hold the sender, so that the wait cannot fail.
            let _ = stage.wait_for(|stage| *stage == Stage::Done).await;
        };
        if clock.timeout(hold.patience, over).await.is_err() {
            return not_held(format!(
                "what ends it has been at the database for more than {} s, and is never cut short there: it may \
                 wait for a synchronous standby; end that wait (votumctl explain VOTUM-2101), or wait",
                hold.patience.as_secs()
            ));
        }
    }
    // Who has just answered may be seen at work for a moment more.
    let mut found = not_held("the database does not say in time whether it is prepared");
    let looking = async {
        loop {
            found = look(participant, &hold.gid).await;
            if !matches!(&found, Held::NotHeld(v1::NotHeld { reason }) if reason == AT_WORK) {
                return;
            }
            clock.sleep(LOOK_AGAIN).await;
        }
    };
    let _ = clock.timeout(hold.patience, looking).await;
    found
}

/// Whether the branch is prepared, and nobody is ending it. Who ends it is asked first: what has ended between
/// the two questions is not prepared any more.
async fn look(participant: &Participant, gid: &Gid) -> Held {
    match participant.database.is_being_ended(gid).await {
        Ok(false) => {}
        Ok(true) => {
            return not_held(AT_WORK);
        }
        Err(error) => return not_held(format!("the database does not say who is ending it: {error}")),
    }
    let listing = match participant.database.list(false).await {
        Ok(listing) => listing,
        Err(error) => return not_held(format!("the database does not say whether it is prepared: {error}")),
    };
    if let Err(why) = participant.identify(&listing.facts) {
        return not_held(why);
    }
    if listing.facts.in_recovery {
        return not_held("the server is a standby (in recovery)");
    }
    let row = listing.prepared.iter().find(|row| row.gid == gid.to_string());
    row.map_or(Held::NotPrepared(v1::NotPrepared {}), |row| {
        let system_identifier = listing.facts.system_identifier;
        Held::Prepared(v1::HeldPrepared { xid: row.xid, system_identifier })
    })
}
