//! I8: only our own gids are touched. Anyone may prepare a transaction, and anyone may forge a name.

use votum_client::{AbortKind, Status};
use votum_proto::v1;
use votum_proto::v1::operator_client::OperatorClient;
use votum_tests::eventually::{Found, eventually};
use votum_tests::expect::aborted;
use votum_tests::postgres::ROLE;
use votum_tests::scene::{A, B, Scene};
use votum_tests::teller::{Leg, work};

const LEGS: [Leg<'static>; 2] =
    [Leg { bank: A, account: 1, amount: -5 }, Leg { bank: B, account: 1, amount: 5 }];

/// What is prepared anywhere, by a listing that begins now: ours and not ours.
async fn in_doubt(scene: &Scene) -> anyhow::Result<v1::ListInDoubtResponse> {
    let mut operator = OperatorClient::new(scene.world.address().channel()?);
    let found = operator.list_in_doubt(v1::ListInDoubtRequest::default()).await?.into_inner();
    anyhow::ensure!(found.unheard.is_empty(), "a participant was not heard: {found:?}");
    Ok(found)
}

fn gids(rows: &[v1::InDoubt]) -> Vec<&str> {
    rows.iter().filter_map(|row| Some(row.row.as_ref()?.gid.as_str())).collect()
}

#[tokio::test]
async fn prepared_transactions_of_others_are_shown_and_never_touched() -> anyhow::Result<()> {
    let scene = Scene::usual().await?;
    assert!(scene.teller.transfer("before", &LEGS).await?.is_committed());
    let id = scene.world.coordinator_id().to_owned();
    let status = scene.world.status().await?;
    let (epoch, incarnation) = (status.epoch, status.incarnation);
    let foreign = [
        "another tool's".to_owned(),
        // As logical replication names them.
        "pg_gid_16393_731".to_owned(),
        "votum_".to_owned(),
        "votum_other_1_abcdef_1_0_2".to_owned(),
        format!("votum_{id}_{epoch}_{incarnation}_1_0"),
        format!("votum_{id}_{epoch}_{incarnation}_1_0_2 "),
        format!("VOTUM_{id}_{epoch}_{incarnation}_1_0_2"),
        // As ours in every letter, but somebody else's: within the lease, far beyond it, of another life.
        format!("votum_{id}_{epoch}_{incarnation}_1_0_2"),
        format!("votum_{id}_{epoch}_{incarnation}_900_0_2"),
        format!("votum_{id}_{epoch}_{incarnation}_99999999_0_2"),
        format!("votum_{id}_{epoch}_000001_1_0_2"),
        format!("votum_{id}_77_abcdef_1_0_2"),
    ];
    for gid in &foreign {
        scene.bank(A)?.plant_foreign(gid).await?;
    }
    let shown = in_doubt(&scene).await?;
    assert!(shown.branches.is_empty(), "{:?}", gids(&shown.branches));
    for gid in &foreign {
        assert!(
            gids(&shown.foreign).contains(&gid.as_str()),
            "{gid} is not shown: {:?}",
            gids(&shown.foreign)
        );
    }
    // Recovery looks at all of them again.
    scene.bank(A)?.agent.kill9()?;
    scene.world.coordinator.kill9()?;
    scene.world.start_all().await?;
    in_doubt(&scene).await?;
    let status = scene.world.status().await?;
    assert!(!status.stale, "a forged name proves nothing about our log: {}", status.stale_detail);
    assert!(scene.teller.transfer("after", &LEGS).await?.is_committed());
    scene.close().await
}

/// R12
#[tokio::test]
async fn a_branch_of_a_life_that_never_was_raises_an_alarm_and_stays() -> anyhow::Result<()> {
    let scene = Scene::usual().await?;
    let gid = format!("votum_{}_1_000001_1_0_2", scene.world.coordinator_id());
    scene.bank(B)?.plant_foreign_as(ROLE, &gid).await?;
    let alarmed = eventually("the coordinator raises an alarm", async || {
        let alarms = scene.world.status().await?.alarms;
        let found = alarms.iter().find(|alarm| alarm.detail.contains(&gid) || alarm.gtid.contains(&gid));
        Ok(found.cloned().map_or_else(|| Found::NotYet(format!("{alarms:?}")), Found::Yes))
    })
    .await?;
    assert_eq!(alarmed.participant, B);
    assert!(scene.teller.transfer("beside it", &LEGS).await?.is_committed());
    scene.world.crash_and_restart_coordinator().await?;
    in_doubt(&scene).await?;
    scene.close().await
}

#[tokio::test]
async fn a_forged_name_in_the_way_costs_one_transaction_and_is_not_touched() -> anyhow::Result<()> {
    let scene = Scene::usual().await?;
    let tx = scene.begin("in the way", &[A, B], scene.teller.votum().begin()).await?;
    work(&tx, "in the way", &LEGS).await?;
    // The name that the branch at b will have is easy to guess.
    let gid = format!("votum_{}", tx.gtid().replace('-', "_"));
    for branch in ["0_2", "1_2"] {
        scene.bank(B)?.plant_foreign(&format!("{gid}_{branch}")).await?;
    }
    let abort = aborted(scene.teller.commit(tx, "in the way").await?)?;
    let found = (abort.kind, abort.participant.as_deref(), abort.sqlstate.as_deref());
    assert_eq!(found, (AbortKind::VotedNo, Some(B), Some("42710")), "{abort}");
    in_doubt(&scene).await?;
    assert!(scene.teller.transfer("the next", &LEGS).await?.is_committed());
    scene.close().await
}

/// R5: what bears our name, our life and our role, and was never decided, is rolled back: presumed abort.
#[tokio::test]
async fn a_branch_of_ours_that_was_never_decided_is_rolled_back() -> anyhow::Result<()> {
    let scene = Scene::usual().await?;
    let tx = scene.begin("forgotten", &[], scene.teller.votum().begin()).await?;
    let gid = format!("votum_{}_0_1", tx.gtid().replace('-', "_"));
    let gtid = tx.gtid().to_owned();
    tx.rollback().await?;
    let role = scene.bank(A)?.client_as(ROLE).await?;
    role.batch_execute(&format!("BEGIN; UPDATE accounts SET balance = 0; PREPARE TRANSACTION '{gid}'"))
        .await?;
    let left = format!("SELECT count(*) FROM pg_prepared_xacts WHERE gid = '{gid}'");
    eventually("it is rolled back", async || {
        Ok(if scene.number(A, &left).await? == 0 {
            Found::Yes(())
        } else {
            Found::NotYet("it is there".into())
        })
    })
    .await?;
    assert_eq!(scene.balance(A, 1).await?, 1_000);
    assert!(matches!(scene.teller.votum().transaction(&gtid).await?.status, Status::Aborted(_)));
    scene.close().await
}
