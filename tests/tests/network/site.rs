//! One installation on which cases are tried, one after the other, and the judgement after each.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use futures::future::try_join;
use votum_client::{Error, Outcome, Status, Votum};
use votum_proto::runtime::Seams;
use votum_proto::v1;
use votum_tests::eventually::{Found, eventually, within};
use votum_tests::ledger::Ledger;
use votum_tests::postgres::Options;
use votum_tests::proxy::Message;
use votum_tests::scene::{A, B, C};
use votum_tests::teller::{Leg, Teller, work};
use votum_tests::world::{Builder, World};

use crate::cases::{Case, Heal};
use crate::scripts::{Play, script};

/// Longer than every timeout but one: pings and their answers, questions to a database, whatever a client waits.
pub const LATE: Duration = Duration::from_secs(24);
/// Longer than a coordinator waits for the answer to its hello.
const AFTER_HELLO: Duration = Duration::from_secs(34);
/// How long a case may take beyond that: it bounds a failure.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a case came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Became {
    Committed,
    ReadOnly,
    Aborted,
    /// Begin was not answered: there is no transaction to ask about.
    NeverBegun,
}

/// What an installation is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Common,
    /// The first bank has a server of its own, on which branches leave markers; and the log has forgotten.
    Marked,
}

/// An installation with a network of its own.
pub struct Site {
    kind: Kind,
    /// A transaction that the log has forgotten, where it has.
    pub forgotten: Option<String>,
    pub world: World,
    pub ledger: Arc<Ledger>,
    /// Reaches the coordinator past the network.
    pub others: Teller,
    played: usize,
    /// What has been done in the present case, for when it fails.
    notes: Mutex<Vec<String>>,
}

impl Site {
    /// Three banks, and timeouts that pass soon.
    pub async fn open() -> anyhow::Result<Self> {
        Self::open_with(World::builder()).await
    }

    /// One on which cases of this kind can be tried.
    pub async fn open_for(kind: Kind) -> anyhow::Result<Self> {
        match kind {
            Kind::Common => Self::open().await,
            Kind::Marked => Self::open_marked().await,
        }
    }

    async fn open_marked() -> anyhow::Result<Self> {
        let builder = World::builder().own_first_server(Options::default()).short_memory();
        let mut site = Self::open_with(builder).await?;
        let bank = site.world.banks.first().context("no first bank")?;
        bank.keep_markers().await?;
        // Sessions that are open look for the table at times only: a new agent has none.
        bank.agent.kill9()?;
        bank.agent.start(None)?;
        site.world.ready().await?;
        let tx = site.others.votum().begin().await?;
        let gtid = tx.gtid().to_owned();
        tx.rollback().await?;
        // An abort is not forced: what is not there yet is not forgotten.
        eventually("the abort is in the log", async || {
            let request = v1::ShowTransactionRequest { gtid: gtid.clone() };
            let shown = site.world.operator()?.show_transaction(request).await?.into_inner();
            Ok(if shown.records.is_empty() { Found::NotYet("it is not".into()) } else { Found::Yes(()) })
        })
        .await?;
        site.world.until_forgotten(&gtid).await?;
        site.kind = Kind::Marked;
        site.forgotten = Some(gtid);
        Ok(site)
    }

    /// Whether `case` can be tried here.
    pub fn is_for(&self, case: Case) -> bool {
        self.kind == script(case.message).kind()
    }

    /// The same, made in a particular way.
    pub async fn open_with(builder: Builder) -> anyhow::Result<Self> {
        let world = builder
            .banks(3)
            .accounts(4, 1_000_000)
            .proxied()
            .agent_setting("session_queue_ms", "1000")
            .coordinator_tables("[limits]\ncompleted_wait_ms = 2000")
            .start()
            .await?;
        for bank in &world.banks {
            bank.build_gate().await?;
        }
        // What works at this bank alone is committed in one phase.
        world.banks.first().context("no bank")?.keep_markers().await?;
        let ledger = Arc::new(Ledger::new());
        let others = Teller::connect(&world, &ledger).await?;
        let kind = Kind::Common;
        Ok(Self { kind, forgotten: None, world, ledger, others, played: 0, notes: Mutex::default() })
    }

