//! What coordinator and agents show to Prometheus, besides alarms, and the pages that say so.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
#![cfg(test)] // clippy then lets helpers fail as tests do

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use votum_proto::runtime::Seams;
use votum_tests::eventually::{Found, eventually};
use votum_tests::postgres::Options;
use votum_tests::proxy::{Fault, Link};
use votum_tests::scene::{A, B, Scene};
use votum_tests::scrape::{COORDINATOR, at};
use votum_tests::teller::{Leg, work};
use votum_tests::world::World;

fn read(page: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(page)).unwrap()
}

/// The names of metrics in the tables of one section of docs/metrics.md, with their kinds.
fn documented(section: &str) -> BTreeMap<String, String> {
    let page = read("docs/metrics.md");
    let (_, rest) = page.split_once(&format!("\n## {section}\n")).unwrap();
    let mut found = BTreeMap::new();
    for row in rest.lines().take_while(|line| !line.starts_with("## ")).filter(|line| line.starts_with("| `"))
    {
        let cells: Vec<&str> = row.split(" | ").map(str::trim).collect();
        let name = cells[0].split('`').nth(1).unwrap();
        let name = name.split('{').next().unwrap().to_owned();
        assert!(found.insert(name.clone(), cells[1].to_owned()).is_none(), "{name} stands there twice");
    }
    found
}

/// What a rule says: its name, its expression, and its whole text.
fn rules() -> Vec<(String, String, String)> {
    let text = read("docs/alerts.yml");
    let mut rules = Vec::new();
    for rule in text.split("- alert: ").skip(1) {
        let name = rule.lines().next().unwrap().trim().to_owned();
        let expression = rule.lines().find_map(|line| line.trim().strip_prefix("expr: ")).unwrap();
        rules.push((name, expression.to_owned(), rule.to_owned()));
    }
    assert!(rules.len() > 10, "the rules are not read");
    rules
}

/// The names of metrics in an expression.
fn named(expression: &str) -> BTreeSet<String> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("votum_")).map(str::to_owned).collect()
}

/// A world in which everything has happened that a series waits for.
async fn busy() -> Scene {
    let scene = Scene::open(World::builder().metrics()).await.unwrap();
    assert!(scene.teller.transfer("one", &scene.world.legs(10)).await.unwrap().is_committed());
    scene.world.until_idle().await.unwrap();
    scene
}

#[tokio::test]
async fn the_page_names_every_metric_that_there_is_and_no_other() {
    let scene = busy().await;
    for (section, process) in [("The coordinator", COORDINATOR), ("The agent", A)] {
        let page = scene.world.scrape(process).await.unwrap();
        assert!(page.0.ends_with("# EOF\n"), "the page is not whole");
        assert_eq!(documented(section), page.metrics(), "docs/metrics.md (left), and what is shown (right)");
    }
    scene.close().await.unwrap();
}

#[test]
fn the_rules_name_only_metrics_that_there_are() {
    let mut known = documented("The coordinator");
    known.extend(documented("The agent"));
    for (name, expression, _) in rules() {
        for metric in named(&expression) {
            let base = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|part| metric.strip_suffix(part))
                .filter(|base| known.get(*base).is_some_and(|kind| kind == "histogram"));
            assert!(known.contains_key(base.unwrap_or(&metric)), "{name}: there is no {metric}");
        }
        assert!(
            named(&expression).len() + usize::from(expression.starts_with("up{")) > 0,
            "{name} asks nothing"
        );
    }
}

