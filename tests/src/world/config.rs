//! The configurations of a world's processes.

use std::fmt::Write as _;
use std::net::TcpListener;
use std::path::Path;

use votum_proto::address::Address;

use super::{Builder, World};

/// Where the process `name` listens.
pub(super) fn address(dir: &Path, name: &str, tcp: bool) -> anyhow::Result<Address> {
    if tcp {
        // Free at this moment. Somebody else may take it before the process does; then the test fails at
        // its start, saying so.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        return Ok(Address::Tcp(format!("127.0.0.1:{port}")));
    }
    Ok(Address::Unix(dir.join(format!("{name}.sock"))))
}

pub(super) fn write_coordinator(world: &World, builder: &Builder) -> anyhow::Result<()> {
    let mut toml = format!(
        "coordinator_id = \"{}\"\nlisten = \"{}\"\n\n[log]\ndirectory = \"{}\"\n# The journal is written in full \
         when it is made, and here it need not hold much.\nhalf_bytes = {}\n",
        world.coordinator_id,
        world.listen,
        world.log_directory.display(),
        builder.half_bytes,
    );
    for (key, value) in &builder.log_settings {
        writeln!(toml, "{key} = {value}")?;
    }
    for (bank, agent) in world.banks.iter().zip(&world.agent_addresses) {
        write!(toml, "\n[[participants]]\nname = \"{}\"\nagent = \"{agent}\"\n", bank.name)?;
    }
    write!(toml, "\n{}\n", builder.coordinator_tables)?;
    if builder.metrics {
        toml.push_str(&metrics_section(&world.metrics_socket("coordinator")));
    }
    Ok(std::fs::write(world.config_file(), toml)?)
}

fn metrics_section(socket: &Path) -> String {
    format!("\n[metrics]\nlisten = \"unix:{}\"\n", socket.display())
}

pub(super) fn write_agent(
    world: &World,
    builder: &Builder,
    bank: &str,
    connection: &str,
    listen: &Address,
) -> anyhow::Result<()> {
    let mut toml = format!("listen = \"{listen}\"\n");
    for (key, value) in &builder.agent_settings {
        writeln!(toml, "{key} = {value}")?;
    }
    write!(toml, "\n[[participants]]\nname = \"{bank}\"\nconnection = \"{connection}\"\n")?;
    if builder.metrics {
        toml.push_str(&metrics_section(&world.metrics_socket(bank)));
    }
    Ok(std::fs::write(world.dir().join(format!("{bank}.toml")), toml)?)
}
