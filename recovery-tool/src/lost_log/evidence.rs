//! What was read in the databases, brought together: for each transaction what is prepared, where, and what the
//! commit markers say. Pure: reading is done elsewhere, and so is judging.

use std::collections::{BTreeMap, BTreeSet};

use votum_participant::postgres::lost_log::{
    Action, Identity, Listed, Markers, MayEnd, PreparedSeen, SessionSeen, statement,
};
use votum_proto::names::{BranchNumber, CoordinatorId, Gid, Gtid};

/// What one participant's database answered, or why it did not.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    /// The participant.
    pub(crate) participant: String,
    /// The configuration that it stands in.
    pub(crate) file: String,
    /// Where its server is.
    pub(crate) server: String,
    /// The database, as it is configured.
    pub(crate) database: String,
    /// What was read: the listing first, the markers after it.
    pub(crate) read: Result<(Listed, Markers), String>,
}

/// Whether a database could be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Sight {
    /// It was read.
    Read {
        /// Which one it is.
        identity: Identity,
        /// Whether its commit markers could be read too.
        markers: MarkerTable,
        /// Sessions that may change what is prepared there.
        sessions: Vec<SessionSeen>,
    },
    /// It is the same one as this participant's, which was read.
    SameAs(String),
    /// It could not be read, for this reason.
    Unread(String),
}

/// Whether a database's commit markers could be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MarkerTable {
    Readable,
    Missing,
    Denied,
}

/// One participant's database.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    pub(crate) participant: String,
    pub(crate) file: String,
    pub(crate) server: String,
    pub(crate) database: String,
    pub(crate) sight: Sight,
}

/// A prepared branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Branch {
    pub(crate) participant: String,
    pub(crate) system_identifier: u64,
    pub(crate) gid: Gid,
    pub(crate) xid: u32,
    pub(crate) owner: String,
    pub(crate) may_end: MayEnd,
    pub(crate) prepared_at: String,
    pub(crate) age_ms: u64,
}

/// A commit marker of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mark {
    pub(crate) participant: String,
    pub(crate) branch: BranchNumber,
    pub(crate) committed: bool,
}

/// All that is known of one transaction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Evidence {
    /// What is prepared, and can be settled.
    pub(crate) prepared: Vec<Branch>,
    pub(crate) marks: Vec<Mark>,
    /// Databases that no configuration names, on servers that were read, in which a branch of it is prepared.
    pub(crate) elsewhere: BTreeSet<String>,
}

impl Branch {
    /// What a person has to do where nobody may end it who is asked to: the statement, and as whom.
    pub(crate) fn by_hand(&self, action: Action) -> Option<String> {
        let MayEnd::No { role } = &self.may_end else { return None };
        let Self { owner, participant, gid, .. } = self;
        let [owner, role] = [owner, role].map(|name| format!("\"{}\"", name.replace('"', "\"\"")));
        let statement = statement(gid, action);
        Some(format!(
            "the role {role} may not end what {owner} prepared. Connect to the database of {participant} as {owner}, \
             or as a superuser, and run: {statement}; or GRANT {owner} TO {role}; and say the same again"
        ))
    }
}

impl Evidence {
    /// Whether somebody has changed something between two readings.
    pub(crate) fn differs(&self, other: &Self) -> bool {
        let names = |evidence: &Self| {
            let prepared = evidence.prepared.iter();
            let name = |branch: &Branch| (branch.participant.clone(), branch.gid.to_string(), branch.xid);
            prepared.map(name).collect::<BTreeSet<_>>()
        };
        let marks = |evidence: &Self| evidence.marks.iter().cloned().collect::<BTreeSet<_>>();
        names(self) != names(other) || marks(self) != marks(other) || self.elsewhere != other.elsewhere
    }
}

/// A prepared transaction that bears the coordinator's name, and is left alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Apart {
    pub(crate) participant: String,
    pub(crate) seen: PreparedSeen,
    pub(crate) why: String,
}

/// What of the installation could be seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct View {
    /// How many databases were read.
    pub(crate) read: usize,
    /// Participants that could not be read, and that are not given up.
    pub(crate) unread: Vec<String>,
    /// Participants that a person has given up: nobody waits for them.
    pub(crate) given_up: Vec<String>,
    /// Participants that were read and have no readable markers.
    pub(crate) without_markers: Vec<String>,
}

/// Everything that was read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Survey {
    pub(crate) databases: Vec<Database>,
    pub(crate) view: View,
    /// Those with a branch that can be settled.
    pub(crate) transactions: BTreeMap<Gtid, Evidence>,
    /// The markers of those that were asked about and have no such branch.
    pub(crate) others: BTreeMap<Gtid, Evidence>,
    pub(crate) apart: Vec<Apart>,
}

