//! What a role prepared that is not the agent's, and is declared for attached work: only that role, and superusers,
//! may end it.

use tokio_postgres::Client;
use votum_tests::inspect::Prepared;
use votum_tests::postgres::{Options, ROLE};
use votum_tests::scene::{A, B, Scene};
use votum_tests::world::{Bank, World};

use crate::site::*;

/// With a space, which ends an option of a connection.
const OWNER: &str = "app of ann";

/// A session of that role.
async fn as_owner(bank: &Bank) -> anyhow::Result<Client> {
    let client = bank.client().await?;
    client.batch_execute(&format!("SET SESSION AUTHORIZATION \"{OWNER}\"")).await?;
    Ok(client)
}

/// Prepares a branch as that role, of which the agent's configuration says that it works for it.
async fn attach(scene: &Scene, bank: &Bank, gid: &str) -> anyhow::Result<()> {
    let roles = format!(
        "CREATE ROLE \"{OWNER}\" LOGIN; CREATE TABLE errand (id int8); GRANT INSERT ON errand TO \"{OWNER}\""
    );
    bank.by_hand(&roles).await?;
    let work = format!("BEGIN; INSERT INTO errand VALUES (1); PREPARE TRANSACTION '{gid}'");
    as_owner(bank).await?.batch_execute(&work).await?;
    let file = scene.world.dir().join(format!("{}.toml", bank.name));
    let config = std::fs::read_to_string(&file)?;
    Ok(std::fs::write(file, format!("{config}attached_roles = [\"{OWNER}\"]\n"))?)
}

#[tokio::test]
async fn what_another_role_prepared_is_ended_as_that_role_or_a_person_is_told_what_to_run()
-> anyhow::Result<()> {
    let scene = scene(World::builder().own_servers(Options::default()), true).await?;
    lose_the_log(&scene).await?;
    let gtid = format!("{}-1-aaaaaa-900", scene.world.coordinator_id());
    let gid = |branch: u16| format!("votum_{}_{branch}_2", gtid.replace('-', "_"));
    attach(&scene, scene.bank(A)?, &gid(0)).await?;
    attach(&scene, scene.bank(B)?, &gid(1)).await?;

    let plan = dry(&scene, &["--commit", &gtid]).await?;
    for (place, branch) in found(&plan, &gtid)["prepared"].as_array().unwrap().iter().enumerate() {
        let by_hand = branch["by_hand"].as_str().unwrap_or_default();
        let (name, place) = (format!("as \"{OWNER}\""), u16::try_from(place)?);
        for part in [&name[..], &format!("COMMIT PREPARED '{}';", gid(place)), "GRANT"] {
            assert!(by_hand.contains(part), "{part}: {plan}");
        }
    }
    let refused = act(&scene, &["--commit", &gtid]).await?.ended(1).json()?;
    let one = found(&refused, &gtid);
    assert_eq!(one["state"], "unfinished", "{refused}");
    for branch in one["prepared"].as_array().unwrap() {
        assert_eq!((&branch["result"], &branch["detail"]), (&"refused".into(), &branch["by_hand"]));
    }
    let prepared: Vec<Prepared> = scene.world.prepared().await?;
    assert_eq!(prepared.len(), 2, "{prepared:?}");

    // A person does at B what was said, and has the agent's role take the other's part at A.
    as_owner(scene.bank(B)?).await?.batch_execute(&format!("COMMIT PREPARED '{}'", gid(1))).await?;
    scene.bank(A)?.by_hand(&format!("GRANT \"{OWNER}\" TO {ROLE}")).await?;
    let done = act(&scene, &[]).await?.ended(0).json()?;
    let one = found(&done, &gtid);
    assert_eq!((&one["state"], &one["prepared"][0]["result"]), (&"settled".into(), &"done".into()), "{done}");
    for bank in [A, B] {
        assert_eq!(scene.number(bank, "SELECT count(*) FROM errand").await?, 1, "{bank}");
    }
    close(scene).await
}
