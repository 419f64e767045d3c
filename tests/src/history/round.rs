//! One round: an installation, its load, its faults, and the judgement.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::checker::check;
use super::client::work;
use super::collect::{CLAIMS, DEFERRED_CLAIMS, SCHEMA, collect, until_calm};
use super::faults::Nemesis;
use super::figures::Figures;
use super::record::{History, Opening, Question, Told};
use super::stage::Stage;
use super::workload::{ACCOUNTS, BALANCE};
use crate::eventually::{Found, eventually};
use crate::postgres;
use crate::world::World;

/// Databases in a round.
const BANKS: usize = 3;

/// How much a round does.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    /// Jobs of the load; one with an idempotency key may take several transactions.
    pub jobs: u64,
    /// Clients at the same time.
    pub clients: u64,
    /// Statements by which somebody falsifies the first database when all is over: to see that it is noticed.
    pub falsify: Option<&'static str>,
}

impl Extent {
    /// So many jobs, by so many clients.
    pub fn of(jobs: u64, clients: u64) -> Self {
        Self { jobs, clients, falsify: None }
    }
}

/// Runs a round, and says what it amounted to.
///
/// # Errors
/// Every promise that was broken, the seed, and the file in which the history is kept; or what kept the round
/// from coming to its end.
pub async fn run(seed: u64, extent: Extent, progress: impl Fn(&Figures)) -> anyhow::Result<Figures> {
    let played = Box::pin(play(seed, extent, &progress)).await;
    let (history, figures, tails) = played.with_context(|| {
        format!("the round of seed {seed} did not come to its end (again: make history SEED={seed})")
    })?;
    let violations = check(&history);
    if violations.is_empty() {
        return Ok(figures);
    }
    let path = kept_at(seed);
    keep(&history, &path)?;
    let shown: Vec<String> = violations.iter().take(40).map(|one| format!("  {one}")).collect();
    anyhow::bail!(
        "{} promises were broken under seed {seed}:\n{}\nThe history is kept in {}. Again: make history SEED={seed}\n\
         {figures}\n{tails}",
        violations.len(),
        shown.join("\n"),
        path.display()
    )
}

/// Where the history of a round that broke a promise is kept: in the target directory, which outlives the run.
pub fn kept_at(seed: u64) -> PathBuf {
    let target = std::env::current_exe().ok();
    let target = target.as_deref().and_then(|exe| exe.ancestors().find(|dir| dir.ends_with("target")));
    let base = target.map_or_else(std::env::temp_dir, Path::to_owned);
    base.join("histories").join(format!("{seed}.json"))
}

fn keep(history: &History, path: &Path) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let file = std::io::BufWriter::new(std::fs::File::create(path)?);
    serde_json::to_writer(file, history).with_context(|| format!("keeping the history in {}", path.display()))
}

async fn play(
    seed: u64,
    extent: Extent,
    progress: &impl Fn(&Figures),
) -> anyhow::Result<(History, Figures, String)> {
    let world = open().await?;
    let participants: Vec<String> = world.banks.iter().map(|bank| bank.name.clone()).collect();
    let address = world.network()?.coordinator()?.clone();
    let stage = Stage::open(seed, extent.jobs, participants, &address).await?;
    let mut nemesis = Nemesis::new(&stage, &world);
    let troubled = trouble(&stage, &world, &mut nemesis, extent.clients, progress).await;
    troubled.with_context(|| transcript(&world, nemesis.deeds()))?;
    let end = async {
        nemesis.calm().await?;
        let left_behind = until_calm(&world).await?;
        ask_everything(&stage).await?;
        if let (Some(statements), Some(bank)) = (extent.falsify, world.banks.first()) {
            bank.by_hand(statements).await?;
        }
        collect(&world, left_behind).await
    };
    let end = Box::pin(end).await;
    let end = end.with_context(|| transcript(&world, nemesis.deeds()))?;
    let mut figures = figures(&stage, &world, &nemesis)?;
    figures.one_phase = end.log.values().filter(|logged| logged.delegated).count() as u64;
    progress(&figures);
    let opening = Opening {
        participants: stage.participants.iter().cloned().collect(),
        accounts: ACCOUNTS,
        balance: BALANCE,
    };
    let faults = nemesis.deeds().faults.clone();
    let history = History { seed, opening, transactions: stage.recorded(), faults, end };
    let tails = transcript(&world, nemesis.deeds());
    Ok((history, Figures { rounds: 1, ..figures }, tails))
}

