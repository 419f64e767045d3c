//! What is there when all is up and calm again: in the databases, in the coordinator, in its log.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tokio::process::Command;

use super::record::{Account, Database, Effect, End, Logged, Moved};
use crate::eventually::{Found, eventually};
use crate::postgres::ROLE;
use crate::process::{Build, program};
use crate::world::{Bank, World};

/// The tables of the load. `moves` has no key: what was done twice must show.
pub const SCHEMA: &str = "
    CREATE TABLE lists (key int8 PRIMARY KEY, effects text[] NOT NULL);
    CREATE TABLE purses (id int8 PRIMARY KEY, version int8 NOT NULL, balance int8 NOT NULL);
    CREATE TABLE moves (purse int8 NOT NULL, version int8 NOT NULL, effect text NOT NULL, amount int8 NOT NULL,
                        balance int8 NOT NULL);";

/// Claims whose second holder is refused at its statement.
pub const CLAIMS: &str = "CREATE TABLE claims (key int8 NOT NULL UNIQUE, effect text NOT NULL);";

/// Claims whose second holder is refused at PREPARE.
pub const DEFERRED_CLAIMS: &str =
    "CREATE TABLE claims (key int8 NOT NULL UNIQUE DEFERRABLE INITIALLY DEFERRED, effect text NOT NULL);";

/// Prepared transactions that bear our name, and sessions of ours that hold a transaction open.
const LEFT_BEHIND: &str = r"
    SELECT 'prepared transaction ' || gid AS what FROM pg_prepared_xacts
     WHERE database = current_database() AND gid LIKE 'votum\_%'
    UNION ALL
    SELECT 'session ' || concat_ws(' ', pid, state, query) FROM pg_stat_activity
     WHERE datname = current_database() AND usename = $1 AND xact_start IS NOT NULL";

/// Waits until nothing is left open anywhere, at most the usual deadline. What is left then, described.
///
/// # Errors
/// When a server or the coordinator does not answer.
pub async fn until_calm(world: &World) -> anyhow::Result<Vec<String>> {
    let calm = eventually("nothing of ours is left open", async || {
        let left = left_behind(world).await?;
        Ok(if left.is_empty() { Found::Yes(()) } else { Found::NotYet(format!("{left:?}")) })
    });
    if calm.await.is_ok() {
        return Ok(Vec::new());
    }
    left_behind(world).await
}

async fn left_behind(world: &World) -> anyhow::Result<Vec<String>> {
    let mut left = Vec::new();
    for bank in &world.banks {
        let rows = bank.client().await?.query(LEFT_BEHIND, &[&ROLE]).await?;
        left.extend(rows.iter().map(|row| format!("{} at {}", row.get::<_, String>(0), bank.name)));
    }
    let status = world.status().await?;
    if status.in_flight + status.undelivered > 0 {
        left.push(format!("{} in flight and {} undelivered", status.in_flight, status.undelivered));
    }
    left.extend(
        status.alarms.iter().map(|alarm| format!("alarm {}: {} {}", alarm.code, alarm.gtid, alarm.detail)),
    );
    Ok(left)
}

/// Reads everything, and stops the coordinator to read its log.
///
/// # Errors
/// When something cannot be read.
pub async fn collect(world: &World, left_behind: Vec<String>) -> anyhow::Result<End> {
    let mut databases = BTreeMap::new();
    for bank in &world.banks {
        let held = database(bank).await.with_context(|| format!("reading {}", bank.name))?;
        databases.insert(bank.name.clone(), held);
    }
    let mut log = BTreeMap::new();
    list(world, &mut log).await.context("votumctl list")?;
    world.coordinator.terminate()?;
    let status = world.coordinator.wait_exit().await?;
    ensure!(status.success(), "the coordinator ended with {status}:\n{}", world.coordinator.log_tail());
    dump(world.log_directory(), &mut log).await.context("votumctl log dump")?;
    Ok(End { databases, log, left_behind })
}

