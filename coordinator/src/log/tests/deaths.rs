//! Deaths of real processes, and disks that hang: `kill -9` at any moment, the exit of a server whose log
//! failed, the watchdog.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use votum_proto::names::Gtid;
use votum_proto::runtime::Seams;

use super::files::{Place, config};
use super::world::*;
use crate::log::desk::{Desk, Handle, Message, Outbox};
use crate::log::discipline::{Birth, Core, Started};
use crate::log::disk::{Disk, DiskError, Half};
use crate::log::memory::{MemoryDisk, MemoryStore};
use crate::log::writer::{Busy, Writer, watch};
use crate::log::{DecisionLog as _, LogConfig, LogEvent, OnFailure, open};
use crate::protocol::record::*;

/// In a process of its own, chosen by this variable, which names the directory of its log.
const CHILD: &str = "VOTUM_TEST_LOG_OF_CHILD";

/// This test's program, run again as a process that does what the test `role` does there.
fn child(role: &str, directory: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "--nocapture", "--test-threads=1", &format!("log::tests::deaths::{role}")])
        .env(CHILD, directory)
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command
}

/// Commits one transaction after another and says so, until somebody kills it.
#[test]
fn role_committing_until_killed() {
    let Some(directory) = std::env::var_os(CHILD) else { return };
    let mut running = super::files::Running::new(
        open(
            LogConfig { retention: Duration::from_millis(50), ..config(Path::new(&directory)) },
            &acme(),
            Seams::production(),
        )
        .unwrap(),
    );
    let life = running.opened.life;
    for seq in 1..u64::MAX {
        let gtid = gtid(life, seq);
        running.append(vec![
            buffered(3 * seq, begun(&gtid)),
            forced(3 * seq + 1, Record::Decided(commit(&gtid))),
        ]);
        println!("\ndecided {gtid}");
        if seq % 3 != 0 {
            running.append(vec![forced(3 * seq + 2, Record::Ended { gtid: gtid.clone() })]);
            println!("\nended {gtid}");
        }
        for participant in ["bank-a", "bank-b"] {
            running.opened.log.listed(participant.parse().unwrap(), None);
        }
    }
}

#[test]
fn kill_9_at_any_moment_loses_nothing_acknowledged_and_never_leads_to_a_refusal() {
    let place = Place::initialized();
    let (mut decided, mut ended) = (Vec::new(), Vec::new());
    for round in 0..25usize {
        let mut process = child("role_committing_until_killed", &place.path()).spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        // From the very start on to many changes of halves.
        let patience = round * round;
        for (count, line) in lines.map_while(Result::ok).filter(|line| line.contains(' ')).enumerate() {
            if let Some(gtid) = line.strip_prefix("decided ") {
                decided.push(gtid.to_owned());
            } else if let Some(gtid) = line.strip_prefix("ended ") {
                ended.push(gtid.to_owned());
            }
            if count == patience {
                process.kill().unwrap();
            }
        }
        process.wait().unwrap();
    }
    assert!(decided.len() > 1000, "only {} commits were acknowledged", decided.len());
    let mut running = place.open();
    let owed: Vec<String> =
        running.opened.owed.iter().map(|owed| owed.decided.as_ref().unwrap().gtid.to_string()).collect();
    let history = running.history();
    let horizon = history.horizon().unwrap();
    for (at, name) in decided.iter().enumerate() {
        let gtid: Gtid = name.parse().unwrap();
        let last_of_its_life =
            decided.get(at + 1).is_none_or(|next| next.parse::<Gtid>().unwrap().life != gtid.life);
        // The kill may have come between the end's acknowledgement and the line that says so.
        let may_have_ended = ended.contains(name) || (last_of_its_life && !gtid.seq.is_multiple_of(3));
        let found = history.transaction(&gtid).unwrap();
        match &found.decided {
            Some(decided) => assert_eq!(*decided, commit(&gtid)),
            None => assert!(horizon >= Some(gtid) && may_have_ended, "{name} is gone, and not by retention"),
        }
        assert!(owed.contains(name) || may_have_ended, "{name} is no longer owed");
        assert!(!owed.contains(name) || !ended.contains(name), "{name} is owed again");
    }
    running.close();
}

