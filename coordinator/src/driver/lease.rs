//! Gtids are leased: reserved on disk by the thousand, long before they are needed. Where more transactions begin at
//! once than are left, those beyond wait for the next lease, as long as one more may be live.

use super::request::{Request, RequestError};
use super::{Driver, LocalId, Pending};
use crate::protocol::record::Record;

impl Driver {
    /// The next seq. A new lease is asked for long before the present one is used up.
    pub(super) fn next_id(&mut self) -> Result<LocalId, RequestError> {
        self.lease_ahead();
        let seq = self.next_seq;
        if seq > self.leased_until {
            return Err(RequestError::Unavailable("the next lease of gtids is not on disk yet".into()));
        }
        self.next_seq += 1;
        Ok(LocalId { life: self.life, seq })
    }

    /// Whether there is a gtid for one more.
    pub(super) fn has_lease(&self) -> bool {
        self.next_seq <= self.leased_until
    }

    /// Asks for another lease when half of the last is used, or wanted.
    fn lease_ahead(&mut self) {
        let waiting = self.parked.len().saturating_add(self.rooms.waiting());
        let wanted = self.next_seq.saturating_add(waiting as u64);
        let mut until = self.lease_asked;
        while until.saturating_sub(wanted) <= self.settings.lease / 2 && until < u64::MAX {
            until = until.saturating_add(self.settings.lease.max(1));
        }
        if until > self.lease_asked {
            self.lease_asked = until;
            let record = Record::Lease { life: self.life, until };
            self.persist(record, true, Pending::Lease(until));
        }
    }

    /// Keeps a request to begin something until there is a gtid for it; returns every other one.
    pub(super) fn park_until_leased(&mut self, request: Request) -> Option<Request> {
        let begins = matches!(request, Request::Begin(..) | Request::Transact(..));
        let leased = self.has_lease() && self.parked.is_empty();
        if !begins || leased || self.refuse_unless_beginning().is_err() {
            return Some(request);
        }
        self.park(request);
        None
    }

    pub(super) fn park(&mut self, request: Request) {
        self.parked.push_back(request);
        self.lease_ahead();
    }

    /// Another lease is on disk.
    pub(super) fn unpark(&mut self) {
        let mut parked = std::mem::take(&mut self.parked);
        while self.has_lease() {
            let Some(request) = parked.pop_front() else { break };
            self.on_request(request);
        }
        // Before those that were parked meanwhile: they came later.
        parked.append(&mut self.parked);
        self.parked = parked;
        if !self.parked.is_empty() {
            self.lease_ahead();
        }
    }

    /// Nothing is begun any more: whoever waits is told so.
    pub(super) fn refuse_parked(&mut self) {
        for request in std::mem::take(&mut self.parked) {
            self.on_request(request);
        }
    }
}
