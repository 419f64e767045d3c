//! `--keep`: the installation goes on after the demonstration, and a script stops it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use anyhow::Context as _;
use votum_tests::postgres::ROLE;
use votum_tests::process::{Build, program};
use votum_tests::world::World;

use crate::screen::Screen;

/// Leaves everything running, and prints how to talk to it and how to stop it.
pub(crate) fn leave_running(screen: Screen, world: World) -> anyhow::Result<()> {
    let stop = write_stop_script(&world)?;
    let votumctl = program(Build::CrashPoints, "votumctl")?;
    screen.heading("Left running");
    for bank in &world.banks {
        let (server, database) = (&bank.server, &bank.database);
        screen.line(&format!(
            "psql -h 127.0.0.1 -p {} -U {ROLE} {database}    # {}",
            server.port(),
            bank.name
        ));
    }
    screen.line(&format!("export VOTUM_COORDINATOR={}", world.address()));
    screen.line(&format!("{} status", votumctl.display()));
    screen.line(&format!("less {}", world.coordinator.log().display()));
    screen.line(&format!("{}    # stops and removes everything", stop.display()));
    world.leave_running();
    Ok(())
}

/// The script knows every process by its id, and every directory.
fn write_stop_script(world: &World) -> anyhow::Result<PathBuf> {
    let mut ours = vec![world.coordinator.pid().context("the coordinator has ended")?];
    let (mut servers, mut directories) = (Vec::new(), Vec::new());
    for bank in &world.banks {
        ours.push(bank.agent.pid().with_context(|| format!("the agent of {} has ended", bank.name))?);
        servers.push(bank.server.pid().with_context(|| format!("the server of {} has ended", bank.name))?);
        directories.push(bank.server.dir().display().to_string());
    }
    directories.push(world.dir().display().to_string());
    let words = |pids: &[u32]| pids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
    let script = format!(
        "#!/bin/sh
# Stops the demonstration's processes, and removes its directories.
kill -TERM {ours} 2>/dev/null
kill -INT {servers} 2>/dev/null
somebody_lives() {{
    for pid in {ours} {servers}; do
        kill -0 $pid 2>/dev/null && ! grep -qs '^State:[[:space:]]*Z' /proc/$pid/status && return 0
    done
    return 1
}}
tries=0
while somebody_lives; do
    tries=$((tries + 1))
    [ $tries -lt 300 ] || {{ echo 'processes {ours} {servers} do not end' >&2; exit 1; }}
    sleep 0.1
done
rm -rf {directories}
echo 'stopped, and removed'
",
        ours = words(&ours),
        servers = words(&servers),
        directories = directories.join(" "),
    );
    let path = world.dir().join("stop");
    std::fs::write(&path, script)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    Ok(path)
}
