//! A disk without room, and one that cannot be written: file systems of their own, in a namespace that ends
//! with the test. An ordinary user may make them where user namespaces are allowed.

use std::path::Path;

use super::child::{EXIT_LOG_FAILED, Role, Said, command};
use super::place::{BEFORE, Expected, Place, judge};

/// Makes the log a small file system of its own, full to the last byte, plays the role so many times, and
/// copies the log back to where there is room.
const FULL: &str = r#"
    set -e
    log=$1 room=$2 lives=$3; shift 3
    mv "$log" "$log.outside"; mkdir "$log"
    mount -t tmpfs -o size=$(( $(du -s -B 1 --apparent-size "$log.outside" | cut -f 1) + 1048576 )) tmpfs "$log"
    cp -a "$log.outside/." "$log"
    dd if=/dev/zero of="$log/room" bs=4096 count=$((room / 4096)) status=none
    dd if=/dev/zero of="$log/lost+found" bs=4096 status=none 2>/dev/null || true
    rm "$log/room"
    for life in $(seq "$lives"); do
        code=0; "$@" || code=$?
        echo "ended $code"
    done
    rm "$log/lost+found" && cp -a "$log/." "$log.outside"
"#;

/// Makes the log's directory read-only, as root finds it too.
const READ_ONLY: &str = r#"
    set -e
    log=$1; shift
    mount --bind "$log" "$log" && mount -o remount,ro,bind "$log"
    exec "$@"
"#;

/// Runs a child behind a script in a namespace of mounts.
fn in_namespace(script: &str, place: &Place, arguments: &[String], role: Role) -> std::process::Output {
    let unshare = match rustix::process::geteuid().is_root() {
        true => vec!["unshare", "-m"],
        false => vec!["unshare", "--user", "--map-root-user", "--mount"],
    };
    let log = place.log().display().to_string();
    let wrapper = unshare.into_iter().chain(["bash", "-c", script, "bash", &log]).map(str::to_owned);
    let wrapper: Vec<String> = wrapper.chain(arguments.iter().cloned()).collect();
    let output = command(role, &place.log(), &wrapper).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !said.contains("unshare failed") && !said.contains("Operation not permitted"),
        "this test needs a file system of its own, and may not make one here: {said}\nRun it as root with \
         the right to mount, or where a user may make namespaces (sysctl kernel.unprivileged_userns_clone=1, \
         docker run --privileged)"
    );
    output
}

/// The lives that a transcript tells of, one after another.
fn lives(output: &std::process::Output) -> Vec<(Said, i32)> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut lives = Vec::new();
    let mut rest = text.as_str();
    while let Some((life, behind)) = rest.split_once("ended ") {
        let (code, behind) = behind.split_once('\n').unwrap();
        let stdout = life.as_bytes().to_vec();
        lives.push((Said::read(&std::process::Output { stdout, ..output.clone() }), code.parse().unwrap()));
        rest = behind;
    }
    lives
}

/// I13, I14: the store cannot be written, no file can be made longer, and a start still succeeds, again and
/// again; what is acknowledged meanwhile is kept.
#[test]
fn on_a_full_disk_every_start_succeeds_and_nothing_acknowledged_is_lost() {
    let (mut never_opened, mut filled) = (0, 0);
    for room in [0, 64 << 10, 256 << 10, 512 << 10] {
        let place = Place::worked();
        let output = in_namespace(FULL, &place, &[room.to_string(), "12".into()], Role::Commit(150));
        let lives = lives(&output);
        assert_eq!(lives.len(), 12, "{output:?}");
        let mut expected = vec![Expected { life: place.life, acknowledged: BEFORE }];
        for (number, (said, code)) in lives.iter().enumerate() {
            let why = || format!("{room} bytes free, start {number}: {}", said.transcript);
            let life = said.life.unwrap_or_else(|| panic!("refused; {}", why()));
            assert!([0, EXIT_LOG_FAILED].contains(code), "ended with {code}; {}", why());
            expected.push(Expected { life, acknowledged: said.committed });
            filled += usize::from(*code == EXIT_LOG_FAILED);
            never_opened += usize::from(said.unreadable.is_some());
        }
        judge(&outside(&place), &expected, &format!("{room} bytes free, and now room again"));
    }
    assert!(filled > 0 && never_opened > 0, "a disk that fills, {filled}, that is full, {never_opened}");
}

fn outside(place: &Place) -> std::path::PathBuf {
    let mut name = place.log().into_os_string();
    name.push(".outside");
    Path::new(&name).to_owned()
}

#[test]
fn a_directory_that_cannot_be_written_is_refused_with_its_name() {
    let place = Place::worked();
    let said = Said::read(&in_namespace(READ_ONLY, &place, &[], Role::Commit(1)));
    let refusal = said.refused.unwrap_or_else(|| panic!("not refused: {}", said.transcript));
    assert!(refusal.contains("VOTUM-1104") && refusal.contains("Read-only"), "{refusal}");
    super::kernel_errors::is_a_good_refusal(&refusal, &place.log(), "read-only");
    judge(&place.log(), &[Expected { life: place.life, acknowledged: BEFORE }], "writable again");
}
