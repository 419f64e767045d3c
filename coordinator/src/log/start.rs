//! Making a log, and opening one.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use tokio::sync::mpsc::UnboundedReceiver;
use votum_proto::names::{CoordinatorId, Incarnation};
use votum_proto::runtime::{Entropy, Seams};

use super::archive::Archive;
use super::backup;
use super::config::{INITIALIZING_FILE, LOCK_FILE, LogConfig, RESTORED_FILE, STORE_FOLDER};
use super::count::{CountError, count};
use super::desk::{Desk, Handle, Message, Outbox};
use super::discipline::{Birth, Core, Started};
use super::disk::{Disk, Half};
use super::files::{self, Files, refused};
use super::journal::Journal;
use super::judge::{self, Kept};
use super::refusal::{Refusal, RefusalKind};
use super::sled_store::{DATA_FILE, SledStore};
use super::store::{Store, StoreError};
use super::timed::Timed;
use super::writer::{Busy, Writer, watch};
use super::{DecisionLog, LogEvent, Opened, codec};
use crate::protocol::record::{Identity, Record};

/// Makes a new, empty log in `config.directory`, which must not hold anything yet. What an interrupted
/// `initialize` left is taken away first.
///
/// # Errors
/// When something is there, or the disk refuses.
pub fn initialize(
    config: &LogConfig,
    coordinator_id: &CoordinatorId,
    entropy: &dyn Entropy,
) -> Result<(), Refusal> {
    let directory = &config.directory;
    files::create_private(directory)?;
    let _lock = files::lock(directory)?;
    take_away_unfinished(directory)?;
    let marker = directory.join(INITIALIZING_FILE);
    File::create(&marker)
        .and_then(|file| file.sync_all())
        .map_err(|error| refused(&marker, "creating", &error))?;
    files::force_directory(directory)?;

    let mut key = [0; 32];
    entropy.fill(&mut key);
    let identity = Record::Identity(Identity { coordinator_id: coordinator_id.clone(), key });
    let encoded = codec::encode(&identity)
        .map_err(|error| Refusal::new(RefusalKind::Io, directory, error.to_string()))?;
    let half_bytes = config.limits().half_bytes;
    Journal::format(Files::create(directory)?, half_bytes, &[encoded]).map_err(|error| judge::io(&error))?;
    let folder = directory.join(STORE_FOLDER);
    files::create_private(&folder)?;
    let store = SledStore::create(&folder, config.cache_bytes)
        .and_then(|store| store.make_durable().map(|()| store))
        .map_err(|error| Refusal::new(RefusalKind::Io, &folder, error.0))?;
    store.close();
    drop(store);

    force_all(directory)?;
    std::fs::remove_file(&marker).map_err(|error| refused(&marker, "removing", &error))?;
    files::force_directory(directory)?;
    // The directory's own name must be on disk too.
    match directory.canonicalize().ok().as_deref().and_then(Path::parent) {
        Some(parent) => files::force_directory(parent),
        None => Ok(()),
    }
}

/// Refuses a directory that holds anything but the lock, unless an initialization was at work there.
pub(super) fn take_away_unfinished(directory: &Path) -> Result<(), Refusal> {
    let marker = directory.join(INITIALIZING_FILE);
    let ours = [STORE_FOLDER, "journal-a", "journal-b", RESTORED_FILE].map(|name| directory.join(name));
    let interrupted = marker.exists();
    for path in files::entries(directory)? {
        // A directory that is a volume of its own has a `lost+found`.
        if path == marker || path == directory.join(LOCK_FILE) || path.ends_with("lost+found") {
            continue;
        }
        if !interrupted || !ours.contains(&path) {
            let name = path.file_name().unwrap_or(path.as_os_str()).display();
            let found = format!("{name} is there");
            return Err(Refusal::new(RefusalKind::NotEmpty, directory, found));
        }
        let removed =
            if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        removed.map_err(|error| refused(&path, "removing", &error))?;
    }
    Ok(())
}