    /// Tries one case: the transaction, others beside it, the healing, the judgement.
    ///
    /// # Errors
    /// What was not as it must be.
    pub async fn try_case(&mut self, case: Case) -> anyhow::Result<Became> {
        self.played += 1;
        self.notes.lock().unwrap().clear();
        let name = format!("case {}", self.played);
        let limit = LATE + PATIENCE;
        let clock = Seams::production().clock;
        let result = match clock.timeout(limit, Box::pin(self.whole(case, &name))).await {
            Ok(result) => result,
            Err(_) => Err(anyhow!("it was not over within {limit:?}")),
        };
        result.map_err(|error| anyhow!("{error:#}\n{}", self.transcript()))
    }

    async fn whole(&self, case: Case, name: &str) -> anyhow::Result<Became> {
        self.world.network()?.forget();
        let client = self.client(case.heal).await?;
        let timeout = match (case.heal, case.message) {
            // It has to come by.
            (_, Message::Cancel) => Duration::from_secs(5),
            // With all that a client waits after it, it passes before the network is healed.
            (Heal::Late, _) => Duration::from_secs(10),
            (Heal::Soon, _) => Duration::from_secs(20),
        };
        let play = Play { site: self, case, name, client: &client, timeout };
        let (answer, ()) = Box::pin(try_join(play.play(), self.meanwhile(case, name))).await?;
        self.note(&format!("the client was told {answer:?}"));
        self.world.network()?.heal();
        if case.fault.is_lossless() && case.heal == Heal::Soon && script(case.message).commits() {
            ensure!(
                matches!(answer, Some(Ok(Outcome::Committed(_)))),
                "nothing was lost, and it was not committed: {answer:?}"
            );
        }
        self.works_again(&client, name).await?;
        self.note("everybody is heard, and money moves everywhere");
        play.is_done().await?;
        let became = self.became(name).await?;
        self.agrees(answer.as_ref(), became)?;
        self.world.check(&self.ledger).await?;
        Ok(became)
    }

    /// A client that reaches the coordinator through the network.
    pub async fn client(&self, heal: Heal) -> anyhow::Result<Teller> {
        let options = match heal {
            Heal::Soon => Votum::options(),
            Heal::Late => {
                Votum::options().retry_budget(Duration::from_secs(3)).outcome_budget(Duration::from_secs(4))
            }
        };
        let address = self.world.network()?.coordinator()?.to_string();
        Ok(Teller::new(options.connect(&address).await?, &self.ledger))
    }

    /// Others, who do not touch the faulty link, go on while it is faulty: one that was under way when it
    /// happened, and one that begins then. After that it is healed.
    async fn meanwhile(&self, case: Case, name: &str) -> anyhow::Result<()> {
        let clock = Seams::production().clock;
        let wire = self.world.network()?.wire(case.message.link(), 0)?;
        let (early, later) = (format!("{name}, early"), format!("{name}, later"));
        let legs = [Leg { bank: B, account: 2, amount: -1 }, Leg { bank: C, account: 2, amount: 1 }];
        let mut under_way = None;
        if !script(case.message).stops_everybody() {
            let tx = self.others.open(&early, &legs).await?;
            work(&tx, &early, &legs).await?;
            under_way = Some(tx);
        }
        wire.until_sprung(case.message).await?;
        let sprung = clock.now();
        self.note("the fault has happened");
        if let Some(tx) = under_way {
            goes_on(&self.others.commit(tx, &early).await)?;
            goes_on(&self.others.transfer(&later, &legs).await)?;
        }
        if case.heal == Heal::Late && case.fault.lasts() {
            let is_hello = matches!(case.message, Message::CoordinatorHello | Message::AgentHello);
            clock.sleep_until(sprung.after(if is_hello { AFTER_HELLO } else { LATE })).await;
        }
        self.world.network()?.heal();
        self.note("healed");
        Ok(())
    }

