//! Transactions that were begun before anybody asked for them, with the outcome of the one before.
//!
//! A client that begins transaction after transaction spares the exchange with the coordinator: its Commit
//! asks for the next one too, and [`Begin`](crate::Begin) finds it here. Only where begins do follow commits
//! closely; what is not taken within [`KEPT`] is rolled back, and nothing more is asked for until begins
//! follow commits again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use votum_proto::runtime::Monotonic;
use votum_proto::v1;

use crate::votum::Inner;

/// For how long a spare may be taken, at most. Its timeout has begun to run.
const KEPT: Duration = Duration::from_millis(50);
/// A spare is not taken when more than this part of its timeout has passed.
const PART: u32 = 20;
/// How many are kept, or asked for, at a time.
const MOST: usize = 64;

/// What a client keeps of its connection's spares.
#[derive(Default)]
pub(crate) struct Spares(Mutex<State>);

#[derive(Default)]
struct State {
    /// When a transaction was last decided.
    decided: Option<Monotonic>,
    /// What was begun soon after that.
    wanted: Option<v1::BeginRequest>,
    /// The newest last.
    ready: Vec<Spare>,
    asked_for: usize,
    /// A task looks after those that nobody takes.
    watched: bool,
}

struct Spare {
    request: v1::BeginRequest,
    reply: v1::BeginResponse,
    since: Monotonic,
}

impl Spare {
    fn is_fresh(&self, now: Monotonic) -> bool {
        let timeout = Duration::from_millis(self.reply.timeout_ms);
        now.since(self.since) < KEPT.min(timeout / PART)
    }
}

/// One that a Commit asks for.
pub(crate) struct Asked<'a> {
    inner: &'a Arc<Inner>,
    pub(crate) request: v1::BeginRequest,
}

impl Spares {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A transaction as `request` would begin it, and since when it lives.
    pub(crate) fn take(
        &self,
        request: &v1::BeginRequest,
        now: Monotonic,
    ) -> Option<(v1::BeginResponse, Monotonic)> {
        if !request.idempotency_key.is_empty() {
            return None;
        }
        let mut state = self.state();
        let at = state.ready.iter().rposition(|spare| spare.request == *request && spare.is_fresh(now));
        let soon = state.decided.is_some_and(|decided| now.since(decided) <= KEPT);
        if soon && state.wanted.as_ref() != Some(request) {
            state.wanted = Some(request.clone());
        }
        let spare = state.ready.remove(at?);
        Some((spare.reply, spare.since))
    }

    /// Takes out what is too old, and hopes for no more of it. `None` when nothing is left to look after.
    fn too_old(&self, now: Monotonic) -> Option<Vec<Spare>> {
        let mut state = self.state();
        if state.ready.is_empty() {
            state.watched = false;
            return None;
        }
        let (fresh, old): (Vec<_>, _) = state.ready.drain(..).partition(|spare| spare.is_fresh(now));
        state.ready = fresh;
        if !old.is_empty() {
            state.wanted = None;
        }
        Some(old)
    }
}

impl<'a> Asked<'a> {
    /// What the next Commit is to ask for, if anything.
    pub(crate) fn next(inner: &'a Arc<Inner>) -> Option<Self> {
        let mut state = inner.spares.state();
        if state.ready.len() + state.asked_for >= MOST {
            return None;
        }
        let request = state.wanted.clone()?;
        state.asked_for += 1;
        Some(Self { inner, request })
    }

    /// The coordinator began it.
    pub(crate) fn came(self, reply: v1::BeginResponse) {
        let seams = &self.inner.options.seams;
        let spare = Spare { request: self.request.clone(), reply, since: seams.clock.now() };
        let mut state = self.inner.spares.state();
        state.ready.push(spare);
        if !std::mem::replace(&mut state.watched, true) {
            seams.spawn(look_after(Arc::downgrade(self.inner)));
        }
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let mut state = self.inner.spares.state();
        state.asked_for = state.asked_for.saturating_sub(1);
    }
}

/// A Commit was answered.
pub(crate) fn decided(inner: &Inner) {
    inner.spares.state().decided = Some(inner.options.seams.clock.now());
}

/// Rolls back what nobody takes, until none is left.
async fn look_after(inner: Weak<Inner>) {
    while let Some(inner) = inner.upgrade() {
        let clock = &inner.options.seams.clock;
        clock.sleep(KEPT).await;
        let Some(old) = inner.spares.too_old(clock.now()) else { return };
        for Spare { reply: v1::BeginResponse { gtid, secret, .. }, .. } in old {
            let reason = "begun ahead by the client, and not needed".to_owned();
            let _ = inner.forgotten.send(v1::RollbackRequest { gtid, secret, reason });
        }
    }
}
