//! What an agent does with orders to commit and to roll back (its `phase2`), and what a database remembers.

use votum_coordinator::protocol::recovery::low_half;
use votum_proto::names::{Gid, Gtid, Life};

use super::state::{BranchPhase, Database, EndOrder, Fate, Remembered, SaidReport, Say, State, Work};

impl EndOrder {
    pub(crate) fn gid(&self) -> Option<&Gid> {
        match self {
            Self::Commit { gid, .. } => Some(gid),
            Self::Rollback { gid, .. } => gid.as_ref(),
        }
    }

    /// Whether carrying out one is carrying out the other: whoever compares first is no matter.
    fn same_as(&self, other: &Self) -> bool {
        let plain = |order: &Self| match order {
            Self::Commit { gid, xid8, listed_xid, .. } => {
                Self::Commit { gid: gid.clone(), xid8: *xid8, listed_xid: *listed_xid, compare_first: true }
            }
            Self::Rollback { .. } => order.clone(),
        };
        plain(self) == plain(other)
    }

    fn fits(&self, xid: u32) -> bool {
        let (Self::Commit { xid8, listed_xid, .. } | Self::Rollback { xid8, listed_xid, .. }) = self;
        (*xid8 == 0 || xid == low_half(*xid8)) && (*listed_xid == 0 || xid == *listed_xid)
    }
}

impl Database {
    /// The work of one transaction is over.
    pub(crate) fn note(&mut self, work: Work, fate: Fate) {
        // Nobody asks about what never voted.
        if work.wrote && fate != Fate::Dropped {
            self.fates.insert(work.xid8, (work, fate));
        }
    }

    pub(crate) fn drop_session(&mut self, gtid: &Gtid) {
        if let Some(work) = self.open.remove(gtid) {
            self.note(work, Fate::Dropped);
        }
    }

    fn remembers(&self, xid8: u64) -> Remembered {
        match self.fates.get(&xid8).map(|(_, fate)| fate) {
            Some(Fate::Committed | Fate::CommittedByHand) => Remembered::Committed,
            Some(Fate::RolledBack | Fate::Dropped | Fate::RolledBackByHand) => Remembered::Aborted,
            Some(Fate::Lost) => Remembered::NotReached,
            None => Remembered::InProgress,
        }
    }

    pub(crate) fn crash(&mut self) {
        self.up = false;
        for gtid in self.open.keys().cloned().collect::<Vec<_>>() {
            self.drop_session(&gtid);
        }
        for work in std::mem::take(&mut self.late).into_values() {
            self.note(work, Fate::Dropped);
        }
    }
}

impl State {
    pub(crate) fn admit(&mut self, agent: usize, life: Life, gtid: &Gtid, order: EndOrder) {
        let orders = self.agent_mut(agent).orders.entry(gtid.clone()).or_default();
        let known = |(by, known): &(Life, EndOrder)| *by == life && known.same_as(&order);
        // The one under way is not joined where others wait behind it: it may run before them.
        let joins = orders.len() == 1 && orders.first().is_some_and(known);
        if joins || orders.iter().skip(1).any(known) {
            return;
        }
        orders.push((life, order));
        self.begin_order(agent, gtid);
        if self.can_carry_out(agent, gtid) {
            self.carry_out_order(agent, gtid);
        }
    }

    /// The order under way asks its branch to end, if it is one to roll back.
    fn begin_order(&mut self, agent: usize, gtid: &Gtid) {
        let here = self.agents[agent].as_ref().unwrap();
        let first = here.orders.get(gtid).and_then(|orders| orders.first());
        let rollback = first.is_some_and(|(_, order)| matches!(order, EndOrder::Rollback { .. }));
        if rollback && here.branches.contains_key(gtid) {
            self.end_branch(agent, gtid, false);
        }
    }

    /// Whether the order under way for a branch can be carried out now.
    pub(crate) fn can_carry_out(&self, agent: usize, gtid: &Gtid) -> bool {
        let here = self.agents[agent].as_ref().unwrap();
        let Some((_, order)) = here.orders.get(gtid).and_then(|orders| orders.first()) else { return false };
        let settled = here.branches.get(gtid).is_none_or(|branch| branch.phase == BranchPhase::Settled);
        self.databases[agent].up && (settled || matches!(order, EndOrder::Commit { .. }))
    }

    /// Carries out the order under way, to its end, and reports.
    pub(crate) fn carry_out_order(&mut self, agent: usize, gtid: &Gtid) {
        let here = self.agent_mut(agent);
        let Some(orders) = here.orders.get_mut(gtid) else { return };
        let (life, order) = orders.remove(0);
        if orders.is_empty() {
            here.orders.remove(gtid);
        }
        let branch = here.branches.get(gtid).cloned();
        let prepared =
            branch.as_ref().filter(|branch| branch.gid.as_ref() == order.gid()).and_then(|b| b.prepared);
        let report = match &order {
            EndOrder::Commit { gid, xid8, compare_first, .. } => {
                let ours = prepared == Some(*xid8) && prepared.is_some();
                self.until_ended(agent, gid, &order, *compare_first || !ours, Fate::Committed)
            }
            EndOrder::Rollback { gid, listed_xid, .. } => {
                let none = branch.as_ref().is_some_and(|b| b.prepared.is_none() && !b.perhaps_prepared);
                match gid {
                    Some(gid) if !(none && *listed_xid == 0) => {
                        let ours = prepared.is_some_and(|known| order.fits(low_half(known)));
                        self.until_ended(agent, gid, &order, !ours, Fate::RolledBack)
                    }
                    Some(_) | None => SaidReport::NeverPrepared,
                }
            }
        };
        if let Some(branch) = self.agent_mut(agent).branches.get_mut(gtid) {
            branch.perhaps_prepared |= branch.prepared.take().is_some();
        }
        self.forget_branch(agent, gtid);
        let was_commit = matches!(order, EndOrder::Commit { .. });
        let speaking = self.agents[agent].as_ref().unwrap().fence.speaking();
        if let (Some(gid), true) = (order.gid().cloned(), speaking == Some(life)) {
            self.report(agent, Say::Ended { gid, was_commit, report });
        }
        self.begin_order(agent, gtid);
    }

    fn until_ended(
        &mut self,
        agent: usize,
        gid: &Gid,
        order: &EndOrder,
        compare: bool,
        fate: Fate,
    ) -> SaidReport {
        let database = self.database_mut(agent);
        let found = database.prepared.get(gid).map(|work| low_half(work.xid8));
        match found {
            Some(xid) if compare && !order.fits(xid) => SaidReport::OtherXid(xid),
            Some(_) => {
                if let Some(work) = database.prepared.remove(gid) {
                    database.note(work, fate);
                }
                SaidReport::Done
            }
            None => {
                let (EndOrder::Commit { xid8, .. } | EndOrder::Rollback { xid8, .. }) = order;
                let status = if *xid8 == 0 { Remembered::NotAsked } else { database.remembers(*xid8) };
                SaidReport::Gone { timeline: database.timeline, status }
            }
        }
    }
}
