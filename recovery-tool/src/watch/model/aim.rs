//! What the selected row is about, and what the keys that look at it open.

use votum_proto::names::{Gid, Gtid};

use super::{Content, Doubt, Model, Overlay, Settle, Table, Trouble};
use crate::document::{Alarm, Prepared};

impl Model {
    pub(super) fn open(&mut self) {
        match self.table {
            Table::Participants => {
                self.overlay =
                    self.selected_participant().map(|name| Overlay::new(Content::Participant(name)));
            }
            Table::InDoubt => self.show(),
            Table::Alarms if self.selected_gtid().is_some() => self.show(),
            Table::Alarms => self.explain(),
        }
    }

    /// The transaction that the selected row is about.
    fn selected_gtid(&self) -> Option<String> {
        match self.table {
            Table::Participants => None,
            Table::InDoubt => self.selected_doubt()?.gtid().map(str::to_owned),
            Table::Alarms => match self.selected_trouble()? {
                // An alarm is about a transaction, a branch, or neither.
                Trouble::Alarm(alarm) => {
                    let about = alarm.gtid.as_deref()?;
                    let gtid = about.parse::<Gtid>().or_else(|_| about.parse::<Gid>().map(|gid| gid.gtid));
                    gtid.ok().map(|gtid| gtid.to_string())
                }
                Trouble::Reason(_) => None,
            },
        }
    }

    pub(super) fn show(&mut self) {
        match self.selected_gtid() {
            Some(gtid) => self.overlay = Some(Overlay::new(Content::show(gtid))),
            None if self.table == Table::Participants => {
                self.notice = Some("a participant is no transaction: Tab goes to what is in doubt".into());
            }
            None => self.notice = Some("no transaction of ours is selected".to_owned()),
        }
    }

    pub(super) fn explain(&mut self) {
        let alarm = match self.selected_trouble() {
            Some(Trouble::Alarm(alarm)) if self.table == Table::Alarms => Some(alarm),
            Some(Trouble::Reason(_)) | None if self.table == Table::Alarms => None,
            Some(_) | None => self.alarm_of_selected(),
        };
        match alarm {
            Some(alarm) => self.overlay = Some(Overlay::new(Content::Explain(alarm.clone()))),
            None => self.notice = Some("there is no alarm about what is selected".to_owned()),
        }
    }

    /// An alarm about the selected branch, transaction or participant.
    fn alarm_of_selected(&self) -> Option<&Alarm> {
        let alarms = &self.status.last()?.alarms;
        if self.table == Table::Participants {
            let name = self.selected_participant()?;
            return alarms.iter().find(|alarm| alarm.participant.as_ref() == Some(&name));
        }
        let doubt = self.selected_doubt()?;
        let gid = match doubt {
            Doubt::Ours(branch) | Doubt::Foreign(branch) => Some(branch.gid.as_str()),
            Doubt::Owed(_) => None,
        };
        let about = |alarm: &&Alarm| {
            alarm.gtid.as_deref().is_some_and(|about| Some(about) == gid || Some(about) == doubt.gtid())
        };
        alarms.iter().find(about)
    }

    /// The branch that the selected row is about.
    fn selected_branch(&self) -> Option<&Prepared> {
        let branches = &self.in_doubt.last()?.document.branches;
        match self.table {
            Table::Participants => None,
            Table::InDoubt => match self.selected_doubt()? {
                Doubt::Ours(branch) | Doubt::Foreign(branch) => Some(branch),
                Doubt::Owed(_) => None,
            },
            Table::Alarms => match self.selected_trouble()? {
                Trouble::Alarm(alarm) => {
                    let it = |branch: &&Prepared| {
                        Some(&branch.gid) == alarm.gtid.as_ref()
                            && Some(&branch.participant) == alarm.participant.as_ref()
                    };
                    branches.iter().find(it)
                }
                Trouble::Reason(_) => None,
            },
        }
    }

    pub(super) fn resolve(&mut self) {
        let Some(branch) = self.selected_branch() else {
            self.notice = Some(match (self.table, self.selected_doubt()) {
                (Table::InDoubt, Some(Doubt::Owed(_))) => {
                    "its participant cannot be asked, and what is not listed cannot be settled".to_owned()
                }
                _ => "no prepared branch is selected".to_owned(),
            });
            return;
        };
        let settle = Settle::new(branch, self.operator.clone(), self.tickets + 1);
        self.tickets += 1;
        self.overlay = Some(Overlay::new(Content::Settle(Box::new(settle))));
    }
}
