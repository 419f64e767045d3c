//! How the messages come by that no ordinary transaction needs: an operator departs, a standby takes over, a log
//! has forgotten.

use anyhow::{Context as _, ensure};
use futures::future::try_join;
use votum_proto::names::Gtid;
use votum_proto::v1;
use votum_tests::eventually::{Found, eventually};
use votum_tests::proxy::{Fault, Link, Message};
use votum_tests::scene::A;
use votum_tests::world::{Bank, World};

use crate::cases::Heal;
use crate::scripts::{Answer, Play, Script, script};

/// How many markers there are of a branch number, which is to be appended.
const MARKERS: &str = "SELECT count(*) FROM votum.marker WHERE branch = ";
/// No branch has this number: so rows are told from those of branches.
const PLANTED: u16 = 1_000;

impl Play<'_> {
    /// The answer to COMMIT PREPARED is on its way while an operator has the branch rolled back. Its agent is asked
    /// to let go of it, and waits for that answer.
    pub async fn departure(&self) -> anyhow::Result<Option<Answer>> {
        let (database, exchange) = (self.wire(Link::AgentDatabase)?, self.wire(Link::CoordinatorAgent)?);
        let tx = self.worked().await?;
        let gtid = tx.gtid().to_owned();
        database.arm(Message::SqlCommitPreparedDone, Fault::HoldBack);
        let conduct = async {
            database.until_sprung(Message::SqlCommitPreparedDone).await?;
            let order = rollback_at_a(&self.site.world, &gtid).await?;
            self.arm()?;
            let asked = exchange.seen(Message::HoldBranch);
            let answered = async {
                exchange.until_seen(Message::HoldBranch, asked).await?;
                database.heal();
                anyhow::Ok(())
            };
            let mut operator = self.site.world.operator()?;
            let resolved = async { anyhow::Ok(operator.resolve(order).await) };
            let (resolved, ()) = try_join(resolved, answered).await?;
            let refusal =
                resolved.err().context("the branch was committed, and an operator rolled it back")?;
            self.site.note(&format!("the operator was told {:?}", refusal.message()));
            anyhow::Ok(())
        };
        let committed = async { anyhow::Ok(self.client.commit(tx, self.name).await) };
        let (answer, ()) = try_join(committed, conduct).await?;
        Ok(Some(answer))
    }

    /// The standby has everything: what is looked for there is there.
    pub async fn failover(&self) -> anyhow::Result<Option<Answer>> {
        let answer = self.transfer().await;
        self.arm()?;
        first(&self.site.world)?.server.change_timeline().await?;
        self.site.note("the standby has taken over");
        Ok(Some(answer))
    }

    /// The first listing that a life hears tells it what may go.
    pub async fn pruning(&self) -> anyhow::Result<Option<Answer>> {
        let answer = self.transfer().await;
        let site = self.site;
        let forgotten: Gtid = site.forgotten.as_deref().context("nothing is forgotten")?.parse()?;
        let remembered = Gtid { seq: 1_000_000_000, ..forgotten.clone() };
        plant(first(&site.world)?, &[(PLANTED, forgotten), (PLANTED + 1, remembered)]).await?;
        self.arm()?;
        site.world.coordinator.kill9()?;
        site.world.coordinator.start(None)?;
        Ok(Some(answer))
    }

    /// Once the network is healed, what the message was for is done.
    ///
    /// # Errors
    /// When it is not.
    pub async fn is_done(&self) -> anyhow::Result<()> {
        match script(self.case.message) {
            Script::Failover => self.all_is_looked_for().await,
            Script::Pruning => self.all_is_pruned().await,
            _ => Ok(()),
        }
    }

    async fn all_is_looked_for(&self) -> anyhow::Result<()> {
        let world = &self.site.world;
        let timeline = "SELECT ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int8";
        let timeline = format!("timeline={} ", first(world)?.number(timeline).await?);
        eventually("every commit is looked for on the new timeline", async || {
            let lines = world.lines("the commits of earlier ones were looked for there")?;
            let found = lines.iter().any(|line| line.contains(&timeline) && line.contains("unproven=0"));
            Ok(if found { Found::Yes(()) } else { Found::NotYet(format!("{timeline}: {lines:?}")) })
        })
        .await
    }

    /// A life tells each participant at most once a minute: where that was lost, the next life tells it. A fault
    /// that loses nothing breaks the stream, too, where it lasts.
    async fn all_is_pruned(&self) -> anyhow::Result<()> {
        let world = &self.site.world;
        if !(self.case.fault.is_lossless() && self.case.heal == Heal::Soon) {
            world.crash_and_restart_coordinator().await?;
        }
        let (forgotten, remembered) = (format!("{MARKERS}{PLANTED}"), format!("{MARKERS}{}", PLANTED + 1));
        eventually("the markers of what is forgotten are gone", async || {
            let left = first(world)?.number(&forgotten).await?;
            Ok(if left == 0 { Found::Yes(()) } else { Found::NotYet(format!("{left} are left")) })
        })
        .await?;
        ensure!(first(world)?.number(&remembered).await? == 1, "a marker went that may be asked about");
        Ok(())
    }
}

fn first(world: &World) -> anyhow::Result<&Bank> {
    world.banks.first().context("no first bank")
}

/// What an operator says who rolls back the branch at the first bank.
async fn rollback_at_a(world: &World, gtid: &str) -> anyhow::Result<v1::ResolveRequest> {
    let request = v1::ShowTransactionRequest { gtid: gtid.to_owned() };
    let shown = world.operator()?.show_transaction(request).await?.into_inner();
    let branch = shown.branches.into_iter().find(|branch| branch.participant == A);
    Ok(v1::ResolveRequest {
        gid: branch.context("no branch at the first bank")?.gid,
        participant: A.to_owned(),
        action: v1::resolve_request::Action::Rollback.into(),
        operator: "ada".to_owned(),
        reason: "ticket 4715".to_owned(),
        apply: true,
        heuristic: true,
    })
}

/// Markers as branches of these transactions would leave them.
async fn plant(bank: &Bank, markers: &[(u16, Gtid)]) -> anyhow::Result<()> {
    for (branch, Gtid { coordinator_id, life, seq }) in markers {
        let (epoch, incarnation) = (life.epoch, life.incarnation.get());
        let row = format!(
            "INSERT INTO votum.marker (coordinator_id, epoch, incarnation, seq, branch, committed)
             VALUES ('{coordinator_id}', {epoch}, {incarnation}, {seq}, {branch}, true) ON CONFLICT DO NOTHING"
        );
        bank.by_hand(&row).await?;
    }
    Ok(())
}
