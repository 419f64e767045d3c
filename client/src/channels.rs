//! One channel for each address, kept and reused.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use tonic::transport::{Channel, Endpoint};
use votum_proto::address::Address;

use crate::Error;

/// Channels by address. A channel connects when it is first used, and again whenever it broke.
#[derive(Default)]
pub(crate) struct Channels {
    by_address: Mutex<BTreeMap<String, Channel>>,
}

impl Channels {
    /// The channel to `address`.
    pub(crate) fn to(&self, address: &str) -> Result<Channel, Error> {
        let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = by_address.get(address) {
            return Ok(channel.clone());
        }
        let channel = endpoint(address)?.connect_lazy();
        by_address.insert(address.to_owned(), channel.clone());
        Ok(channel)
    }
}

/// How to dial `address`.
pub(crate) fn endpoint(address: &str) -> Result<Endpoint, Error> {
    let parsed: Address = address.parse().map_err(|error| Error::Address(format!("{error}")))?;
    parsed.endpoint().map_err(|error| Error::Address(format!("{address:?} cannot be dialled: {error}")))
}
