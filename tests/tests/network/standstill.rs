//! Processes that stand still for longer than every timeout, with their connections open, and then go on as if
//! nothing had been (SIGSTOP, SIGCONT). I5, I6, I12, I13.

use std::time::Duration;

use futures::future::{join, join3};
use votum_client::{Outcome, Votum};
use votum_proto::runtime::Seams;
use votum_proto::v1;
use votum_tests::eventually::{Found, eventually};
use votum_tests::ledger::Told;
use votum_tests::load::Load;
use votum_tests::postgres::Options;
use votum_tests::scene::{A, B, C};
use votum_tests::teller::{Leg, Teller, work};
use votum_tests::world::World;

use crate::cases::Heal;
use crate::site::{LATE, Site};
use crate::successor::Second;

/// How many clients are at work when a process stops, each on the account of its own number.
const CLIENTS: i64 = 3;
/// The account of the others, who must not wait for the locks of those clients.
const ANOTHER: i64 = 4;

async fn until_ended(load: &Load, more: u64) -> anyhow::Result<()> {
    let many = load.ended() + more;
    eventually("the load goes on", async || {
        let ended = load.ended();
        Ok(if ended >= many { Found::Yes(()) } else { Found::NotYet(format!("{ended} ended")) })
    })
    .await
}

/// Clients work at the first two banks while `stop` and, later than every timeout, `go_on` are done; others, at
/// other banks, go on meanwhile where they can.
async fn stands_still(
    site: &Site,
    others_go_on: bool,
    stop: impl Fn(&World) -> anyhow::Result<()>,
    go_on: impl Fn(&World) -> anyhow::Result<()>,
) {
    let options =
        Votum::options().retry_budget(Duration::from_secs(3)).outcome_budget(Duration::from_secs(4));
    let impatient =
        Teller::new(options.connect(&site.world.address().to_string()).await.unwrap(), &site.ledger);
    let load = Load::default();
    let conduct = async {
        until_ended(&load, 20).await.unwrap();
        let clock = Seams::production().clock;
        let since = clock.now();
        stop(&site.world).unwrap();
        if others_go_on {
            let legs =
                [Leg { bank: B, account: ANOTHER, amount: -1 }, Leg { bank: C, account: ANOTHER, amount: 1 }];
            for turn in 0..3 {
                let outcome = site.others.transfer(&format!("other {turn}"), &legs).await;
                assert!(matches!(outcome, Ok(Outcome::Committed(_))), "others did not go on: {outcome:?}");
            }
        }
        clock.sleep_until(since.after(LATE)).await;
        go_on(&site.world).unwrap();
        let many = load.ended() + 20;
        eventually("the load goes on again", async || {
            // A coordinator whose disk seemed to hang for that long gives up on it, as soon as it looks.
            if !site.world.coordinator.is_running()? {
                site.world.coordinator.start(None)?;
            }
            let ended = load.ended();
            Ok(if ended >= many { Found::Yes(()) } else { Found::NotYet(format!("{ended} ended")) })
        })
        .await
        .unwrap();
        load.stop();
    };
    join(load.run(&impatient, [A, B], CLIENTS, "load"), conduct).await;
    let client = site.client(Heal::Soon).await.unwrap();
    site.works_again(&client, "after").await.unwrap();
    site.world.check(&site.ledger).await.unwrap();
    assert!(site.ledger.count(Told::Committed) > 0);
}

/// All three at once, each in an installation of its own: most of it is waiting.
#[tokio::test]
async fn processes_that_stood_still_for_longer_than_every_timeout_held_up_nobody_else_and_contradict_nothing()
{
    let coordinator = async {
        let site = Site::open().await.unwrap();
        stands_still(&site, false, |world| world.coordinator.freeze(), |world| world.coordinator.thaw())
            .await;
    };
    let agent = async {
        let site = Site::open().await.unwrap();
        let stop = |world: &World| world.banks[0].agent.freeze();
        stands_still(&site, true, stop, |world| world.banks[0].agent.thaw()).await;
    };
    let database = async {
        let site = Site::open_with(World::builder().own_servers(Options::default())).await.unwrap();
        let stop = |world: &World| world.banks[0].server.freeze();
        stands_still(&site, true, stop, |world| world.banks[0].server.thaw()).await;
    };
    join3(Box::pin(coordinator), Box::pin(agent), Box::pin(database)).await;
}

/// I12: its transactions were all open when it was stopped; what it says after its successor took over has no
/// effect anywhere.
#[tokio::test]
async fn an_old_coordinator_that_wakes_after_its_successor_took_over_has_no_effect() {
    let site = Site::open().await.unwrap();
    let world = &site.world;
    let client = site.client(Heal::Late).await.unwrap();
    let legs = world.legs(1);
    let worked = async |name: &str| {
        let tx = client.open(name, &legs[..]).await.unwrap();
        let legs: Vec<_> = legs.iter().map(|leg| Leg { account: 2, ..*leg }).collect();
        work(&tx, name, &legs).await.unwrap();
        tx
    };
    let asked = worked("asked before").await;
    let shut = world.banks[1].shut_gate().await.unwrap();
    votum_tests::gate::pass(&asked, B, false).await.unwrap();
    let conduct = async {
        // Two of three have voted; the third cannot.
        world.banks[1].until_at_gate().await.unwrap();
        world.until_prepared(2).await.unwrap();
        world.coordinator.freeze().unwrap();
        let second = Second::start(world).unwrap();
        second.until_accepted(world).await.unwrap();
        drop(shut);
        world.until_prepared(0).await.unwrap();
        world.coordinator.thaw().unwrap();
        second
    };
    let (answer, second) = join(client.commit(asked, "asked before"), conduct).await;
    assert!(!matches!(answer, Ok(Outcome::Committed(_))), "{answer:?}");
    world.until_alarm("VOTUM-1409").await.unwrap();
    // Every agent says so at each of its refusals, and people are told once.
    let refused = "every agent has refused it";
    let all_refused =
        |status: &v1::GetStatusResponse| status.participants.iter().all(|known| !known.connected);
    world.until_status(refused, all_refused).await.unwrap();
    assert_eq!(world.lines("this log is stale").unwrap().len(), 1);
    second.hand_over(world).unwrap();
    site.works_again(&client, "after").await.unwrap();
    world.check(&site.ledger).await.unwrap();
}