/// The codes are those that the processes show from the beginning; each has a page in `votumctl explain`.
#[tokio::test]
async fn every_alarm_has_a_rule_and_every_rule_of_an_alarm_its_alarm() {
    let scene = busy().await;
    let mut shown = BTreeSet::new();
    for process in [COORDINATOR, A] {
        let page = scene.world.scrape(process).await.unwrap();
        let codes = page.0.lines().filter_map(|line| line.strip_prefix("votum_alarm{code=\""));
        shown.extend(codes.map(|rest| rest.split('"').next().unwrap().to_owned()));
    }
    let mut ruled = BTreeMap::new();
    for (name, expression, rule) in rules() {
        if let Some((_, rest)) = expression.split_once("votum_alarm{code=\"") {
            let code = rest.split('"').next().unwrap().to_owned();
            assert!(
                rule.contains(&format!("votumctl explain {code}")),
                "{name} does not say where to read on"
            );
            assert_eq!(ruled.insert(code.clone(), name), None, "{code} has two rules");
        }
    }
    assert_eq!(shown, ruled.into_keys().collect(), "the alarms (left) and the rules (right)");
    // What keeps a database from serving has many codes, and a series only while it lasts.
    let of_databases =
        |(_, expression, _): &(String, String, String)| expression.contains("code=~\"VOTUM-22.*\"");
    assert_eq!(rules().iter().filter(|rule| of_databases(rule)).count(), 1);

    let explained = read("recovery-tool/src/explain/alarms.rs") + &read("recovery-tool/src/explain/agent.rs");
    let pages = explained.lines().filter_map(|line| line.trim().strip_prefix("code: \""));
    let pages: BTreeSet<String> = pages.map(|rest| rest.trim_end_matches("\",").to_owned()).collect();
    let lasting = |code: &&String| code.starts_with("VOTUM-14") || code.starts_with("VOTUM-21");
    assert_eq!(pages.iter().filter(lasting).collect::<Vec<_>>(), shown.iter().collect::<Vec<_>>());
    scene.close().await.unwrap();
}

#[tokio::test]
async fn a_commit_is_seen_at_the_coordinator_at_both_agents_and_on_the_disk() {
    let scene = busy().await;
    let page = scene.world.scrape(COORDINATOR).await.unwrap();
    let committed = "votum_transactions_total{outcome=\"committed\",reason=\"\"}";
    assert_eq!(page.value(committed), Some(1.0));
    let forced = page.value("votum_log_forced_write_seconds_count").unwrap();
    assert!(forced >= 2.0, "the epoch and the decision: {forced}");
    assert!(page.value("votum_log_last_forced_write_seconds").unwrap() > 0.0);
    assert!(page.value("votum_log_position").unwrap() > 2.0);
    for bank in [A, B] {
        let page = scene.world.scrape(bank).await.unwrap();
        let voted = format!("votum_agent_votes_total{{participant=\"{bank}\",vote=\"yes\"}}");
        assert_eq!(page.value(&voted), Some(1.0));
        assert_eq!(page.value(&at("votum_agent_prepare_seconds_count", bank)), Some(1.0));
        let ordered =
            format!("votum_agent_phase_two_seconds_count{{participant=\"{bank}\",order=\"commit\"}}");
        // A listing may have it ordered once more.
        assert!(page.value(&ordered) >= Some(1.0), "{}", page.0);
    }
    scene.close().await.unwrap();
}

#[tokio::test]
async fn a_no_is_seen_at_the_agent_that_gave_it_and_as_the_reason_of_the_abort() {
    let scene = Scene::open(World::builder().metrics()).await.unwrap();
    let tx = scene.begin("in the way", &[A, B], scene.teller.votum().begin()).await.unwrap();
    work(&tx, "in the way", &scene.world.legs(5)).await.unwrap();
    // The name that the branch at b will have is taken.
    let gid = format!("votum_{}", tx.gtid().replace('-', "_"));
    for branch in ["0_2", "1_2"] {
        scene.bank(B).unwrap().plant_foreign(&format!("{gid}_{branch}")).await.unwrap();
    }
    assert!(!scene.teller.commit(tx, "in the way").await.unwrap().is_committed());
    let aborted = "votum_transactions_total{outcome=\"aborted\",reason=\"voted-no\"}";
    scene.world.until_shown(COORDINATOR, aborted, Some(1.0)).await.unwrap();
    let voted = format!("votum_agent_votes_total{{participant=\"{B}\",vote=\"no\"}}");
    scene.world.until_shown(B, &voted, Some(1.0)).await.unwrap();
    scene.close().await.unwrap();
}

