//! `votumctl watch` in a real terminal, against real coordinators, agents and servers.

use votum_tests::postgres::Options;
use votum_tests::scene::{A, B, Scene};
use votum_tests::terminal::Terminal;
use votum_tests::tool::votumctl;
use votum_tests::world::World;

const ENTER: &str = "\r";
const ESCAPE: &str = "\x1b";
const TAB: &str = "\t";
const BACK_TAB: &str = "\x1b[Z";

#[tokio::test]
async fn a_branch_that_waits_for_a_person_is_seen_explained_and_settled_on_the_screen() -> anyhow::Result<()>
{
    let scene = Scene::open(World::builder().short_memory()).await?;
    let world = &scene.world;
    let gid = scene.forgotten_branch().await?.to_string();
    let prepared = "SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()";

    let mut watch = Terminal::votumctl(world, &["watch", "--interval", "1"], 80, 24)?;
    // The alarm names the branch, too, and may be there before what is in doubt.
    watch.until(&["In doubt: 1 branch", &gid, "VOTUM-1402", "ATTENTION", "R10", "QUARANTINED"]).await?;
    watch.types("e")?;
    watch.until(&["VOTUM-1402", "What it means"]).await?;
    watch.types(ESCAPE)?;
    watch.until_such("the page is closed", |text| !text.contains("What it means")).await?;
    watch.types(ENTER)?;
    watch.until(&["The log holds no record of it."]).await?;
    watch.types("q")?;
    watch.until_such("the transaction is closed", |text| !text.contains("holds no record")).await?;

    watch.types("r")?;
    watch.until(&["What is to become of it?", &gid]).await?;
    watch.types("b")?;
    watch.until(&["Why?"]).await?;
    watch.types("ticket 4711")?;
    watch.types(ENTER)?;
    watch.until(&["Dry run: nothing is done yet", "ROLLBACK PREPARED", "type: rollback bank-a"]).await?;
    watch.types("yes")?;
    watch.types(ENTER)?;
    watch.until(&["That was something else"]).await?;
    assert_eq!(scene.number(A, prepared).await?, 1, "nothing was confirmed");
    watch.types("rollback bank-a")?;
    watch.types(ENTER)?;
    watch.until(&["Settled", "done"]).await?;
    assert_eq!(scene.number(A, prepared).await?, 0);
    watch.types(ESCAPE)?;
    watch
        // That the log forgets so soon, which made the branch wait, goes on.
        .until_such("the branch needs nobody any more", |text| {
            text.contains("Needs attention: 1") && text.contains("VOTUM-1411") && !text.contains(&gid)
        })
        .await?;

    watch.types("q")?;
    assert_eq!(watch.ended().await?, 0);
    let gtid = scene.gtid("old")?;
    let shown = votumctl(world, &["show", &gtid]).await?;
    assert!(shown.out.contains("ada rolls back") && shown.out.contains("ticket 4711"), "{shown:?}");
    scene.close().await
}

#[tokio::test]
async fn the_last_picture_stays_while_nobody_answers_and_the_keys_go_on() -> anyhow::Result<()> {
    let scene = Scene::usual().await?;
    let world = &scene.world;
    assert!(scene.teller.transfer("paid", &world.legs(10)).await?.is_committed());
    let mut watch = Terminal::votumctl(world, &["watch", "--interval", "1"], 140, 40)?;
    watch.until(&[A, B, "HEALTHY", "/s committed"]).await?;

    // It accepts connections, and does not answer.
    world.coordinator.freeze()?;
    watch.until(&["old, every 1.0 s", B]).await?;
    watch.types("?")?;
    watch.until(&["this help"]).await?;
    watch.types(ESCAPE)?;
    watch.until_such("the help is closed", |text| !text.contains("this help")).await?;
    world.coordinator.thaw()?;
    watch.until_such("it answers again", |text| text.contains("HEALTHY") && !text.contains(" old")).await?;

    world.coordinator.kill9()?;
    let said = ["NO ANSWER: this is an old picture", "trying again", "Connection refused"];
    // With all of the picture: it is drawn from above, and read while it is.
    watch.until(&[said[0], said[1], said[2], "bank-b", world.coordinator_id()]).await?;
    world.start_coordinator(None).await?;
    watch
        .until_such("it answers again", |text| text.contains("HEALTHY") && text.contains("epoch 2-"))
        .await?;

    watch.terminate()?;
    assert_eq!(watch.ended().await?, 0);
    scene.close().await
}