async fn database(bank: &Bank) -> anyhow::Result<Database> {
    let client = bank.client().await?;
    let mut held = Database::default();
    for row in client.query("SELECT key, effects FROM lists", &[]).await? {
        let effects: Vec<String> = row.get(1);
        let effects = effects.iter().map(|effect| Ok(effect.parse::<Effect>()?));
        held.lists.insert(unsigned(row.get(0))?, effects.collect::<anyhow::Result<_>>()?);
    }
    for row in client.query("SELECT id, version, balance FROM purses", &[]).await? {
        let account = Account { version: unsigned(row.get(1))?, balance: row.get(2) };
        held.accounts.insert(unsigned(row.get(0))?, account);
    }
    for row in client.query("SELECT purse, version, effect, amount, balance FROM moves", &[]).await? {
        let [account, version] = [unsigned(row.get(0))?, unsigned(row.get(1))?];
        let effect = row.get::<_, String>(2).parse()?;
        held.moves.push(Moved { account, version, effect, amount: row.get(3), balance: row.get(4) });
    }
    held.moves.sort_by_key(|moved| (moved.account, moved.version));
    for row in client.query("SELECT key, effect FROM claims ORDER BY key", &[]).await? {
        held.claims.push((unsigned(row.get(0))?, row.get::<_, String>(1).parse()?));
    }
    Ok(held)
}

fn unsigned(number: i64) -> anyhow::Result<u64> {
    Ok(u64::try_from(number)?)
}

/// What the running coordinator lists, with the state of each.
async fn list(world: &World, log: &mut BTreeMap<String, Logged>) -> anyhow::Result<()> {
    let address = world.address().to_string();
    let listed = votumctl(&["list", "--limit", "1000000", "--json", "--coordinator", &address]).await?;
    let listed: Value = serde_json::from_str(&listed)?;
    for one in listed.get("transactions").and_then(Value::as_array).context("no transactions")? {
        let [gtid, state] = [text(one, "gtid")?, text(one, "state")?];
        let entry = log.entry(gtid).or_default();
        entry.listed = Some(state);
        entry.label = text(one, "label").ok();
    }
    Ok(())
}

/// Every record of the stopped log.
async fn dump(directory: &Path, log: &mut BTreeMap<String, Logged>) -> anyhow::Result<()> {
    let directory = directory.display().to_string();
    let dumped = votumctl(&["log", "dump", "--json", "--directory", &directory]).await?;
    for line in dumped.lines() {
        let record: Value = serde_json::from_str(line)?;
        ensure!(record.get("problem").is_none(), "the log cannot be read whole: {line}");
        let Ok(gtid) = text(&record, "gtid") else { continue };
        let [kind, said] = [text(&record, "kind")?, text(&record, "text")?];
        let entry = log.entry(gtid).or_default();
        match kind.as_str() {
            "Decided" => decided(entry, &said).with_context(|| format!("not of its form: {line}"))?,
            "Delegated" => entry.delegated = true,
            "Ended" => entry.ended = true,
            // Carried again is what stands elsewhere too; the others say nothing of the end.
            _ => {}
        }
    }
    Ok(())
}

/// `commit at bank-a (xid8 …), bank-b (…)`, or `abort, …`.
fn decided(entry: &mut Logged, said: &str) -> anyhow::Result<()> {
    let Some(at) = said.strip_prefix("commit at ") else {
        ensure!(said.starts_with("abort"), "neither commit nor abort");
        entry.abort = true;
        return Ok(());
    };
    let named = at.split("; key ").next().unwrap_or(at).split(" (xid8 ");
    let mut participants = BTreeSet::new();
    for part in named {
        let name = part.rsplit(", ").next().unwrap_or(part);
        if !name.ends_with(')') {
            participants.insert(name.to_owned());
        }
    }
    ensure!(!participants.is_empty(), "a commit of nothing");
    entry.commit = Some(participants);
    Ok(())
}

fn text(document: &Value, key: &str) -> anyhow::Result<String> {
    let text = document.get(key).and_then(Value::as_str);
    Ok(text.with_context(|| format!("{key} is not text in {document}"))?.to_owned())
}

async fn votumctl(arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(program(Build::CrashPoints, "votumctl")?).args(arguments).output().await?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "votumctl {} ended with {}: {said}", arguments.join(" "), output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_is_read_from_its_sentence() {
        let mut entry = Logged::default();
        let said = "commit at bank-a (xid8 731, system 7575, timeline 1), bank-b (xid8 9, system 7, timeline 1, \
                    marker); key \"k1\" of client \"history\"";
        decided(&mut entry, said).unwrap();
        let both = BTreeSet::from(["bank-a".to_owned(), "bank-b".to_owned()]);
        assert_eq!(entry.commit, Some(both));
        decided(&mut entry, "abort, timed out; had voted yes: none").unwrap();
        assert!(entry.abort);
        assert!(decided(&mut entry, "something else").is_err());
    }
}
