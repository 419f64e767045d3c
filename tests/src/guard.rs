//! What a test starts ends with it, whatever ends the test: a return, a panic, or SIGKILL.
//!
//! A small shell, the guard, is told of every process and every directory. It reads from a pipe whose other
//! end is held by this process alone; when this process ends, in whichever way, the kernel closes the pipe
//! and the guard ends what is left. Destructors remain the usual way; the guard is for when none runs.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Mutex, OnceLock};

use anyhow::Context as _;

/// Reads `+ KIND WHAT` and `- KIND WHAT` until the pipe closes; then ends what was not taken back.
/// PostgreSQL is stopped by SIGQUIT: its children would outlive a SIGKILL of their parent for a moment, and
/// its shared memory for ever. A zombie counts as ended: where process 1 reaps nothing it stays for ever.
const SCRIPT: &str = r#"
trap '' INT TERM HUP
newline='
'
things=
while IFS= read -r line; do
    case $line in
    +*) things="$things${line#? }$newline" ;;
    -*) things="$(printf '%s' "$things" | grep -vxF -- "${line#? }")$newline" ;;
    esac
done

signal() {
    printf '%s' "$things" | while read -r kind what; do
        case $kind in
        process) kill -KILL "$what" ;;
        group) kill -KILL -- "-$what" ;;
        server) kill "-$1" "$what" ;;
        esac
    done 2>/dev/null
}
somebody_lives() {
    printf '%s' "$things" | while read -r kind what; do
        case $kind in
        process | server)
            kill -0 "$what" && ! grep -q '^State:[[:space:]]*Z' "/proc/$what/status" && echo alive
            ;;
        esac
    done 2>/dev/null | grep -q alive
}
ended() {
    left=200
    while somebody_lives; do
        left=$((left - 1))
        [ "$left" -gt 0 ] || return 1
        sleep 0.05
    done
}

signal QUIT
ended || { signal KILL; ended; }
printf '%s' "$things" | while read -r kind what; do
    [ "$kind" = directory ] || continue
    left=200
    # Again while something that is on its way down still writes there.
    while rm -rf -- "$what"; [ -e "$what" ] && [ "$left" -gt 0 ]; do
        left=$((left - 1))
        sleep 0.05
    done
done
"#;

/// Something that the guard ends, or removes, unless this is dropped first.
#[derive(Debug)]
pub struct Watched {
    line: String,
}

/// Has a process killed by SIGKILL. Drop the result only after the process was waited for, or to let it
/// live on.
///
/// # Errors
/// When the guard cannot be started or spoken to: nothing should be started then.
pub fn process(pid: u32) -> anyhow::Result<Watched> {
    watch(format!("process {pid}"))
}

/// Has a PostgreSQL server stopped by SIGQUIT.
///
/// # Errors
/// As [`process`].
pub fn server(pid: u32) -> anyhow::Result<Watched> {
    watch(format!("server {pid}"))
}

/// Has a whole process group killed by SIGKILL: a process with the children that it starts. Drop the result
/// only after the process was waited for.
///
/// # Errors
/// As [`process`].
pub fn group(leader: u32) -> anyhow::Result<Watched> {
    watch(format!("group {leader}"))
}

/// A temporary directory, removed when it is dropped, or by the guard after every process has ended.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    watch: Option<Watched>,
}

impl Directory {
    /// Creates a directory that everyone on this machine may enter, with a name short enough that a Unix
    /// socket fits into it.
    ///
    /// # Errors
    /// When it cannot be created; or as [`process`].
    pub fn create(what: &str) -> anyhow::Result<Self> {
        // The path of a Unix socket has room for 107 bytes, and macOS's own temporary directory takes half.
        let base = Some(std::env::temp_dir()).filter(|dir| dir.as_os_str().len() <= 40);
        let base = base.unwrap_or_else(|| PathBuf::from("/tmp"));
        let mut watched = None;
        // The guard is told first: this process may end at any moment. A name so long is nobody else's.
        let made = tempfile::Builder::new().prefix(&format!("votum-{what}-")).rand_bytes(10).make_in(
            base,
            |path| {
                let watch = watch(format!("directory {}", path.display())).map_err(std::io::Error::other)?;
                watched = Some(watch);
                std::fs::create_dir(path)?;
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
            },
        )?;
        Ok(Self { path: made.into_temp_path().keep()?, watch: watched })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lets it stay when this value, and this process, end.
    pub fn leave(&mut self) {
        self.watch = None;
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let Some(watch) = self.watch.take() else { return };
        let _ = std::fs::remove_dir_all(&self.path);
        if self.path.exists() {
            // Something still writes there. The guard, which ends it, will remove the rest.
            std::mem::forget(watch);
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // Without its guard this process is on its way down: there is nobody to tell.
        let _ = tell(&format!("- {}\n", self.line));
    }
}

fn watch(line: String) -> anyhow::Result<Watched> {
    tell(&format!("+ {line}\n"))
        .context("the guard, which ends what a test leaves behind, does not listen")?;
    Ok(Watched { line })
}

fn tell(line: &str) -> anyhow::Result<()> {
    static GUARD: OnceLock<Mutex<Option<ChildStdin>>> = OnceLock::new();
    let mut pipe = GUARD
        .get_or_init(|| Mutex::new(None))
        .lock()
        .map_err(|_| anyhow::anyhow!("a thread panicked while it spoke to the guard"))?;
    if pipe.is_none() {
        *pipe = Some(start()?);
    }
    let pipe = pipe.as_mut().context("the guard has no pipe")?;
    pipe.write_all(line.as_bytes()).context("writing to the guard")
}

/// In a process group of its own, so that Ctrl-C at the terminal does not end it before its work.
#[allow(clippy::zombie_processes)] // it outlives this process: that is its purpose
fn start() -> anyhow::Result<ChildStdin> {
    let mut guard = Command::new("sh")
        .args(["-c", SCRIPT, "votum-test-guard"])
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("starting sh as the guard")?;
    guard.stdin.take().context("the guard has no standard input")
}
