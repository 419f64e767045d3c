//! How what is prepared is ended, and as whom. PostgreSQL lets the role end it that prepared it, and superusers:
//! nobody else, whatever else they may do.

use std::time::Duration;

use votum_proto::names::Gid;

use super::{Place, standby};
use crate::crash::{self, CrashPoint};
use crate::database::{Aftermath, Command, Database as _, DatabaseError};
use crate::postgres::commands::{Open, Postgres};
use crate::postgres::{policy, unexpected};

/// How long a branch may take to end before the answer is no longer waited for.
const ENDING_LIMIT: Duration = Duration::from_secs(60);

/// How a prepared branch is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// It is committed.
    Commit,
    /// It is rolled back.
    RollBack,
}

/// The statement that ends a prepared branch, as a person could type it.
pub fn statement(gid: &Gid, action: Action) -> String {
    match action {
        Action::Commit => format!("COMMIT PREPARED '{gid}'"),
        Action::RollBack => format!("ROLLBACK PREPARED '{gid}'"),
    }
}

/// Whether the role of a session may end what is prepared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MayEnd {
    /// It owns it, or is a superuser.
    Itself,
    /// Once it has taken the part of the owner: SET ROLE.
    AsOwner,
    /// It may not, nor may it take the part of the owner.
    No {
        /// The session's role.
        role: String,
    },
}

impl MayEnd {
    /// From what [`MAY_END`] answers of the role of the session.
    pub(super) fn read(role: &str, word: &str) -> Option<Self> {
        Some(match word {
            "itself" => Self::Itself,
            "as owner" => Self::AsOwner,
            "no" => Self::No { role: role.to_owned() },
            _ => return None,
        })
    }
}

/// Of the owner of a row `p`. A membership may be one that gives no SET since PostgreSQL 16.
pub(in crate::postgres) const MAY_END: &str = "CASE WHEN p.owner = current_user OR (SELECT r.rolsuper FROM pg_catalog.pg_roles r \
     WHERE r.rolname = current_user) THEN 'itself' WHEN p.owner IS NULL THEN 'no' \
     WHEN pg_catalog.pg_has_role(current_user, p.owner, \
     CASE WHEN pg_catalog.current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END) \
     THEN 'as owner' ELSE 'no' END";

/// How the ending of a branch went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// It is ended.
    Done,
    /// It is not prepared: nothing was done.
    NotThere,
    /// Other work is prepared under its name, with this transaction id: nothing was done.
    OtherWork(u32),
}

impl Place {
    /// Ends a branch, once it has been compared with what was seen of it: on that server, under that name, with
    /// that transaction id. `owner` is whose part the session takes for that; otherwise it is its own role.
    ///
    /// # Errors
    /// The server's refusal; or an answer that did not come, after which nobody knows whether it was carried out.
    pub async fn settle(
        &self,
        gid: &Gid,
        xid: u32,
        system_identifier: u64,
        owner: Option<&str>,
        action: Action,
    ) -> Result<Settled, DatabaseError> {
        let found = self.postgres.find(gid).await?;
        if found.facts.in_recovery {
            return Err(standby());
        }
        if found.facts.system_identifier != system_identifier {
            return Err(unexpected(Command::Listing, "it has become another server since it was read"));
        }
        match found.xid {
            None => return Ok(Settled::NotThere),
            Some(other) if other != xid => return Ok(Settled::OtherWork(other)),
            Some(_) => {}
        }
        let taking_part = owner.map(|owner| self.taking_the_part_of(owner));
        let postgres = taking_part.as_ref().unwrap_or(&self.postgres);
        let clock = &postgres.seams().clock;
        let (ending, command, after) = match action {
            Action::Commit => {
                crash::here(CrashPoint::BeforeCommitPrepared);
                let work = crash::during(
                    CrashPoint::DuringCommitPrepared,
                    postgres.commit_prepared(gid, None, &Open),
                );
                let ending = clock.timeout(ENDING_LIMIT, work).await;
                (ending, Command::CommitPrepared, CrashPoint::AfterCommitPrepared)
            }
            Action::RollBack => {
                crash::here(CrashPoint::BeforeRollbackPrepared);
                let work = crash::during(
                    CrashPoint::DuringRollbackPrepared,
                    postgres.rollback_prepared(gid, None, &Open),
                );
                let ending = clock.timeout(ENDING_LIMIT, work).await;
                (ending, Command::RollbackPrepared, CrashPoint::AfterRollbackPrepared)
            }
        };
        crash::here(after);
        match ending {
            Ok(ended) => ended.map(|_| Settled::Done),
            Err(_) => Err(DatabaseError {
                policy: policy::policy(command, ""),
                aftermath: Aftermath::Broken,
                sqlstate: String::new(),
                message: format!(
                    "the server gave no answer within {} s; it may still carry it out (does it wait for a \
                     synchronous standby?)",
                    ENDING_LIMIT.as_secs()
                ),
                retryable: true,
                sql: None,
            }),
        }
    }

    /// Sessions whose role is this one from their beginning.
    fn taking_the_part_of(&self, role: &str) -> Postgres {
        Postgres::over(&self.configured, self.connector.taking_the_part_of(role), 1)
    }
}