#[tokio::test]
async fn sessions_and_those_who_wait_for_one_are_counted() {
    let scene = Scene::open(World::builder().metrics().agent_setting("sessions", "1")).await.unwrap();
    let [used, waiting] = ["used", "waiting"].map(|what| at(&format!("votum_agent_sessions_{what}"), A));
    let page = scene.world.until_shown(A, &used, Some(0.0)).await.unwrap();
    assert_eq!(page.value(&at("votum_agent_sessions_limit", A)), Some(1.0));
    let leg = [Leg { bank: A, account: 1, amount: 0 }];
    let first = scene.begin("first", &[A], scene.teller.votum().begin()).await.unwrap();
    work(&first, "first", &leg).await.unwrap();
    let page = scene.world.until_shown(A, &used, Some(1.0)).await.unwrap();
    assert_eq!(page.value(&waiting), Some(0.0));
    let second = scene.begin("second", &[A], scene.teller.votum().begin()).await.unwrap();
    let waits = async { work(&second, "second", &leg).await.unwrap() };
    let watched = async {
        scene.world.until_shown(A, &waiting, Some(1.0)).await.unwrap();
        assert!(scene.teller.commit(first, "first").await.unwrap().is_committed());
    };
    futures::future::join(waits, watched).await;
    assert!(scene.teller.commit(second, "second").await.unwrap().is_committed());
    scene.world.until_shown(A, &used, Some(0.0)).await.unwrap();
    scene.world.until_shown(A, &waiting, Some(0.0)).await.unwrap();
    scene.close().await.unwrap();
}

/// Whosever they are: a forgotten one takes a slot of the server, and holds vacuum back in its database.
#[tokio::test]
async fn slots_and_what_holds_xmin_back_are_the_servers_own_word() {
    let options = Options { max_prepared_transactions: 9, ..Options::default() };
    let scene = Scene::open(World::builder().metrics().own_servers(options)).await.unwrap();
    let series = ["slots_used", "slots_limit"].map(|what| at(&format!("votum_agent_prepared_{what}"), A));
    let [used, limit] = &series;
    let [oldest, xmin] =
        ["oldest_prepared_seconds", "xmin_held_back"].map(|what| at(&format!("votum_agent_{what}"), A));
    let page = scene.world.until_shown(A, used, Some(0.0)).await.unwrap();
    assert_eq!(page.value(limit), Some(9.0));
    let bank = scene.bank(A).unwrap();
    let elsewhere = bank.server.client("postgres").await.unwrap();
    let prepare = "BEGIN; SELECT pg_current_xact_id(); PREPARE TRANSACTION 'elsewhere'";
    elsewhere.batch_execute(prepare).await.unwrap();
    let page = scene.world.until_shown(A, used, Some(1.0)).await.unwrap();
    assert_eq!(
        (page.value(&oldest), page.value(&xmin)),
        (Some(0.0), Some(0.0)),
        "it is in no database of ours"
    );
    bank.plant_foreign("another tool's").await.unwrap();
    for _ in 0..5 {
        bank.by_hand("UPDATE accounts SET balance = balance").await.unwrap();
    }
    eventually("the planted one is shown", async || {
        let page = scene.world.scrape(A).await?;
        let [oldest, xmin] = [&oldest, &xmin].map(|series| page.value(series).unwrap_or(0.0));
        Ok(match page.value(used) == Some(2.0) && oldest > 0.0 && xmin >= 5.0 {
            true => Found::Yes(()),
            false => Found::NotYet(page.0),
        })
    })
    .await
    .unwrap();
    let page = scene.world.scrape(A).await.unwrap();
    assert_eq!(page.value(&at("votum_agent_prepared", A)), Some(0.0), "it is not ours");
    scene.close().await.unwrap();
}

/// A scrape is answered while the database says nothing at all, and says so.
#[tokio::test]
async fn a_database_that_hangs_does_not_hold_the_page_back() {
    let scene = Scene::open(World::builder().metrics().proxied()).await.unwrap();
    let network = scene.world.network().unwrap();
    let answers = at("votum_agent_server_answers", A);
    scene.world.until_shown(A, &answers, Some(1.0)).await.unwrap();
    network.wire(Link::AgentDatabase, 0).unwrap().begin(Fault::Stall);
    // Less than the agent gives the database for other questions.
    let clock = Seams::production().clock;
    let page = clock.timeout(Duration::from_secs(8), scene.world.scrape(A)).await.expect("the page waits");
    let page = page.unwrap();
    assert_eq!(page.value(&answers), Some(0.0));
    assert!(page.metrics().contains_key("votum_agent_sessions_used"), "{}", page.0);
    network.heal();
    scene.world.until_shown(A, &answers, Some(1.0)).await.unwrap();
    scene.close().await.unwrap();
}
