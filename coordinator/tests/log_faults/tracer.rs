//! strace, which answers chosen system calls with the kernel's own errors.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::child::{Role, Said, run};

/// Calls that read, write, force, or change what is in a directory.
const CALLS: &str = "openat,read,pread64,write,pwrite64,fsync,fdatasync,sync_file_range,ftruncate,fallocate,\
                     flock,mkdir,rename,unlink,getdents64";

/// strace; without it, or where nobody may trace, the test fails and says what to do.
fn strace() -> &'static str {
    static FOUND: OnceLock<String> = OnceLock::new();
    FOUND.get_or_init(|| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/scripts/install-strace");
        let output = Command::new(script).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().lines().last().unwrap().to_owned()
    })
}

/// A system call upon a file of the log.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Call {
    pub(crate) name: String,
    /// Within the log's directory; empty for the directory itself.
    pub(crate) file: PathBuf,
}

/// Runs a child and counts its calls upon the log's files: of each, how often the thread that did it most
/// did it, for the tracer counts per thread. And all of them in order.
pub(crate) fn observe(role: Role, directory: &Path) -> (BTreeMap<Call, u64>, Vec<Call>, Said) {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace");
    let wrapper = [strace(), "-f", "-qq", "-y", "-s", "0", "-o", trace.to_str().unwrap(), "-e"];
    let wrapper = wrapper.iter().map(|part| (*part).to_owned()).chain([format!("trace={CALLS}")]);
    let said = run(role, directory, &wrapper.collect::<Vec<_>>());
    let text = std::fs::read_to_string(trace).unwrap();
    let mut by_thread: BTreeMap<(Call, &str), u64> = BTreeMap::new();
    let mut order = Vec::new();
    for line in text.lines() {
        let Some((thread, call)) = parse(line, directory) else { continue };
        *by_thread.entry((call.clone(), thread)).or_default() += 1;
        order.push(call);
    }
    let mut counts = BTreeMap::new();
    for ((call, _), count) in by_thread {
        let most: &mut u64 = counts.entry(call).or_default();
        *most = (*most).max(count);
    }
    (counts, order, said)
}

/// `4711  pwrite64(5</tmp/x/log/journal-a>, …`: thread and call, if it is upon a file in `directory`.
fn parse<'a>(line: &'a str, directory: &Path) -> Option<(&'a str, Call)> {
    let (thread, rest) = line.split_once(' ')?;
    let (name, arguments) = rest.trim_start().split_once('(')?;
    if !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_') {
        return None;
    }
    let shown = directory.to_str()?;
    // A path as an argument stands in quotes, a descriptor's in angles.
    let (_, path) =
        arguments.split_once(&format!("\"{shown}")).or_else(|| arguments.split_once(&format!("<{shown}")))?;
    let path = path.split(['"', '>']).next()?.trim_start_matches('/');
    Some((thread, Call { name: name.to_owned(), file: PathBuf::from(path) }))
}

/// A fault: the `nth` time that a thread makes `call`, it is answered with `error` instead of being made.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    pub(crate) call: Call,
    pub(crate) error: &'static str,
    pub(crate) nth: u64,
    /// Also every time after.
    pub(crate) for_good: bool,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { call: Call { name, file }, error, nth, for_good } = self;
        let from = if *for_good { " and from then on" } else { "" };
        write!(f, "{error} at {name} {nth}{from} of {:?}", file.display())
    }
}

/// Runs a child that meets `fault`; whether it came to that.
pub(crate) fn inject(role: Role, directory: &Path, fault: &Fault) -> (Said, bool) {
    let Fault { call, error, nth, for_good } = fault;
    let when = if *for_good { "+" } else { "" };
    let what = format!("inject={}:error={error}:when={nth}{when}", call.name);
    let (wrapper, trace) = wrapper(call, directory, &what);
    let said = run(role, directory, &wrapper);
    (said, was_met(&trace))
}

/// Runs a child whose `nth` `call` by a thread takes some seconds; whether it came to that. The tracer is there
/// until they are over, also where the child is not.
pub(crate) fn hang(role: Role, directory: &Path, call: &Call, nth: u64) -> (Said, bool) {
    const MICROSECONDS: u64 = 8_000_000;
    let what = format!("inject={}:delay_enter={MICROSECONDS}:when={nth}", call.name);
    let (wrapper, trace) = wrapper(call, directory, &what);
    let said = run(role, directory, &wrapper);
    // It is noted when it is entered, and may never have returned.
    let met = std::fs::read_to_string(trace.path().join("trace")).unwrap().contains(call.name.as_str());
    (said, met)
}

/// strace that does `what` to calls, and the folder of its notes.
fn wrapper(call: &Call, directory: &Path, what: &str) -> (Vec<String>, tempfile::TempDir) {
    let notes = tempfile::tempdir().unwrap();
    let file = directory.join(&call.file).display().to_string().trim_end_matches('/').to_owned();
    let trace = notes.path().join("trace").display().to_string();
    let only = format!("trace={}", call.name);
    let wrapper = [strace(), "-f", "-qq", "-o", &trace, "-P", &file, "-e", &only, "-e", what];
    (wrapper.map(str::to_owned).to_vec(), notes)
}

fn was_met(notes: &tempfile::TempDir) -> bool {
    let trace = std::fs::read_to_string(notes.path().join("trace")).unwrap();
    trace.contains("(INJECTED)")
}
