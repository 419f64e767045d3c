//! `votumctl doctor` as a process, and what an agent says of its databases at its start.

#![cfg(test)] // clippy then lets helpers fail as tests do

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tokio::process::Command;
use votum_tests::eventually::{Found, eventually};
use votum_tests::postgres::{Options, ROLE, Server};
use votum_tests::process::{Build, program};
use votum_tests::scene::{A, B, Scene};
use votum_tests::teller::Leg;
use votum_tests::world::World;

/// What a command wrote, and how it ended.
#[derive(Debug)]
struct Said {
    code: i32,
    out: String,
    err: String,
}

/// Runs `votumctl doctor` with these words, as a person and as a program reads it.
async fn doctor(words: &[&str], environment: &[(&str, &str)]) -> anyhow::Result<(Said, Value)> {
    let mut said = Vec::new();
    for form in [&[][..], &["--json"]] {
        let mut command = Command::new(program(Build::Plain, "votumctl")?);
        command.arg("doctor").args(words).args(form).envs(environment.iter().copied());
        let output = command.output().await?;
        let code = output.status.code().context("votumctl was killed")?;
        let (out, err) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
        said.push(Said { code, out, err });
    }
    let (json, text) = (said.pop().context("nothing")?, said.pop().context("nothing")?);
    ensure!(text.code == json.code, "text and JSON end differently: {text:?} {json:?}");
    let document = serde_json::from_str(&json.out).with_context(|| format!("not a document: {json:?}"))?;
    Ok((text, document))
}

fn codes(document: &Value) -> Vec<&str> {
    let findings = document["findings"].as_array().map(Vec::as_slice).unwrap_or_default();
    findings.iter().filter_map(|finding| finding["code"].as_str()).collect()
}

/// Runs the first finding's statements, as they stand in the document.
async fn mend(server: &Server, database: &str, document: &Value) -> anyhow::Result<()> {
    let remedy = &document["findings"][0]["remedy"];
    ensure!(remedy["place"] == "database", "{document}");
    let superuser = server.client(database).await?;
    for line in remedy["lines"].as_array().context("no lines")? {
        superuser.batch_execute(line.as_str().context("no statement")?).await?;
    }
    Ok(())
}

/// Runs what `votumctl install` prints.
async fn install(server: &Server, database: &str, role: &str) -> anyhow::Result<()> {
    let printed = Command::new(program(Build::Plain, "votumctl")?).args(["install", "--role", role]).output();
    let statements = String::from_utf8(printed.await?.stdout)?;
    let superuser = server.client(database).await?;
    superuser.batch_execute(&statements).await?;
    // A role that is called as the schema is would have it on its path.
    let path = format!("ALTER ROLE {role} IN DATABASE {database} SET search_path = public");
    Ok(superuser.batch_execute(&path).await?)
}

fn agent_file(world: &World, bank: &str) -> String {
    world.dir().join(format!("{bank}.toml")).display().to_string()
}

fn write(dir: &Path, name: &str, toml: &str) -> anyhow::Result<String> {
    let file: PathBuf = dir.join(name);
    std::fs::write(&file, toml)?;
    Ok(file.display().to_string())
}

#[tokio::test]
async fn an_installation_is_found_sound_whether_anything_of_it_runs_or_not() -> anyhow::Result<()> {
    let scene = Scene::open(World::builder().build(Build::Plain)).await?;
    let world = &scene.world;
    let (a, b, coordinator) =
        (agent_file(world, A), agent_file(world, B), world.config_file().display().to_string());
    let words = ["--agent-config", &a, &b, "--coordinator-config", &coordinator];
    for bank in &world.banks {
        install(&bank.server, &bank.database, ROLE).await?;
    }
    for running in [true, false] {
        if !running {
            world.coordinator.kill9()?;
            world.banks.iter().try_for_each(|bank| bank.agent.kill9())?;
        }
        let (said, document) = doctor(&words, &[]).await?;
        assert_eq!((said.code, codes(&document)), (0, vec![]), "{said:?}");
        assert!(said.out.contains("Nothing was found that needs mending."), "{said:?}");
        assert_eq!(document["participants"][1]["participant"], B);
        assert_eq!(document["participants"][1]["answers"], true);
    }
    let (said, document) = doctor(&["--agent-config", &a, "--coordinator-config", &coordinator], &[]).await?;
    assert_eq!((said.code, codes(&document)), (1, vec!["VOTUM-2243"]), "{said:?}");
    let (said, document) = doctor(&["--agent-config", &a, "--agent-config", &a], &[]).await?;
    assert_eq!((said.code, codes(&document)), (4, vec!["VOTUM-2242"]), "{said:?}");
    world.start_all().await?;
    scene.close().await
}

