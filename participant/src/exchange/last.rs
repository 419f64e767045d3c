//! The last branch of a transaction: opened by the word that it is to decide.

use std::sync::Arc;

use votum_proto::names::{Gid, SessionName};
use votum_proto::v1;

use super::hello::Hello;
use crate::agent::{Inner, Participant};
use crate::branch::Branch;
use crate::host::Host;
use crate::registry::{Key, Registry};
use crate::work::{Deciding, Work};

/// Opens it, so that the order behind this finds it waiting. Where that may not be, the order finds nothing, and settles
/// it: its work came to another life of the agent, or came before (I9), and may have been carried out.
pub(super) fn open(
    agent: &Arc<Inner>,
    registry: &mut Registry,
    hello: &Hello,
    participant: &Arc<Participant>,
    key: &Key,
    gid: &Gid,
    order: v1::CommitOnePhase,
) {
    let v1::CommitOnePhase { work, session, system_identifier, timeline, .. } = order;
    let unnamed = SessionName { agent_instance: agent.instance, counter: 0 };
    let known = registry.branch(key).is_some() || registry.orders.contains_key(key);
    let meant = session.map(SessionName::from) == Some(unnamed) && key.0.life == hello.life;
    let Some(work) = work.filter(|_| meant && !known && !registry.stopping) else { return };
    let work = match Work::read(agent, work) {
        Ok(work) => work,
        Err(why) => {
            tracing::warn!(%gid, why, "the work of a branch that was to decide cannot be read; it is settled");
            return;
        }
    };
    let (branch, commands) = Branch::new(key.0.clone(), key.1.clone(), unnamed);
    let branch = Arc::new(branch);
    branch.start_deciding(gid);
    registry.branches.insert(key.clone(), Arc::clone(&branch));
    let options = work.options.clone();
    let deciding = Deciding { gid: gid.clone(), work, system_identifier, timeline };
    Host::new(Arc::clone(agent), Arc::clone(participant), branch, commands, options).spawn_last(deciding);
}
