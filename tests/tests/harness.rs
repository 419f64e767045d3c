//! The harness itself: it must not fail where Votum did not, and must leave nothing behind.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use votum_tests::eventually::{Found, eventually};
use votum_tests::postgres::{self, Options, ROLE, Server};
use votum_tests::process::Process;

#[tokio::test]
async fn a_server_keeps_what_was_committed_through_an_immediate_stop() {
    let server = Server::start(Options::default()).await.unwrap();
    server.create_database("bank").await.unwrap();
    let client = server.client_as("bank", ROLE).await.unwrap();
    client.batch_execute("CREATE TABLE kept (n int); INSERT INTO kept VALUES (1)").await.unwrap();
    client.batch_execute("BEGIN; INSERT INTO kept VALUES (2); PREPARE TRANSACTION 'p'").await.unwrap();
    client.batch_execute("BEGIN; INSERT INTO kept VALUES (3)").await.unwrap();

    server.stop_immediate().await.unwrap();
    assert!(!server.is_running());
    assert!(server.client("bank").await.is_err(), "a stopped server answered");
    server.restart().await.unwrap();

    let client = server.client_as("bank", ROLE).await.unwrap();
    client.batch_execute("COMMIT PREPARED 'p'").await.unwrap();
    let rows = client.query("SELECT n FROM kept ORDER BY n", &[]).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.get(0)).collect::<Vec<i32>>(), [1, 2]);
}

#[tokio::test]
async fn a_server_stops_in_order_and_starts_again() {
    let server = Server::start(Options::default()).await.unwrap();
    server.stop().await.unwrap();
    server.stop().await.unwrap();
    server.restart().await.unwrap();
    server.restart().await.unwrap();
    server.client("postgres").await.unwrap();
}

#[tokio::test]
async fn a_server_without_slots_refuses_to_prepare() {
    let options = Options { max_prepared_transactions: 0, ..Options::default() };
    let server = Server::start(options).await.unwrap();
    let client = server.client("postgres").await.unwrap();
    let refused = client.batch_execute("BEGIN; SAVEPOINT s; PREPARE TRANSACTION 'p'").await.unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "55000");
}

#[tokio::test]
async fn a_server_that_does_not_start_says_why_and_leaves_nothing() {
    let settings = vec![("shared_buffers".to_owned(), "nonsense".to_owned())];
    let refused = Server::start(Options { settings, ..Options::default() }).await.unwrap_err().to_string();
    assert!(refused.contains("invalid value for parameter \"shared_buffers\""), "{refused}");
    let dir = refused.split_whitespace().find(|word| word.starts_with('/')).unwrap();
    assert!(!Path::new(dir).exists(), "{dir} is left");
}

#[tokio::test]
async fn shared_servers_are_different_systems_with_a_database_for_each_test() {
    let (first, second) = (postgres::shared(0).await.unwrap(), postgres::shared(1).await.unwrap());
    let mut systems = Vec::new();
    for server in [&first, &second] {
        let client = server.client("postgres").await.unwrap();
        let row = client.query_one("SELECT system_identifier FROM pg_control_system()", &[]).await.unwrap();
        systems.push(row.get::<_, i64>(0));
    }
    assert_ne!(systems[0], systems[1]);
    let databases =
        [postgres::fresh_database(&first).await.unwrap(), postgres::fresh_database(&first).await.unwrap()];
    assert_ne!(databases[0], databases[1]);
    assert_eq!(postgres::shared(0).await.unwrap().pid(), first.pid());
}

#[tokio::test]
async fn a_server_is_gone_after_a_panic() {
    let started: std::sync::Arc<Mutex<Option<(u32, std::path::PathBuf)>>> = Default::default();
    let tell = started.clone();
    let panicked = tokio::task::spawn_blocking(move || {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let server = Server::start(Options::default()).await.unwrap();
            *tell.lock().unwrap() = Some((server.pid().unwrap(), server.dir().to_owned()));
            panic!("as a failing test does");
        })
    });
    assert!(panicked.await.unwrap_err().is_panic());
    let (pid, dir) = started.lock().unwrap().take().unwrap();
    assert!(!is_alive(pid), "PostgreSQL {pid} outlived the panic");
    assert!(!dir.exists(), "{} outlived the panic", dir.display());
}