#[tokio::test]
async fn what_an_agent_that_is_down_may_hold_is_on_the_screen() -> anyhow::Result<()> {
    let builder = World::builder().coordinator_tables("[limits]\ncompleted_wait_ms = 200");
    let scene = Scene::open(builder).await?;
    let world = &scene.world;
    world.restart_agent(1, Some("before-commit-prepared")).await?;
    scene.teller.transfer("owed", &world.legs(10)).await?;
    let gtid = scene.gtid("owed")?;
    let agent = &scene.bank(B)?.agent;
    agent.wait_crash().await?;
    world.until_disconnected(B).await?;

    let mut watch = Terminal::votumctl(world, &["watch"], 80, 24)?;
    watch.until(&["DOWN", "bank-b could not be asked", &gtid, "VOTUM-1406"]).await?;
    let red = watch.look(|screen| {
        let rows = 0..screen.size().0.get();
        let mut cells = rows.flat_map(|row| (0..80).filter_map(move |column| screen.cell(row, column)));
        cells.any(|cell| cell.fgcolor() == vt100::Color::Idx(1))
    });
    assert!(red, "what is wrong is red");
    watch.types(ENTER)?;
    watch.until(&["COMMITTED, not yet acknowledged by bank-b"]).await?;
    agent.start(None)?;
    watch.until(&["COMMITTED, acknowledged everywhere"]).await?;
    watch.types(ESCAPE)?;
    watch.until_such("the transaction is closed", |text| !text.contains("acknowledged everywhere")).await?;
    watch.types(TAB)?;
    watch.until(&["HEALTHY", "Nothing is prepared anywhere."]).await?;
    watch.types("\x03")?;
    assert_eq!(watch.ended().await?, 0, "Ctrl-C is a key like another");
    scene.close().await
}

#[tokio::test]
async fn the_slots_that_are_taken_and_how_far_xmin_is_held_back_are_on_the_screen() -> anyhow::Result<()> {
    let scene = Scene::open(World::builder().own_servers(Options::default())).await?;
    let (world, bank) = (&scene.world, scene.bank(A)?);
    let slots = bank.number("SELECT current_setting('max_prepared_transactions')::int8").await?;
    let mut watch = Terminal::votumctl(world, &["watch", "--interval", "1"], 140, 40)?;
    watch.until(&["SLOTS", "XMIN AGE", &format!("0/{slots}")]).await?;
    bank.plant_foreign("of somebody else").await?;
    bank.by_hand("DO $$ BEGIN FOR i IN 1..50 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$")
        .await?;

    let said = votumctl(world, &["in-doubt", "--json"]).await?.ended(0).json()?;
    let server = |name: &str| {
        let servers = said["servers"].as_array().into_iter().flatten();
        servers.into_iter().find(|server| server["participant"] == name).cloned().unwrap_or_default()
    };
    let (taken, free) = (server(A), server(B));
    assert_eq!((&taken["slots_used"], &taken["slots"]), (&1.into(), &slots.into()), "{said}");
    assert!(taken["xmin_held_back"].as_u64() >= Some(50), "{said}");
    assert!(taken["oldest_prepared_ms"].is_number(), "{said}");
    assert_eq!((&free["slots_used"], &free["xmin_held_back"]), (&0.into(), &0.into()), "{said}");
    assert!(free["oldest_prepared_ms"].is_null(), "{said}");

    watch.until(&[&format!("1/{slots}"), &format!("0/{slots}")]).await?;
    watch.types(BACK_TAB)?;
    let words = format!("bank-a: 1 of {slots} slots for prepared transactions are in use; the oldest");
    watch.until(&[&words, "holds xmin back by"]).await?;
    watch.types("q")?;
    assert_eq!(watch.ended().await?, 0);
    scene.close().await
}

#[tokio::test]
async fn without_a_terminal_it_says_what_to_use_instead() -> anyhow::Result<()> {
    let scene = Scene::usual().await?;
    for words in [&["watch"][..], &["watch", "--json"]] {
        let refused = votumctl(&scene.world, words).await?.ended(2);
        assert!(refused.err.contains("votumctl status --json"), "{refused:?}");
        assert!(!refused.out.contains('\x1b'), "{refused:?}");
    }
    let mut small = Terminal::votumctl(&scene.world, &["watch"], 60, 20)?;
    small.until(&["60 columns and 20 lines"]).await?;
    small.types("q")?;
    assert_eq!(small.ended().await?, 0);
    scene.close().await
}