async fn open() -> anyhow::Result<World> {
    let options = postgres::Options { max_prepared_transactions: 64, settings: Vec::new() };
    let builder = World::builder().banks(BANKS).own_servers(options).proxied();
    let world = builder.agent_setting("session_queue_ms", "1000").start().await?;
    for (place, bank) in world.banks.iter().enumerate() {
        let claims = if place == 0 { DEFERRED_CLAIMS } else { CLAIMS };
        let purses =
            format!("INSERT INTO purses SELECT id, 0, {BALANCE} FROM generate_series(0, {ACCOUNTS} - 1) id");
        let client = bank.client_as(postgres::ROLE).await?;
        client.batch_execute(&format!("{SCHEMA} {claims} {purses}")).await?;
        // What writes at one of them alone is committed in one phase.
        bank.keep_markers().await?;
    }
    Ok(world)
}

/// The clients and what is done to them, until no job is left.
async fn trouble(
    stage: &Stage,
    world: &World,
    nemesis: &mut Nemesis<'_>,
    clients: u64,
    progress: &impl Fn(&Figures),
) -> anyhow::Result<()> {
    let load = async {
        futures::future::join_all((0..clients).map(|number| work(stage, number))).await;
    };
    let mut load = Box::pin(load);
    loop {
        let fault = Box::pin(nemesis.next());
        match futures::future::select(load, fault).await {
            futures::future::Either::Left(((), fault)) => return fault.await,
            futures::future::Either::Right((done, rest)) => {
                if done.is_err() {
                    stage.stop();
                    return done;
                }
                load = rest;
            }
        }
        progress(&figures(stage, world, nemesis)?);
    }
}

/// Asks about every transaction once more: by now all of them are known.
async fn ask_everything(stage: &Stage) -> anyhow::Result<()> {
    let known = stage.look(|all| {
        let known = all.values().filter_map(|one| Some((one.number, one.gtid.clone()?)));
        known.collect::<Vec<_>>()
    });
    for some in known.chunks(16) {
        let ask = async |(number, gtid): &(u64, String)| {
            // The first question may meet the end of a connection.
            eventually(&format!("t{number} is known"), async || {
                let told = stage.ask(*number, gtid, Question::Find).await;
                let answered = told != Told::Nothing;
                Ok(if answered { Found::Yes(()) } else { Found::NotYet("no answer".to_owned()) })
            })
            .await?;
            stage.ask(*number, gtid, Question::FindAtTheEnd).await;
            anyhow::Ok(())
        };
        futures::future::try_join_all(some.iter().map(ask)).await?;
    }
    Ok(())
}

fn figures(stage: &Stage, world: &World, nemesis: &Nemesis<'_>) -> anyhow::Result<Figures> {
    let mut figures = Figures::default();
    stage.look(|all| figures.count(all.values()));
    figures.suffer(nemesis.deeds());
    for settled in world.settlements()? {
        figures.settle(settled.committed, settled.rolled_back, &settled.line);
    }
    Ok(figures)
}

/// What the processes said last, and what was done to them last.
fn transcript(world: &World, deeds: &super::faults::Deeds) -> String {
    let faults = deeds.faults.iter().rev().take(8).rev();
    let mut text =
        Vec::from_iter(faults.map(|fault| format!("  at {}: {}", fault.begun, fault.what))).join("\n");
    text.insert_str(0, "the last faults:\n");
    for process in std::iter::once(&world.coordinator).chain(world.banks.iter().map(|bank| &bank.agent)) {
        text.push_str(&format!(
            "\nthe last lines of {}:\n{}",
            process.name(),
            crate::tail(process.log(), 15)
        ));
    }
    text
}
