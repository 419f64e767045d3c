//! Agents that live in the coordinator's own process, or in a simulation: an exchange over a pair of
//! channels.

use std::sync::Arc;

use async_trait::async_trait;
use votum_proto::exchange::{self, AgentEnd, CoordinatorEnd};
use votum_proto::runtime::{BoxFuture, Spawn};

use super::Dialer;

/// Serves the agent's end of one exchange, to its end.
pub type Host = Arc<dyn Fn(AgentEnd) -> BoxFuture<()> + Send + Sync>;

/// Reaches an agent in this process: each dialling spawns the agent's side of a new exchange.
#[derive(Clone)]
pub struct ChannelDialer {
    name: String,
    host: Host,
    spawn: Arc<dyn Spawn>,
}

impl ChannelDialer {
    /// A dialer that hands the agent's end of each exchange to `host`, on a task of its own. `name` stands
    /// where an address would, for people.
    pub fn new(name: impl Into<String>, host: Host, spawn: Arc<dyn Spawn>) -> Self {
        Self { name: name.into(), host, spawn }
    }
}

#[async_trait]
impl Dialer for ChannelDialer {
    async fn dial(&self) -> Result<CoordinatorEnd, String> {
        let (coordinator, agent) = exchange::channel();
        self.spawn.spawn((self.host)(agent));
        Ok(coordinator)
    }

    fn address(&self) -> String {
        self.name.clone()
    }
}