#[tokio::test]
async fn a_broken_database_ends_it_with_4_an_ailing_one_with_1_and_a_mended_one_with_0() -> anyhow::Result<()>
{
    let server = Server::start(Options { max_prepared_transactions: 0, ..Options::default() }).await?;
    server.create_database("bank").await?;
    install(&server, "bank", ROLE).await?;
    let dir = tempfile::tempdir()?;
    let connection = server.connection("bank", "votum");
    let toml = format!(
        "listen = \"127.0.0.1:7501\"\n[[participants]]\nname = \"bank\"\nconnection = \"{connection}\"\n"
    );
    let file = write(dir.path(), "agent.toml", &toml)?;
    let words = ["--agent-config", file.as_str()];

    let (said, document) = doctor(&words, &[]).await?;
    assert_eq!((said.code, codes(&document)), (4, vec!["VOTUM-2205"]), "{said:?}");
    let statement = "    ALTER SYSTEM SET max_prepared_transactions = 64;";
    assert!(said.out.lines().any(|line| line == statement), "{}", said.out);
    assert!(said.err.is_empty() && !said.out.contains('\x1b'), "{said:?}");
    mend(&server, "bank", &document).await?;
    server.stop().await?;
    server.restart().await?;
    assert_eq!(doctor(&words, &[]).await?.0.code, 0);

    // As an agent under the same environment would have it.
    let (said, document) = doctor(&words, &[("VOTUM_PARTICIPANT__SESSIONS", "65")]).await?;
    assert_eq!((said.code, codes(&document)), (1, vec!["VOTUM-2206"]), "{said:?}");
    server.client("bank").await?.batch_execute("ALTER ROLE votum SET idle_session_timeout = '1h'").await?;
    let (said, document) = doctor(&words, &[]).await?;
    assert_eq!((said.code, codes(&document)), (1, vec!["VOTUM-2215"]), "{said:?}");
    mend(&server, "bank", &document).await?;
    server.client("bank").await?.batch_execute("ALTER ROLE votum SET lock_timeout = '1h'").await?;
    let (said, document) = doctor(&words, &[]).await?;
    assert_eq!((said.code, codes(&document)), (0, vec!["VOTUM-2218"]), "{said:?}");
    Ok(())
}

#[tokio::test]
async fn mistakes_in_any_file_are_told_all_at_once_and_nobody_is_asked() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let one = write(dir.path(), "one.toml", "listen = \"127.0.0.1:7501\"\nsesions = 3\n")?;
    let two = write(dir.path(), "two.toml", "listen = \"127.0.0.1:7502\"\nsessions = 0\n")?;
    let three = write(dir.path(), "three.toml", "coordinator_id = \"acme\"\n")?;
    let words = ["--agent-config", &one, &two, "--coordinator-config", &three];
    let (said, document) = doctor(&words, &[]).await?;
    assert_eq!(said.code, 2, "{said:?}");
    let mistakes =
        ["one.toml", "sesions", "participants is empty", "two.toml", "sessions is 0", "three.toml"];
    for mistake in mistakes {
        assert!(said.err.contains(mistake), "{mistake}: {}", said.err);
    }
    assert_eq!(document["error"]["exit_code"], 2, "{document}");
    Ok(())
}

