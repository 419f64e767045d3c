//! A world whose first bank has a standby.

use std::sync::Arc;

use super::Builder;
use crate::postgres::{ROLE, Seat, Server};

/// A server of the first bank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    /// The primary.
    Primary,
    /// Its standby.
    Standby,
}

impl Builder {
    /// Gives the first bank a standby that streams from its server, and has its agent reach it by these hosts, in
    /// this order. For banks with servers of their own.
    pub fn standby(mut self, hosts: &[Host]) -> Self {
        self.standby = Some(hosts.to_vec());
        self
    }

    /// The servers of a bank. A standby has what its server had before it, databases too.
    pub(super) async fn seat(&self, place: usize, server: Arc<Server>) -> anyhow::Result<Seat> {
        let behind = match &self.standby {
            Some(_) if place == 0 => vec![Arc::new(server.standby().await?)],
            Some(_) | None => Vec::new(),
        };
        Ok(Seat::new(server, behind))
    }

    /// By which connection the agent of a bank reaches its database.
    pub(super) fn connection(&self, place: usize, seat: &Seat, database: &str) -> anyhow::Result<String> {
        let Some(hosts) = self.standby.as_ref().filter(|_| place == 0) else {
            return Ok(seat.connection(database, ROLE));
        };
        let mut ports = Vec::new();
        for host in hosts {
            let port = match host {
                Host::Primary => seat.first().port(),
                Host::Standby => seat.standby()?.port(),
            };
            ports.push(port.to_string());
        }
        let names = vec!["127.0.0.1"; ports.len()].join(",");
        Ok(format!("host={names} port={} user={ROLE} dbname={database}", ports.join(",")))
    }
}