/// Brings together what was read. `given_up` are participants that nobody waits for.
pub(crate) fn gather(coordinator: &CoordinatorId, answers: &[Answer], given_up: &BTreeSet<String>) -> Survey {
    let mut survey = Survey::default();
    let mut known: BTreeMap<&Identity, &str> = BTreeMap::new();
    for Answer { read, participant, .. } in answers {
        if let Ok((listed, _)) = read {
            known.entry(&listed.identity).or_insert(participant);
        }
    }
    let mut all: BTreeMap<Gtid, Evidence> = BTreeMap::new();
    let mut elsewhere = BTreeSet::new();
    for answer in answers {
        let sight = match &answer.read {
            Err(why) => Sight::Unread(why.clone()),
            Ok((listed, markers)) => match known.get(&listed.identity) {
                Some(first) if *first != answer.participant => Sight::SameAs((*first).to_owned()),
                Some(_) | None => {
                    let mut gathering = Gathering {
                        coordinator,
                        answer,
                        listed,
                        known: &known,
                        all: &mut all,
                        elsewhere: &mut elsewhere,
                    };
                    survey.apart.extend(gathering.prepared());
                    let markers = gathering.marks(markers);
                    let (identity, sessions) = (listed.identity.clone(), listed.sessions.clone());
                    Sight::Read { identity, markers, sessions }
                }
            },
        };
        survey.view.note(&answer.participant, &sight, given_up);
        survey.databases.push(Database {
            participant: answer.participant.clone(),
            file: answer.file.clone(),
            server: answer.server.clone(),
            database: answer.database.clone(),
            sight,
        });
    }
    let configured: BTreeSet<&String> =
        survey.databases.iter().map(|database| &database.participant).collect();
    survey.view.given_up.extend(given_up.iter().filter(|name| !configured.contains(name)).cloned());
    (survey.transactions, survey.others) =
        all.into_iter().partition(|(_, evidence)| !evidence.prepared.is_empty());
    survey
}

impl View {
    fn note(&mut self, participant: &str, sight: &Sight, given_up: &BTreeSet<String>) {
        let name = participant.to_owned();
        match sight {
            Sight::Read { markers, .. } => {
                self.read += 1;
                match markers {
                    MarkerTable::Readable => {}
                    MarkerTable::Missing | MarkerTable::Denied => self.without_markers.push(name),
                }
            }
            Sight::SameAs(_) => {}
            Sight::Unread(_) if given_up.contains(participant) => self.given_up.push(name),
            Sight::Unread(_) => self.unread.push(name),
        }
    }
}

/// What one database holds, on its way to the transactions.
struct Gathering<'a> {
    coordinator: &'a CoordinatorId,
    answer: &'a Answer,
    listed: &'a Listed,
    known: &'a BTreeMap<&'a Identity, &'a str>,
    all: &'a mut BTreeMap<Gtid, Evidence>,
    elsewhere: &'a mut BTreeSet<(Identity, String)>,
}

impl Gathering<'_> {
    /// Notes what is prepared; answers what is left alone.
    fn prepared(&mut self) -> Vec<Apart> {
        let mut apart = Vec::new();
        for seen in &self.listed.prepared {
            if let Err(why) = self.one(seen)
                && !why.is_empty()
            {
                apart.push(Apart { participant: self.answer.participant.clone(), seen: seen.clone(), why });
            }
        }
        apart
    }

    /// Notes one, or says why it is left alone: nothing where another listing shows it.
    fn one(&mut self, seen: &PreparedSeen) -> Result<(), String> {
        let gid = seen.gid.parse::<Gid>().ok().filter(|gid| gid.gtid.coordinator_id == *self.coordinator);
        let here = Identity { database: seen.database.clone(), ..self.listed.identity.clone() };
        if here != self.listed.identity {
            if self.known.contains_key(&here) || !self.elsewhere.insert((here, seen.gid.clone())) {
                return Err(String::new());
            }
            if let Some(gid) = gid {
                let evidence = self.all.entry(gid.gtid).or_default();
                evidence.elsewhere.insert(format!("{} at {}", seen.database, self.answer.server));
            }
            return Err(format!(
                "it is prepared in database {} of the same server, which no configuration that was read names",
                seen.database
            ));
        }
        let Some(gid) = gid else {
            return Err(
                "its name begins as this coordinator's do, and is none that a coordinator gives".into()
            );
        };
        let owner = match &seen.owner {
            Some(owner) if seen.owner_is_ours => owner.clone(),
            Some(owner) => {
                return Err(format!(
                    "it belongs to the role {owner}, which is not the agent's, nor declared in attached_roles"
                ));
            }
            None => {
                return Err("the role that it belonged to was dropped: only a superuser can end it".into());
            }
        };
        self.all.entry(gid.gtid.clone()).or_default().prepared.push(Branch {
            participant: self.answer.participant.clone(),
            system_identifier: self.listed.identity.system_identifier,
            gid,
            xid: seen.xid,
            owner,
            may_end: seen.may_end.clone(),
            prepared_at: seen.prepared_at.clone(),
            age_ms: seen.age_ms,
        });
        Ok(())
    }

    fn marks(&mut self, markers: &Markers) -> MarkerTable {
        match markers {
            Markers::NoTable => MarkerTable::Missing,
            Markers::Denied => MarkerTable::Denied,
            Markers::Read(seen) => {
                for marker in seen {
                    self.all.entry(marker.gtid.clone()).or_default().marks.push(Mark {
                        participant: self.answer.participant.clone(),
                        branch: marker.branch,
                        committed: marker.committed,
                    });
                }
                MarkerTable::Readable
            }
        }
    }
}
