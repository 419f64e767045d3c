//! Before a person's word about a branch of which no record tells: what the commit markers of its siblings say, at
//! every participant. One that has committed proves the decision; it may be the very branch whose commit was the
//! decision (docs/protocol.md, the last agent). What can be known so is not a person's to contradict, and where it
//! cannot be asked, nothing is done.

use std::collections::BTreeSet;
use std::time::Duration;

use votum_proto::canary::{Canary, sings};
use votum_proto::names::{BranchNumber, Gid, ParticipantName};
use votum_proto::runtime::Monotonic;
use votum_proto::v1;

use super::request::{Answer, RequestError, Resolve};
use super::timers::Timer;
use super::{Driver, wire};
use crate::protocol::gone::Marker;
use crate::protocol::record::MAX_BRANCHES;

/// How long the answers may take.
const LIMIT: Duration = Duration::from_secs(10);

/// A resolution that waits for what commit markers say.
pub(super) struct Inquiry {
    resolve: Resolve,
    answer: Answer<v1::ResolveResponse>,
    until: Monotonic,
    /// What has left no marker is kept from ever leaving one.
    settling: bool,
    siblings: Vec<Sibling>,
    /// Who has not answered.
    open: BTreeSet<ParticipantName>,
}

/// A sibling, by the name that its branch would have. Where it was is on no record.
struct Sibling {
    gid: Gid,
    /// It is seen prepared: it has not ended, and a tombstone would wait for it.
    prepared: bool,
    /// Where its marker says that it committed.
    committed: Vec<ParticipantName>,
    /// Where a tombstone says that it never can.
    aborted: Vec<ParticipantName>,
}

impl Driver {
    /// Asks every participant for the markers of the branch's siblings. Which of them had a branch of its transaction,
    /// and which of those decided, is on no record.
    pub(super) fn inquire(&mut self, resolve: Resolve, answer: Answer<v1::ResolveResponse>) {
        let siblings = self.siblings(&resolve.gid);
        if siblings.is_empty() {
            return self.resolve_knowing(
                resolve,
                Some("it has no sibling that left a marker".into()),
                answer,
            );
        }
        if self.inquiries.values().any(|other| other.resolve.gid.gtid == resolve.gid.gtid) {
            let gtid = &resolve.gid.gtid;
            let why = format!("another resolution of {gtid} is under way; look again when it is done");
            let _ = answer.send(Err(RequestError::Invalid(why)));
            return;
        }
        let until = self.seams.clock.now().after(LIMIT);
        let (settling, open) = (false, BTreeSet::new());
        self.ask_all(Inquiry { resolve, answer, until, settling, siblings, open });
    }

    fn siblings(&self, of: &Gid) -> Vec<Sibling> {
        let branches = usize::from(of.branches).min(MAX_BRANCHES);
        let others = (0..branches).filter_map(|place| BranchNumber::try_from(place).ok());
        let gids = others.filter(|branch| *branch != of.branch).map(|branch| Gid { branch, ..of.clone() });
        let sibling = |gid: Gid| {
            let name = gid.to_string();
            let prepared = self.participants.values().any(|known| known.quarantined.contains_key(&name));
            Sibling { gid, prepared, committed: Vec::new(), aborted: Vec::new() }
        };
        gids.map(sibling).collect()
    }

    fn ask_all(&mut self, mut inquiry: Inquiry) {
        let participants: Vec<ParticipantName> = self.participants.keys().cloned().collect();
        if let Some((at, why)) = participants.iter().find_map(|at| Some((at, self.unreachable(at)?))) {
            let _ = inquiry.answer.send(Err(cannot_ask(at, &why)));
            return;
        }
        let request = self.next_listing;
        self.next_listing += 1;
        self.timers.set(inquiry.until, Timer::Inquired(request));
        for at in &participants {
            let settles = |sibling: &Sibling| inquiry.settling && !sibling.prepared;
            let asked = inquiry.siblings.iter().map(|sibling| (&sibling.gid, 0, settles(sibling)));
            self.send(at, wire::verify_branches(at, request, asked));
        }
        inquiry.open = participants.into_iter().collect();
        self.inquiries.insert(request, inquiry);
    }

    /// An answer to [`Driver::inquire`]; false where it answers something else.
    pub(super) fn on_inquired(&mut self, at: &ParticipantName, verified: &v1::BranchesVerified) -> bool {
        let Some(inquiry) = self.inquiries.get_mut(&verified.request) else { return false };
        if !inquiry.open.remove(at) {
            return true;
        }
        if let Err(why) = inquiry.note(at, verified) {
            self.end_inquiry(verified.request, cannot_ask(at, &why));
        } else if inquiry.open.is_empty() {
            self.inquired(verified.request);
        }
        true
    }

