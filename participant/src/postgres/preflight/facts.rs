//! What one server says of itself, of the agent's role and of what is prepared there.

use std::collections::BTreeMap;

use crate::database::ServerFacts;

/// Read in one transaction, by the agent's role, through its own connection string.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The version, for people: `15.18`.
    pub version: String,
    /// The major version; 0 when the server did not say.
    pub major: u32,
    /// The database.
    pub database: String,
    /// Its OID.
    pub database_oid: u32,
    /// How many connections it allows at once; `None`: any number.
    pub database_connections: Option<u64>,
    /// The role.
    pub role: Role,
    /// The settings that are judged, by name; empty where they may not be read.
    pub settings: BTreeMap<String, Setting>,
    /// What the role may not do, as GRANT names it: `SELECT ON pg_catalog.pg_locks`.
    pub denied: Vec<String>,
    /// The roles that are declared for attached work.
    pub attached: Vec<AttachedRole>,
    /// Whether the role may keep there what agents remember of coordinators; `None` where there is no table for it.
    pub keeps_witness: Option<bool>,
    /// Whether the role may keep commit markers there; `None` where there is no table for them.
    pub keeps_markers: Option<bool>,
    /// Where the schema votum is in the search path of the role's sessions: the path without it, as SQL takes it.
    pub path_without_votum: Option<String>,
    /// Which server it is; `None` where that may not be asked.
    pub server: Option<ServerFacts>,
    /// What is prepared in any database of the server, oldest first; empty where that may not be asked.
    pub prepared: Vec<PreparedSeen>,
}

/// As whom the agent works.
#[derive(Debug, Clone)]
pub struct Role {
    /// As whom it logs in.
    pub session: String,
    /// As whom its statements run: another where its role has a default for `role`.
    pub current: String,
    /// It is a superuser.
    pub superuser: bool,
    /// How many connections it may have at once; `None`: any number.
    pub connections: Option<u64>,
    /// It is shown when its own sessions began.
    pub sees_own_sessions: bool,
    /// It may end its own sessions.
    pub ends_own_sessions: bool,
}

impl Default for Role {
    fn default() -> Self {
        Self {
            session: String::new(),
            current: String::new(),
            superuser: false,
            connections: None,
            sees_own_sessions: true,
            ends_own_sessions: true,
        }
    }
}

/// A setting as a new session of the role has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// In the setting's own unit: milliseconds, for timeouts.
    pub value: String,
    /// Where it comes from, in the server's words: `default`, `configuration file`, `command line`, `global`,
    /// `database`, `user`, `database user`, `client`.
    pub source: String,
}

/// A role declared for attached work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachedRole {
    /// Its name.
    pub name: String,
    /// The server has it.
    pub exists: bool,
    /// The agent's role may become it.
    pub may_be_taken: bool,
}

/// A prepared transaction of anyone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PreparedSeen {
    /// Its name.
    pub gid: String,
    /// In which database.
    pub database: String,
    /// Whose; `None` where the role was dropped.
    pub owner: Option<String>,
    /// How many transaction ids were assigned since its own.
    pub age: u64,
    /// The relations that it keeps locked; of the participant's own database only.
    pub locks: Vec<String>,
    /// Sessions that wait for it; of the participant's own database only.
    pub blocked_sessions: u32,
}

impl Facts {
    /// A setting's value, when it is a number.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.settings.get(name)?.value.parse().ok()
    }

    /// A setting whose value is this one.
    pub(super) fn setting_at(&self, name: &str, value: &str) -> Option<&Setting> {
        self.settings.get(name).filter(|setting| setting.value == value)
    }
}
