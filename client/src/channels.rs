//! The stream of calls to each agent, kept and reused.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use tonic::transport::Endpoint;
use votum_proto::address::Address;
use votum_proto::calls::MAX_STATEMENT;
use votum_proto::runtime::Seams;

use crate::Error;
use crate::calls::Calls;

/// Agents by address. Each is connected to when it is first used, and again whenever the connection broke.
#[derive(Default)]
pub(crate) struct Agents {
    by_address: Mutex<BTreeMap<String, Calls>>,
}

impl Agents {
    /// The one at `address`, which is at hand.
    #[cfg(feature = "embedded")]
    pub(crate) fn at_hand(address: String, agent: Calls) -> Self {
        Self { by_address: Mutex::new([(address, agent)].into()) }
    }

    /// The agent at `address`.
    pub(crate) fn at(&self, address: &str, seams: &Seams) -> Result<Calls, Error> {
        let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(agent) = by_address.get(address) {
            return Ok(agent.clone());
        }
        let agent = Calls::new(endpoint(address)?.connect_lazy(), MAX_STATEMENT, seams.spawn.clone());
        by_address.insert(address.to_owned(), agent.clone());
        Ok(agent)
    }
}

/// How to dial `address`.
pub(crate) fn endpoint(address: &str) -> Result<Endpoint, Error> {
    let parsed: Address = address.parse().map_err(|error| Error::Address(format!("{error}")))?;
    parsed.endpoint().map_err(|error| Error::Address(format!("{address:?} cannot be dialled: {error}")))
}