    /// Everybody has answered.
    fn inquired(&mut self, request: u64) {
        let Some(mut inquiry) = self.inquiries.remove(&request) else { return };
        self.timers.cancel(inquiry.until, Timer::Inquired(request));
        let found = match inquiry.judge() {
            Ok(found) => found,
            Err(why) => return drop(inquiry.answer.send(Err(RequestError::Invalid(why)))),
        };
        // An order to one of them to decide may still be under way: before a branch is rolled back, those that
        // nobody sees prepared are kept from committing ever after.
        let rolls_back = inquiry.resolve.apply && !inquiry.resolve.commit;
        if rolls_back && !inquiry.settling && inquiry.siblings.iter().any(|sibling| !sibling.prepared) {
            inquiry.settling = true;
            for sibling in &mut inquiry.siblings {
                sibling.aborted.clear();
            }
            return self.ask_all(inquiry);
        }
        // What was judged before may have changed while it was asked for.
        self.resolve_knowing(inquiry.resolve, Some(found), inquiry.answer);
    }

    fn end_inquiry(&mut self, request: u64, error: RequestError) {
        if let Some(Inquiry { answer, until, .. }) = self.inquiries.remove(&request) {
            self.timers.cancel(until, Timer::Inquired(request));
            let _ = answer.send(Err(error));
        }
    }

    pub(super) fn not_inquired_in_time(&mut self, request: u64) {
        let silent = self.inquiries.get(&request).and_then(|inquiry| inquiry.open.first().cloned());
        if let Some(at) = silent {
            self.end_inquiry(request, cannot_ask(&at, "its agent has not answered in time"));
        }
    }

    /// The stream to the participant's agent is gone, and with it the answer.
    pub(super) fn inquiries_cut_off(&mut self, at: &ParticipantName) {
        let cut = self.inquiries.iter().filter(|(_, inquiry)| inquiry.open.contains(at));
        let cut: Vec<u64> = cut.map(|(request, _)| *request).collect();
        let why = self.unreachable(at).unwrap_or_default();
        for request in cut {
            self.end_inquiry(request, cannot_ask(at, &why));
        }
    }
}

impl Inquiry {
    /// Notes what one participant says of all siblings; why that is worth nothing, if it is.
    fn note(&mut self, at: &ParticipantName, verified: &v1::BranchesVerified) -> Result<(), String> {
        if !verified.failure.is_empty() {
            return Err(verified.failure.clone());
        }
        if self.siblings.len() != verified.branches.len() {
            return Err("its agent answered something else".into());
        }
        for (sibling, gone) in self.siblings.iter_mut().zip(&verified.branches) {
            let gone = wire::gone(gone);
            if gone.in_recovery {
                return Err("the server is a standby".into());
            }
            match gone.marker {
                Marker::Committed => sibling.committed.push(at.clone()),
                Marker::Aborted => sibling.aborted.push(at.clone()),
                Marker::Absent if self.settling && !sibling.prepared => {
                    return Err(
                        "its agent is of a version that cannot; install the coordinator's there".into()
                    );
                }
                // One that keeps no markers decides nothing by one.
                Marker::Absent | Marker::Unknown => {}
            }
        }
        Ok(())
    }

    /// What is known by the markers, or why the person's word contradicts it. A branch is at one participant: what
    /// committed there counts for more than a tombstone elsewhere, and so does what is prepared.
    fn judge(&self) -> Result<String, String> {
        let (mut committed, mut aborted) = (Vec::new(), Vec::new());
        for Sibling { gid, prepared, committed: yes, aborted: no } in &self.siblings {
            match (yes.first(), no.first()) {
                (Some(at), _) => committed.push((gid, at)),
                (None, Some(at)) if !prepared => aborted.push((gid, at)),
                (None, Some(_) | None) => {}
            }
        }
        let contradicted = |(gid, at): &(&Gid, &ParticipantName), seen: &str| {
            Err(format!(
                "refused: the commit marker of {gid} at {at} says that it {seen} (--heuristic departs from it \
                 knowingly)"
            ))
        };
        match (committed.first(), aborted.first()) {
            (Some(it), _) if !self.resolve.commit && !sings(Canary::ResolveUnasked) => {
                contradicted(it, "committed: its transaction was decided to commit")
            }
            (None, Some(it)) if self.resolve.commit && !sings(Canary::ResolveUnasked) => {
                contradicted(it, "can never commit: its transaction was aborted")
            }
            (Some((gid, at)), _) => Ok(format!("{gid} has committed at {at}, as its marker says")),
            (None, Some((gid, at))) => Ok(format!("{gid} can never commit, as a tombstone at {at} says")),
            (None, None) => Ok("no participant has a commit marker of a sibling".into()),
        }
    }
}

fn cannot_ask(at: &ParticipantName, why: &str) -> RequestError {
    RequestError::Invalid(format!(
        "refused: a sibling may have committed at {at}, whose commit markers cannot be asked for: {why}; try again when \
         they can, or take {at} out of the configuration where it is gone for good; --heuristic decides without them"
    ))
}