/// Starts a server and a process, says so, and waits to be killed. Run only by the test below, as a process
/// of its own.
#[tokio::test]
#[ignore = "the other half of everything_is_gone_after_its_owner_was_killed"]
async fn owner_that_waits_to_be_killed() {
    let server = Server::start(Options::default()).await.unwrap();
    let process = shell("exec sleep 1000", server.dir());
    process.start(None).unwrap();
    let pids = (server.pid().unwrap(), process.pid().unwrap());
    println!("\nstarted {} {} {}", pids.0, pids.1, server.dir().display());
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn everything_is_gone_after_its_owner_was_killed() {
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "owner_that_waits_to_be_killed", "--ignored", "--nocapture"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(owner.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("started ").map(str::to_owned))
        .expect("the owner ended before its server had started");
    let mut words = said.splitn(3, ' ');
    let [server, process] = [(); 2].map(|()| words.next().unwrap().parse::<u32>().unwrap());
    let dir = Path::new(words.next().unwrap());
    assert!(is_alive(server) && is_alive(process) && dir.exists());

    owner.kill().unwrap();
    owner.wait().unwrap();

    eventually("server, process and directory are gone", async || {
        Ok(match (is_alive(server), is_alive(process), dir.exists()) {
            (false, false, false) => Found::Yes(()),
            left => Found::NotYet(format!("(server, process, directory) left: {left:?}")),
        })
    })
    .await
    .unwrap();
}

/// initdb, and what it starts, would go on for a second, and leave an empty directory where it was.
#[tokio::test]
async fn nothing_is_left_when_the_owner_was_killed_while_its_server_was_being_made() {
    let base = tempfile::Builder::new().prefix("vt-").rand_bytes(6).tempdir_in("/tmp").unwrap();
    std::fs::set_permissions(base.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "owner_that_waits_to_be_killed", "--ignored"])
        .env("TMPDIR", base.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let entries = || std::fs::read_dir(base.path()).unwrap().map(|entry| entry.unwrap().path());
    eventually("initdb is at work", async || {
        let begun = entries().any(|dir| dir.join("data/base/1").exists());
        Ok(if begun { Found::Yes(()) } else { Found::NotYet("it has not begun".into()) })
    })
    .await
    .unwrap();
    owner.kill().unwrap();
    owner.wait().unwrap();

    eventually("nothing runs and nothing is left", async || {
        let left: Vec<_> = entries().collect();
        Ok(if left.is_empty() && !runs_with(base.path()) {
            Found::Yes(())
        } else {
            Found::NotYet(format!("{left:?}"))
        })
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_process_that_ended_otherwise_than_by_its_crash_point_is_not_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let crashing = shell("kill -9 $$", dir.path());
    crashing.start(Some("somewhere")).unwrap();
    crashing.wait_crash().await.unwrap();

    let failing = shell("echo out of $VOTUM_CRASH_POINT; exit 3", dir.path());
    failing.start(Some("luck")).unwrap();
    let complaint = failing.wait_crash().await.unwrap_err().to_string();
    assert!(complaint.contains("exit status: 3") && complaint.contains("out of luck"), "{complaint}");
}

#[tokio::test]
async fn a_killed_process_starts_again_and_a_running_one_is_not_started_twice() {
    let dir = tempfile::tempdir().unwrap();
    let process = shell("exec sleep 1000", dir.path());
    process.kill9().unwrap();
    process.start(None).unwrap();
    let first = process.pid().unwrap();
    assert!(process.start(None).is_err());
    process.kill9().unwrap();
    assert!(!process.is_running().unwrap() && !is_alive(first));
    process.start(None).unwrap();
    process.terminate().unwrap();
    assert_eq!(process.wait_exit().await.unwrap().signal(), Some(15));
}

fn shell(script: &str, dir: &Path) -> Process {
    Process::new("shell", "/bin/sh".into(), &["-c", script], dir.join("log"))
}

/// Whether a process is there and is more than a zombie.
fn is_alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/status"))
        .is_ok_and(|status| !status.lines().any(|line| line.starts_with("State:") && line.contains('Z')))
}

/// Whether any process bears a path among its arguments.
fn runs_with(path: &Path) -> bool {
    let path = path.display().to_string();
    let mut processes = std::fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    processes.any(|entry| {
        let arguments = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&arguments).contains(&path)
    })
}
