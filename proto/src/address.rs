//! Addresses that a process listens on or dials: `HOST:PORT`, `http://HOST:PORT`, or `unix:/PATH`.

use std::fmt;
use std::net::ToSocketAddrs as _;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use tonic::transport::{Channel, Endpoint};

/// How [`Address::InProcess`] is written.
const IN_PROCESS: &str = "in-process";

/// Where a process listens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Address {
    /// A host name or IP address, and a port.
    Tcp(String),
    /// A Unix-domain socket.
    Unix(PathBuf),
    /// Within the process that names it: nobody can dial it, and no configuration can say it.
    InProcess,
}

/// An address that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an address: write HOST:PORT, http://HOST:PORT or unix:/PATH")]
pub struct AddressError(String);

impl Address {
    /// Whether only this machine can reach it.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Unix(_) | Self::InProcess => true,
            Self::Tcp(host_port) => host_port
                .to_socket_addrs()
                .is_ok_and(|mut addresses| addresses.all(|address| address.ip().is_loopback())),
        }
    }

    /// An endpoint to dial, with the options that Votum's connections share: no Nagle delay, and pings that
    /// notice a peer which is gone without a word.
    ///
    /// # Errors
    /// When the address is not acceptable to the HTTP library.
    pub fn endpoint(&self) -> Result<Endpoint, tonic::transport::Error> {
        let uri = match self {
            Self::Tcp(host_port) => format!("http://{host_port}"),
            Self::Unix(_) | Self::InProcess => self.to_string(),
        };
        Ok(Endpoint::from_shared(uri)?
            .tcp_nodelay(true)
            .connect_timeout(std::time::Duration::from_secs(5))
            .http2_keep_alive_interval(std::time::Duration::from_secs(5))
            .keep_alive_timeout(std::time::Duration::from_secs(5))
            .keep_alive_while_idle(true))
    }

    /// A channel that connects when it is first used, and again whenever it broke.
    ///
    /// # Errors
    /// As [`Address::endpoint`].
    pub fn channel(&self) -> Result<Channel, tonic::transport::Error> {
        Ok(self.endpoint()?.connect_lazy())
    }
}

impl FromStr for Address {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.starts_with('/') {
                Ok(Self::Unix(path.into()))
            } else {
                Err(AddressError(text.to_owned()))
            };
        }
        let host_port = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
        match host_port.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
                Ok(Self::Tcp(host_port.to_owned()))
            }
            _ => Err(AddressError(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Address {
    type Error = AddressError;
    fn try_from(text: String) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> String {
        address.to_string()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host_port) => write!(f, "http://{host_port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::InProcess => f.write_str(IN_PROCESS),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_parse_and_say_whether_they_are_local() {
        for (text, local) in [
            ("127.0.0.1:7400", true),
            ("http://127.0.0.1:7400/", true),
            ("[::1]:7400", true),
            ("0.0.0.0:7400", false),
            ("unix:/run/votum.sock", true),
            ("unix:///run/votum.sock", true),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.is_local(), local, "{text}");
            assert_eq!(address.to_string().parse::<Address>().unwrap(), address);
        }
        for text in ["", "localhost", "unix:relative", ":7400", "host:99999", IN_PROCESS] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }
}
