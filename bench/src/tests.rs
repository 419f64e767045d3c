//! The floor and the judgement on real servers.

use tokio_postgres::Client;
use votum_proto::runtime::Seams;
use votum_tests::postgres::{self, ROLE};

use crate::bank::Banks;
use crate::direct::{Direct, connect};
use crate::installation::BankAddress;
use crate::load::Promised;
use crate::transfer::{Ended, Leg};

struct Scene {
    seams: Seams,
    addresses: Vec<BankAddress>,
    banks: Banks,
}

async fn scene() -> anyhow::Result<Scene> {
    let seams = Seams::production();
    let mut addresses = Vec::new();
    for slot in 0..2 {
        let server = postgres::shared(slot).await?;
        let database = postgres::fresh_database(&server).await?;
        let connection = server.connection(&database, ROLE);
        addresses.push(BankAddress { participant: format!("bank-{slot}"), connection });
    }
    let banks = Banks::open(&seams, &addresses, 1).await?;
    Ok(Scene { seams, addresses, banks })
}

impl Scene {
    async fn client(&self, bank: usize) -> anyhow::Result<Client> {
        connect(&self.seams, &self.addresses[bank]).await
    }

    async fn transfer(&self, accounts: [i64; 2]) -> anyhow::Result<Ended> {
        let legs = [(accounts[0], -1), (accounts[1], 1)].map(|(account, amount)| Leg { account, amount });
        Ok(Direct::open(&self.seams, &self.addresses, 0).await?.transfer(&legs).await)
    }

    async fn verdict(&self, committed: i64, unknown: i64) -> Result<String, String> {
        self.banks.judge(&Promised { committed, unknown }).await.map_err(|error| format!("{error:#}"))
    }
}

#[tokio::test]
async fn the_floor_commits_at_every_bank_and_the_judge_counts_it() -> anyhow::Result<()> {
    let scene = scene().await?;
    assert!(matches!(scene.transfer([0, 999]).await?, Ended::Committed));
    assert!(scene.verdict(1, 0).await.is_ok());
    assert!(scene.verdict(0, 1).await.is_ok(), "an unknown outcome may be a commit");
    assert!(scene.verdict(2, 0).await.is_err(), "a commit that was told is missing");
    scene.banks.close().await
}

#[tokio::test]
async fn a_transfer_that_one_bank_refuses_leaves_nothing_at_the_other() -> anyhow::Result<()> {
    let scene = scene().await?;
    assert!(matches!(scene.transfer([0, 1_000_000]).await?, Ended::NotCommitted(_)));
    assert!(scene.verdict(0, 0).await.is_ok());
    scene.banks.close().await
}

#[tokio::test]
async fn the_judge_sees_lost_money_and_what_is_left_prepared() -> anyhow::Result<()> {
    let scene = scene().await?;
    let thief = scene.client(1).await?;
    thief.batch_execute("UPDATE votum_bench_accounts SET balance = balance - 5 WHERE id = 3").await?;
    assert!(scene.verdict(0, 0).await.unwrap_err().contains("bank-1 holds -5 more"));
    thief.batch_execute("UPDATE votum_bench_accounts SET balance = balance + 5 WHERE id = 3").await?;

    let gid = format!("bench_{:x}", scene.seams.entropy.bits());
    thief.batch_execute(&format!("BEGIN; SELECT pg_current_xact_id(); PREPARE TRANSACTION '{gid}'")).await?;
    assert!(scene.verdict(0, 0).await.unwrap_err().contains("left prepared at bank-1"));
    thief.batch_execute(&format!("ROLLBACK PREPARED '{gid}'")).await?;
    assert!(scene.verdict(0, 0).await.is_ok());
    scene.banks.close().await
}