#[tokio::test]
async fn passwords_are_used_and_never_shown() -> anyhow::Result<()> {
    const SECRET: &str = "correct-horse-battery-staple";
    let server = Server::start(Options::default()).await?;
    server
        .client("postgres")
        .await?
        .batch_execute(&format!("CREATE ROLE guarded LOGIN PASSWORD '{SECRET}'"))
        .await?;
    install(&server, "postgres", "guarded").await?;
    let hba = server.dir().join("data/pg_hba.conf");
    let open = std::fs::read_to_string(&hba)?;
    std::fs::write(&hba, format!("host all guarded 127.0.0.1/32 scram-sha-256\n{open}"))?;
    server.client("postgres").await?.batch_execute("SELECT pg_reload_conf()").await?;
    let dir = tempfile::tempdir()?;
    let connection = format!("host=127.0.0.1 port={} user=guarded dbname=postgres", server.port());
    let participant = |name: &str, source: &str| {
        format!("\n[[participants]]\nname = \"{name}\"\nconnection = \"{connection}\"\n{source}\n")
    };
    let password = write(dir.path(), "password", &format!("{SECRET}\n"))?;
    let toml = format!(
        "listen = \"127.0.0.1:7501\"\n{}{}",
        participant("by-file", &format!("password_file = \"{password}\"")),
        participant("by-variable", "password_env = \"GUARDED_PASSWORD\""),
    );
    let file = write(dir.path(), "agent.toml", &toml)?;
    let words = ["--agent-config", file.as_str()];
    let (said, document) = eventually("the server asks for passwords", async || {
        let wrong = doctor(&words, &[("GUARDED_PASSWORD", "incorrect-horse")]).await?;
        let refused = wrong.1["findings"].to_string().contains("28P01");
        Ok(if refused { Found::Yes(wrong) } else { Found::NotYet(wrong.1.to_string()) })
    })
    .await?;
    assert_eq!(document["participants"][0]["answers"], true, "{document}");
    assert_eq!(document["participants"][1]["answers"], false, "{document}");
    for text in [&said.out, &said.err, &document.to_string()] {
        assert!(!text.contains(SECRET) && !text.contains("incorrect-horse"), "{text}");
    }
    let (_, document) = doctor(&words, &[("GUARDED_PASSWORD", SECRET)]).await?;
    assert_eq!(codes(&document), ["VOTUM-2241"], "both are one database: {document}");
    assert!(!document.to_string().contains(SECRET));
    Ok(())
}

#[tokio::test]
async fn an_agent_says_at_its_start_what_it_finds_and_serves_all_the_same() -> anyhow::Result<()> {
    let builder = World::builder().build(Build::Plain).own_servers(Options::default());
    let scene = Scene::open(builder).await?;
    let bank = scene.bank(B)?;
    bank.server
        .client(&bank.database)
        .await?
        .batch_execute("ALTER ROLE votum SET idle_session_timeout = '1h'")
        .await?;
    let said = async |line: &'static [&'static str]| {
        eventually(&format!("the agent says {line:?}"), async || {
            let log = std::fs::read_to_string(bank.agent.log())?;
            let said = log.lines().any(|said| line.iter().all(|word| said.contains(word)));
            Ok(if said { Found::Yes(()) } else { Found::NotYet(log) })
        })
        .await
    };
    bank.agent.kill9()?;
    bank.agent.start(None)?;
    said(&["WARN", "VOTUM-2215", "ALTER ROLE \"votum\" SET idle_session_timeout = 0"]).await?;

    bank.agent.kill9()?;
    bank.server.stop().await?;
    bank.agent.start(None)?;
    said(&["ERROR", "VOTUM-2201", B]).await?;
    bank.server.restart().await?;
    scene.world.ready().await?;
    let legs = [Leg { bank: A, account: 1, amount: -1 }, Leg { bank: B, account: 1, amount: 1 }];
    assert!(scene.teller.transfer("served", &legs).await?.is_committed());
    scene.close().await
}