/// Appends what cannot be written, in a log that ends its process then.
#[test]
fn role_failing() {
    let Some(directory) = std::env::var_os(CHILD) else { return };
    let config = LogConfig { on_failure: OnFailure::ExitProcess, ..config(Path::new(&directory)) };
    let mut running = super::files::Running::new(open(config, &acme(), Seams::production()).unwrap());
    let mut oversized = commit(&gtid(running.opened.life, 1));
    oversized.label = "l".repeat(5000);
    running.append(vec![forced(1, Record::Decided(oversized))]);
    running.until("the process ends", |_| false);
}

#[test]
fn a_server_whose_log_failed_ends_with_code_70() {
    let place = Place::initialized();
    let ended = child("role_failing", &place.path()).status().unwrap();
    assert_eq!(ended.code(), Some(70));
}

/// A disk whose syncs hang while the test holds the lock.
#[derive(Clone)]
struct Hanging(MemoryDisk, Arc<Mutex<()>>);

impl Disk for Hanging {
    fn path(&self, half: Half) -> std::path::PathBuf {
        self.0.path(half)
    }
    fn size(&mut self, half: Half) -> Result<u64, DiskError> {
        self.0.size(half)
    }
    fn read(&mut self, half: Half) -> Result<Vec<u8>, DiskError> {
        self.0.read(half)
    }
    fn write(&mut self, half: Half, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.0.write(half, offset, bytes)
    }
    fn force(&mut self, half: Half) -> Result<(), DiskError> {
        drop(self.1.lock().unwrap());
        self.0.force(half)
    }
    fn extend(&mut self, half: Half, size: u64) -> Result<(), DiskError> {
        self.0.extend(half, size)
    }
}

#[test]
fn a_sync_that_hangs_shuts_the_log_and_is_not_acknowledged_when_it_returns_after_all() {
    let world = World::new();
    let hang = Arc::new(Mutex::new(()));
    let disk = Hanging(world.disk, Arc::clone(&hang));
    let birth =
        Birth { incarnation: votum_proto::names::Incarnation::from_low_bits(1), lease: 10, epoch_above: 0 };
    let Started { core, .. } = Core::<_, MemoryStore>::start(disk, limits(), &acme(), birth).unwrap();
    let gtid = gtid(core.life(), 1);
    let seams = Seams::production();
    let (events, mut received) = tokio::sync::mpsc::unbounded_channel();
    let (inbox, messages) = mpsc::channel();
    let (watched, writer_lives) = mpsc::channel();
    let (outbox, busy) = (Arc::new(Outbox::new(events, || {})), Arc::new(Busy::default()));
    let lock = tempfile::tempfile().unwrap();
    let origin = seams.clock.now();
    let writer = Writer {
        desk: Desk { core, outbox: Arc::clone(&outbox) },
        inbox: messages,
        busy: Arc::clone(&busy),
        clock: Arc::clone(&seams.clock),
        origin,
        opener: std::thread::spawn(|| {}),
        lock,
        watched,
    };
    let hung = hang.lock().unwrap();
    let writing = std::thread::spawn(move || writer.run());
    let clock = Arc::clone(&seams.clock);
    let watching = std::thread::spawn(move || {
        watch(&writer_lives, &busy, &*clock, &outbox, Duration::from_millis(50));
    });
    let post = inbox.clone();
    let log = Handle(Box::new(move |message: Message<MemoryStore>| drop(post.send(message))));
    log.append(vec![forced(1, Record::Decided(commit(&gtid)))]);
    let Some(LogEvent::Doubtful { why }) = received.blocking_recv() else { panic!("not doubtful") };
    assert!(why.contains("50 ms"), "{why}");
    drop(hung);
    log.append(vec![forced(2, Record::Decided(commit(&gtid)))]);
    inbox.send(Message::Close).unwrap();
    let Some(LogEvent::Closed) = received.blocking_recv() else {
        panic!("something was said after the log was doubtful")
    };
    writing.join().unwrap();
    watching.join().unwrap();
}
