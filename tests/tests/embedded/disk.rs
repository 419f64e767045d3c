//! A disk that fails under a process that embeds Votum: the log is shut, and the process lives on.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use votum_proto::runtime::Seams;
use votum_tests::embedded::says;
use votum_tests::guard;
use votum_tests::ledger::{Ledger, Told};
use votum_tests::world::World;

/// How long the process may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// The forced write that fails: in the midst of the transfers of the first opening, and past all that the second
/// one writes.
const FAILS: u32 = 12;
/// More transfers than forced writes that succeed.
const TRANSFERS: usize = 20;

/// strace, which answers a chosen system call with the kernel's own error.
fn strace() -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/install-strace");
    let output = std::process::Command::new(script).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().last().unwrap().to_owned()
}

/// I11: what was on its way is unknown, everything later is refused, nobody ends the process; and the same process
/// opens the directory again and goes on.
#[tokio::test]
async fn a_forced_write_that_fails_shuts_the_log_and_the_process_opens_it_again() {
    shut_and_opened_again("error=EIO").await;
}

#[tokio::test]
async fn a_forced_write_that_hangs_shuts_the_log_and_the_process_opens_it_again_once_it_has_ended() {
    shut_and_opened_again("delay_enter=3000000").await;
}

/// Has a forced write go wrong in a process that makes one transfer after another.
async fn shut_and_opened_again(fault: &str) {
    let world = World::builder().prepare().await.unwrap();
    let ledger = Ledger::new();
    let said = transfers(&world, fault).await;
    let refused = world.hear(&said, &ledger, says::REFUSED).unwrap();
    let told = ledger.transfers();
    let unknown: Vec<&String> =
        told.iter().filter(|(_, transfer)| transfer.told == [Told::Unknown]).map(|(name, _)| name).collect();
    assert_eq!(told["t0"].told, [Told::Committed], "{said}");
    assert!(unknown.len() <= 1, "{said}");
    assert!(!refused.is_empty(), "{said}");
    for line in said.lines().filter(|line| line.starts_with(says::REFUSED)) {
        assert!(line.contains("VOTUM-1209"), "{line}");
    }
    assert_eq!(told["after"].told, [Told::Committed], "{said}");

    let votum = Box::pin(world.embedded().unwrap().open()).await.unwrap();
    world.check_by(&votum, &ledger).await.unwrap();
    votum.shutdown().await.unwrap();
}

/// Runs the process under strace, to its end; what it said.
async fn transfers(world: &World, fault: &str) -> String {
    let trace = world.dir().join("trace").display().to_string();
    let journal = world.log_directory().join("journal-a").display().to_string();
    let fault = format!("inject=fdatasync:{fault}:when={FAILS}");
    let names: Vec<String> = (0..TRANSFERS).map(|n| format!("t{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut words = world.embedded_command(&names).unwrap();
    words.extend(["--reopen=after".to_owned(), "--watchdog-ms=1000".to_owned()]);
    let mut command = Command::new(strace());
    command.args(["-f", "-qq", "-o", &trace, "-P", &journal, "-e", "trace=fdatasync", "-e", &fault]);
    command.args(&words).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).process_group(0);
    let child = command.spawn().unwrap();
    let _watch = guard::group(child.id().unwrap()).unwrap();
    let output = Seams::production().clock.timeout(PATIENCE, child.wait_with_output()).await;
    let output = output.unwrap().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let trace = std::fs::read_to_string(&trace).unwrap();
    assert!(output.status.success(), "{}\n{said}", output.status);
    let met = trace.matches("(INJECTED)").count() + trace.matches("(DELAYED)").count();
    assert_eq!(met, 1, "{trace}\n{said}");
    said
}
