//! The floors and the judgement on real servers.

use tokio_postgres::Client;
use votum_proto::runtime::Seams;
use votum_tests::postgres::{self, ROLE};

use crate::bank::Banks;
use crate::carrier::{Setting, Way};
use crate::ended::Ended;
use crate::floor::{Direct, Piped, connect};
use crate::installation::BankAddress;
use crate::load::Promised;
use crate::work::{Leg, Order, Work};

struct Scene {
    setting: Setting,
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
    let banks = Banks::open(&seams, &addresses, 1_000).await?;
    Ok(Scene {
        setting: Setting { seams, coordinator: String::new(), banks: addresses, patience: None },
        banks,
    })
}

fn transfer(accounts: [i64; 2], order: Order) -> Work {
    let legs = [(accounts[0], -1), (accounts[1], 1)].map(|(account, amount)| Leg { account, amount });
    Work::Transfer { legs: legs.into(), order }
}

impl Scene {
    async fn client(&self, bank: usize) -> anyhow::Result<Client> {
        connect(&self.setting.seams, &self.setting.banks[bank]).await
    }

    fn floors(&self) -> [Box<dyn Way>; 2] {
        [Box::new(Direct::new(&self.setting)), Box::new(Piped::new(&self.setting))]
    }

    async fn verdict(&self, committed: i64, unknown: i64) -> Result<String, String> {
        self.banks.judge(&Promised { committed, unknown }).await.map_err(|error| format!("{error:#}"))
    }
}

#[tokio::test]
async fn both_floors_commit_at_every_bank_in_either_order_and_the_judge_counts_it() -> anyhow::Result<()> {
    let scene = scene().await?;
    for floor in scene.floors() {
        let mut carrier = floor.carrier(0).await?;
        for order in [Order::AtOnce, Order::FirstBankFirst] {
            assert!(matches!(carrier.carry_out(&transfer([0, 999], order)).await, Ended::Committed));
        }
    }
    assert!(scene.verdict(4, 0).await.is_ok());
    assert!(scene.verdict(3, 1).await.is_ok(), "an unknown outcome may be a commit");
    assert!(scene.verdict(5, 0).await.is_err(), "a commit that was told is missing");
    scene.banks.close().await
}

#[tokio::test]
async fn a_transfer_that_one_bank_refuses_leaves_nothing_at_the_other_and_the_next_one_commits()
-> anyhow::Result<()> {
    let scene = scene().await?;
    let too_much = transfer([0, 0], Order::AtOnce);
    let Work::Transfer { mut legs, .. } = too_much else { unreachable!() };
    legs[1].amount = i64::MAX;
    for floor in scene.floors() {
        let mut carrier = floor.carrier(0).await?;
        for order in [Order::AtOnce, Order::FirstBankFirst] {
            for (accounts, kind) in [([0, 5_000], "wrong rows"), ([5_000, 0], "wrong rows")] {
                let ended = carrier.carry_out(&transfer(accounts, order)).await;
                assert!(matches!(&ended, Ended::NotCommitted(failure) if failure.kind == kind), "{ended:?}");
            }
            // The statement itself fails.
            let work = Work::Transfer { legs: legs.clone(), order };
            let ended = carrier.carry_out(&work).await;
            let out_of_range = "SQLSTATE 22003";
            assert!(
                matches!(&ended, Ended::NotCommitted(failure) if failure.kind == out_of_range),
                "{ended:?}"
            );
            assert!(matches!(carrier.carry_out(&transfer([0, 0], order)).await, Ended::Committed));
        }
    }
    assert_eq!(scene.verdict(4, 0).await.err(), None);
    scene.banks.close().await
}

#[tokio::test]
async fn both_floors_read_one_row_at_every_bank_and_leave_no_transaction_open() -> anyhow::Result<()> {
    let scene = scene().await?;
    for floor in scene.floors() {
        let mut carrier = floor.carrier(0).await?;
        let read = |accounts: [i64; 2]| Work::Read { accounts: accounts.into() };
        assert!(matches!(carrier.carry_out(&read([3, 4])).await, Ended::Committed));
        assert!(matches!(carrier.carry_out(&read([3, 5_000])).await, Ended::NotCommitted(_)));
        let open = "SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
        for bank in 0..2 {
            let left: i64 = scene.client(bank).await?.query_one(open, &[]).await?.get(0);
            assert_eq!(left, 0, "at bank {bank}");
        }
    }
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

    let gid = format!("bench_{:x}", scene.setting.seams.entropy.bits());
    thief.batch_execute(&format!("BEGIN; SELECT pg_current_xact_id(); PREPARE TRANSACTION '{gid}'")).await?;
    assert!(scene.verdict(0, 0).await.unwrap_err().contains("left prepared at bank-1"));
    thief.batch_execute(&format!("ROLLBACK PREPARED '{gid}'")).await?;
    assert!(scene.verdict(0, 0).await.is_ok());
    scene.banks.close().await
}
