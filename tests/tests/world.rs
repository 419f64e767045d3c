//! A whole installation does what it is for, and the judgement over it is not asleep.

use std::sync::Arc;

use votum_client::{Error, Outcome};
use votum_tests::ledger::{Ledger, Told};
use votum_tests::postgres::ROLE;
use votum_tests::teller::{Leg, Teller};
use votum_tests::world::World;

const TO_B: [Leg<'static>; 2] =
    [Leg { bank: "bank-a", account: 1, amount: -30 }, Leg { bank: "bank-b", account: 2, amount: 30 }];

async fn world() -> anyhow::Result<(World, Arc<Ledger>, Teller)> {
    let world = World::builder().start().await?;
    let ledger = Arc::new(Ledger::new());
    let teller = Teller::connect(&world, &ledger).await?;
    Ok((world, ledger, teller))
}

#[tokio::test]
async fn a_committed_transfer_stands_in_both_banks_and_a_refused_one_in_none() {
    let (world, ledger, teller) = world().await.unwrap();
    let outcome = teller.transfer("paid", &TO_B).await.unwrap();
    assert!(matches!(&outcome, Outcome::Committed(committed) if committed.completed), "{outcome}");
    // The second statement is refused, after the first bank has already taken the money.
    let too_much = [TO_B[1], Leg { amount: -5_000, ..TO_B[0] }];
    let refused = teller.transfer("refused", &too_much).await.unwrap_err();
    assert!(matches!(&refused, Error::Sql(error) if error.sqlstate == "23514"), "{refused}");

    world.check(&ledger).await.unwrap();
    assert_eq!((ledger.count(Told::Committed), ledger.count(Told::Aborted)), (1, 1));
    let client = world.banks[0].client().await.unwrap();
    let held = client.query_one("SELECT balance FROM accounts WHERE id = 1", &[]).await.unwrap();
    assert_eq!(held.get::<_, i64>(0), 970);
}

#[tokio::test]
async fn what_was_told_before_a_crash_of_everything_still_stands_after_it() {
    let world = World::builder().own_servers(Default::default()).start().await.unwrap();
    let ledger = Arc::new(Ledger::new());
    let teller = Teller::connect(&world, &ledger).await.unwrap();
    teller.transfer("before", &TO_B).await.unwrap();

    world.coordinator.kill9().unwrap();
    for bank in &world.banks {
        bank.agent.kill9().unwrap();
        bank.server.stop_immediate().await.unwrap();
    }
    world.start_all().await.unwrap();

    teller.transfer("after", &TO_B).await.unwrap();
    world.check(&ledger).await.unwrap();
    assert_eq!(ledger.count(Told::Committed), 2);
}

#[tokio::test]
async fn foreign_and_forged_prepared_transactions_are_left_alone() {
    let (world, ledger, teller) = world().await.unwrap();
    let id = world.coordinator_id().to_owned();
    for bank in &world.banks {
        bank.plant_foreign(&format!("{}_of_another_tool", bank.database)).await.unwrap();
        // Well formed, of a life that never was.
        let name = bank.database.trim_start_matches("t_");
        bank.plant_foreign(&format!("votum_{id}_1_000000_{name}_0_2")).await.unwrap();
    }
    teller.transfer("between", &TO_B).await.unwrap();
    world.crash_and_restart_coordinator().await.unwrap();
    teller.transfer("after", &TO_B).await.unwrap();
    world.check(&ledger).await.unwrap();
}

#[tokio::test]
async fn a_tampered_bank_does_not_pass_the_judgement() {
    let (world, ledger, teller) = world().await.unwrap();
    teller.transfer("paid", &TO_B).await.unwrap();
    world.check(&ledger).await.unwrap();

    let client = world.banks[1].client_as(ROLE).await.unwrap();
    client.batch_execute("DELETE FROM journal WHERE transfer = 'paid'").await.unwrap();
    let rejected = world.check(&ledger).await.unwrap_err().to_string();
    for expected in ["I1: ", "I13: ", "bank-b", "the last lines of"] {
        assert!(rejected.contains(expected), "{expected:?} is missing in: {rejected}");
    }
}
