//! What is prepared in a server, whoever's it is, and what it holds back.

use votum_proto::names::{Gid, ParticipantName};

use super::super::checks::{self, Check};
use super::super::facts::{Facts, PreparedSeen};
use super::super::finding::{Finding, Place, Remedy, Severity};
use super::super::remedy::{identifier, literal, printable, statements};
use super::{Member, Members, graded};

/// A server's transaction ids are good for so many; it refuses to assign more some millions before that.
const XIDS: u64 = 1 << 31;

/// How many prepared transactions of one database have a finding of their own.
const MOST: usize = 20;

pub(super) fn judge(members: &Members<'_>, findings: &mut Vec<Finding>) {
    let facts = members.first.facts;
    let mut databases: Vec<&str> = facts.prepared.iter().map(|prepared| prepared.database.as_str()).collect();
    databases.sort_unstable();
    databases.dedup();
    for database in databases {
        let here = members.all.iter().find(|member| member.facts.database == database);
        let (names, member) = match here {
            Some(member) => (vec![member.name()], member),
            None => (members.names(), &members.first),
        };
        // What a database's own participant has read names locks, too.
        let all = member.facts.prepared.iter().filter(|prepared| prepared.database == database);
        let mut found: Vec<Finding> =
            all.filter_map(|prepared| one(prepared, member, here.is_some(), &names)).collect();
        let more = found.len().saturating_sub(MOST);
        found.truncate(MOST);
        if let Some(last) = found.last_mut().filter(|_| more > 0) {
            last.seen = format!("{}; and {more} more are prepared in {database}", last.seen);
        }
        findings.extend(found);
    }
}

fn one(
    prepared: &PreparedSeen,
    member: &Member<'_>,
    here: bool,
    names: &[ParticipantName],
) -> Option<Finding> {
    let forced_vacuum = member.facts.number("autovacuum_freeze_max_age").unwrap_or(200_000_000);
    let (old, grave) = (prepared.age >= forced_vacuum / 10, prepared.age >= forced_vacuum);
    let waited_for = prepared.blocked_sessions > 0;
    let seen = seen(prepared);
    let finding = |check: &Check, severity, remedy| {
        Some(Finding::new(check, severity, names.to_vec(), seen.clone(), remedy))
    };
    let ours = prepared.gid.parse::<Gid>().is_ok();
    if !ours {
        let severity = if old || waited_for { graded(grave) } else { Severity::Note };
        return finding(&checks::FOREIGN, severity, end(prepared, here));
    }
    if here && !belongs(prepared, member.facts) {
        return finding(&checks::OWNER, Severity::Warning, owner(prepared, member.facts));
    }
    if old {
        finding(&checks::BRANCH, graded(grave), ask(names))
    } else if waited_for {
        finding(&checks::BRANCH, Severity::Note, ask(names))
    } else {
        None
    }
}

fn seen(prepared: &PreparedSeen) -> String {
    let PreparedSeen { gid, database, owner, age, locks, blocked_sessions } = prepared;
    let owner = owner.as_deref().unwrap_or("(a role that was dropped)");
    let mut text = format!("{} is prepared in {database} by {owner}", printable(gid));
    if !locks.is_empty() {
        text.push_str(&format!(", keeps {} locked", locks.join(", ")));
    }
    match blocked_sessions {
        0 => {}
        1 => text.push_str(", 1 session waits for it"),
        many => text.push_str(&format!(", {many} sessions wait for it")),
    }
    text.push_str(&format!(
        ", and holds back vacuum by {age} transactions ({} are left before ids run out)",
        XIDS.saturating_sub(*age)
    ));
    text
}

/// Whether the agent may end it.
fn belongs(prepared: &PreparedSeen, facts: &Facts) -> bool {
    let declared = |owner: &String| facts.attached.iter().any(|attached| attached.name == *owner);
    facts.role.superuser
        || prepared.owner.as_ref().is_some_and(|owner| *owner == facts.role.current || declared(owner))
}

/// Somebody else's.
fn end(prepared: &PreparedSeen, here: bool) -> Remedy {
    let place = if here { "" } else { " It takes a connection to that database." };
    let line = format!("ROLLBACK PREPARED {}", literal(&prepared.gid));
    let advice =
        format!("only where whoever prepared it says so; COMMIT PREPARED where it is to stand.{place}");
    statements([line], &advice)
}

/// A branch of another role.
fn owner(prepared: &PreparedSeen, facts: &Facts) -> Remedy {
    let gid = literal(&prepared.gid);
    let advice = format!(
        "only where `votumctl in-doubt` says that this is its decision; COMMIT PREPARED {gid} where it is to \
         commit. What {} prepares from then on is its own: have applications work through the agent, not past it",
        identifier(&facts.role.current)
    );
    statements([format!("ROLLBACK PREPARED {gid}")], &advice)
}

/// A branch that its coordinator settles.
fn ask(names: &[ParticipantName]) -> Remedy {
    let of = names.first().map(|name| format!(" --participant {name}")).unwrap_or_default();
    Remedy {
        place: Place::Shell,
        lines: vec![format!("votumctl in-doubt{of}")],
        advice: "its coordinator ends it as decided once it runs and reaches the agent; nobody else should"
            .to_owned(),
    }
}