    /// Once it is healed everybody is heard, no alarm lasts, and the same client moves money everywhere.
    pub async fn works_again(&self, client: &Teller, name: &str) -> anyhow::Result<()> {
        self.world
            .until_status("every agent is heard and no alarm lasts", |status| {
                // That a log forgets early, where it is made to, is said as long as it runs.
                status.alarms.iter().all(|alarm| alarm.code == "VOTUM-1411" && self.kind == Kind::Marked)
                    && !status.stale
                    && status.participants.iter().all(|known| known.connected && known.heard)
            })
            .await?;
        let legs = [(A, -2), (B, 1), (C, 1)].map(|(bank, amount)| Leg { bank, account: 1, amount });
        let mut attempt = 0;
        eventually("money moves everywhere again", async || {
            attempt += 1;
            let again = format!("{name}, again {attempt}");
            Ok(match client.transfer(&again, &legs).await {
                Ok(Outcome::Committed(_)) => Found::Yes(()),
                other => Found::NotYet(format!("{other:?}")),
            })
        })
        .await
    }

    /// What became of the transaction, as the coordinator says at last.
    pub async fn became(&self, name: &str) -> anyhow::Result<Became> {
        let Some(gtid) = self.ledger.transfers().get(name).and_then(|transfer| transfer.gtid.clone()) else {
            return Ok(Became::NeverBegun);
        };
        within(Duration::from_secs(30), &format!("{gtid} has ended"), async || {
            Ok(match self.others.votum().transaction(&gtid).await?.status {
                Status::Committed(committed) => {
                    ensure!(committed.heuristics.is_empty(), "nobody's hand was in it: {committed:?}");
                    if committed.completed {
                        Found::Yes(Became::Committed)
                    } else {
                        Found::NotYet(format!("{committed:?}"))
                    }
                }
                Status::ReadOnly => Found::Yes(Became::ReadOnly),
                Status::Aborted(aborted) => {
                    ensure!(aborted.heuristics.is_empty(), "nobody's hand was in it: {aborted:?}");
                    Found::Yes(Became::Aborted)
                }
                other @ (Status::InProgress { .. } | Status::Unknown { .. } | Status::Expired) => {
                    Found::NotYet(format!("{other:?}"))
                }
            })
        })
        .await
    }

    /// I5: what the client was told is what became of it.
    fn agrees(&self, answer: Option<&Result<Outcome, Error>>, became: Became) -> anyhow::Result<()> {
        let agrees = match answer {
            Some(Ok(Outcome::Committed(_))) => became == Became::Committed,
            // A transaction that wrote nothing reads as aborted later.
            Some(Ok(Outcome::ReadOnly)) => became != Became::Committed,
            Some(Ok(Outcome::Aborted(_))) => became == Became::Aborted,
            Some(Ok(Outcome::Unknown { .. }) | Err(_)) | None => true,
        };
        ensure!(agrees, "I5: the client was told {answer:?}, and it became {became:?}");
        Ok(())
    }

    /// Notes that something is done now.
    pub fn note(&self, what: &str) {
        let now = humantime(Seams::production().clock.wall());
        self.notes.lock().unwrap().push(format!("{now} {what}"));
    }

    /// What was done, and the end of every process's output.
    fn transcript(&self) -> String {
        let mut text = format!("done:\n{}\n", self.notes.lock().unwrap().join("\n"));
        let files = std::fs::read_dir(self.world.dir()).unwrap();
        for file in files.flatten().filter(|file| file.path().extension().is_some_and(|kind| kind == "log")) {
            text += &format!("{}:\n{}\n", file.path().display(), votum_tests::tail(&file.path(), 40));
        }
        text
    }
}

/// Seconds of the day, as in the processes' output.
fn humantime(at: std::time::SystemTime) -> String {
    let since = at.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let (day, millis) = (since.as_secs() % 86_400, since.subsec_millis());
    format!("{:02}:{:02}:{:02}.{millis:03}", day / 3600, day / 60 % 60, day % 60)
}

fn goes_on(answer: &Result<Outcome, Error>) -> anyhow::Result<()> {
    ensure!(
        matches!(answer, Ok(Outcome::Committed(committed)) if committed.completed),
        "a transaction that does not touch the faulty link did not go on: {answer:?}"
    );
    Ok(())
}