/// Opens the log of `coordinator_id`, begins a new life in it, and starts its threads. What comes back is
/// known from the journal alone; the store follows by [`super::LogEvent::Counted`]. Blocks while the journal
/// is read: some tens of milliseconds.
///
/// # Errors
/// When the log is not there, is in use, is another coordinator's, is damaged, or the disk refuses. No crash
/// ever leads to a refusal.
#[allow(clippy::needless_pass_by_value)] // one configuration, one log
pub fn open(config: LogConfig, coordinator_id: &CoordinatorId, seams: Seams) -> Result<Opened, Refusal> {
    let directory = &config.directory;
    check_there(directory)?;
    let lock = files::lock(directory)?;
    force_all(directory)?;
    let birth = birth(&*seams.entropy, config.lease, 0);
    let origin = seams.clock.now();
    let disk = Timed {
        disk: Files::open(directory)?,
        clock: Arc::clone(&seams.clock),
        forced_writes: config.forced_writes.clone(),
    };
    let Started { core, kept, warnings } =
        Core::<Timed<Files>, SledStore>::start(disk, config.limits(), coordinator_id, birth)?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let (events, received) = tokio::sync::mpsc::unbounded_channel();
    let (inbox, messages) = mpsc::channel();
    let (watched, writer_lives) = mpsc::channel();
    let on_failure = config.on_failure;
    let outbox = Arc::new(Outbox::new(events, move || on_failure.act()));
    let busy = Arc::new(Busy::default());
    let post = inbox.clone();
    // The writer is gone only after a failure or a close; both were told by an event.
    let handle = Handle(Box::new(move |message| drop(post.send(message))));
    let restored = backup::settle(directory, core.image().written_off())?;
    let opened = Opened { restored, ..opened(&core, config.lease, Arc::new(handle), received) };
    let identity = core.identity().clone();
    let folder = directory.join(STORE_FOLDER);
    let cache_bytes = config.cache_bytes;
    let opener = thread("votum-log-store", directory, move || {
        let opened = open_store(&folder, cache_bytes, &identity, &kept);
        // The writer waits for this thread before it is gone.
        let _ = inbox.send(Message::Store(opened.map_err(|refusal| refusal.to_string())));
    })?;
    let (watching, watch_clock) = ((Arc::clone(&busy), Arc::clone(&outbox)), Arc::clone(&seams.clock));
    let limit = config.watchdog;
    thread("votum-log-watch", directory, move || {
        watch(&writer_lives, &watching.0, &*watch_clock, &watching.1, limit);
    })?;
    let (inbox, clock) = (messages, seams.clock);
    let writer = Writer { desk: Desk { core, outbox }, inbox, busy, clock, origin, opener, lock, watched };
    thread("votum-log", directory, move || writer.run())?;
    Ok(opened)
}

/// What a new life is given.
pub(super) fn birth(entropy: &dyn Entropy, lease: u64, epoch_above: u64) -> Birth {
    // The low bits of 64 random ones are as random as any.
    Birth { incarnation: Incarnation::from_low_bits(low_bits(entropy.bits())), lease, epoch_above }
}

/// What the driver is given of a log that has just begun a life.
pub(super) fn opened<D: Disk, S: Store>(
    core: &Core<D, S>,
    leased_until: u64,
    log: Arc<dyn DecisionLog>,
    events: UnboundedReceiver<LogEvent>,
) -> Opened {
    Opened {
        identity: core.identity().clone(),
        life: core.life(),
        leased_until,
        lives: core.image().lives(core.position()),
        written_off: core.image().written_off().map(|written_off| written_off.through),
        restored: None,
        owed: core.image().owed().cloned().collect(),
        position: core.position(),
        log,
        events,
    }
}

/// Forces every file of the log, and lets the system forget what it has cached of them.
pub(super) fn force_all(directory: &Path) -> Result<(), Refusal> {
    for half in Half::BOTH {
        files::force_and_forget(&directory.join(half.file_name()))?;
    }
    let folder = directory.join(STORE_FOLDER);
    if folder.exists() {
        files::force_and_forget(&folder)?;
    }
    files::force_directory(directory)
}

fn low_bits(bits: u64) -> u32 {
    u32::try_from(bits & u64::from(u32::MAX)).unwrap_or(0)
}

/// Tells a directory without a log from one with a log that lost a file.
pub(super) fn check_there(directory: &Path) -> Result<(), Refusal> {
    let missing = |found: &str| Err(Refusal::new(RefusalKind::NotInitialized, directory, found));
    if !directory.is_dir() {
        return missing("the directory is not there");
    }
    if directory.join(INITIALIZING_FILE).exists() {
        return missing("its initialization was interrupted, and may be run again");
    }
    let halves = Half::BOTH.map(|half| directory.join(half.file_name()));
    let anything = halves.iter().any(|path| path.exists()) || directory.join(STORE_FOLDER).exists();
    if !anything {
        return missing("it holds no log");
    }
    match halves.iter().find(|path| !path.exists()) {
        Some(path) => Err(Refusal::new(RefusalKind::MissingFile, path, "it is not there")),
        None => Ok(()),
    }
}

/// Opens and counts the store. Whatever sled does, the thread goes on.
pub(super) fn open_store(
    folder: &Path,
    cache_bytes: u64,
    identity: &Identity,
    kept: &[Kept],
) -> Result<Archive<SledStore>, Refusal> {
    let file = folder.join(DATA_FILE);
    let work = || -> Result<Archive<SledStore>, CountError> {
        let store = Arc::new(SledStore::open(folder, cache_bytes)?);
        let counted = count(Arc::clone(&store), identity, kept);
        if counted.is_err() {
            store.close();
        }
        counted
    };
    let counted = catch_unwind(AssertUnwindSafe(work));
    match counted {
        Ok(Ok(archive)) => Ok(archive),
        Ok(Err(CountError::Unreadable(StoreError(why)))) => {
            Err(Refusal::new(RefusalKind::StoreUnreadable, file, why))
        }
        Ok(Err(CountError::Incomplete(why))) => Err(Refusal::new(RefusalKind::StoreIncomplete, file, why)),
        Err(_) => Err(Refusal::new(RefusalKind::StoreUnreadable, file, "reading it met damage (a panic)")),
    }
}

fn thread(
    name: &str,
    directory: &Path,
    work: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, Refusal> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map_err(|error| refused(directory, "starting a thread for", &error))
}
