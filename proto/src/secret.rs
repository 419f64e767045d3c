//! The secret that a client shows with every request about its transaction.
//!
//! The secret is HMAC-SHA-256(epoch key, gtid) and the epoch key HMAC-SHA-256(identity key, epoch,
//! incarnation). The coordinator sends the epoch key to its agents, which check secrets alone; and because
//! the identity key is in the log, a secret still holds after a crash.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use crate::names::{Gtid, Life};

/// The bytes of a secret, and of the keys it is made from.
pub const LENGTH: usize = 32;

/// Drawn when a log is initialized, and kept in it for ever. Never printed.
#[derive(Clone, Copy)]
pub struct IdentityKey(pub [u8; LENGTH]);

impl IdentityKey {
    /// The key of one life of the coordinator.
    pub fn epoch_key(&self, life: Life) -> EpochKey {
        EpochKey(mac(&self.0, format!("epoch {life}").as_bytes()))
    }
}

/// What an agent is given to check the secrets of one life alone. Never printed.
#[derive(Clone, Copy)]
pub struct EpochKey([u8; LENGTH]);

impl EpochKey {
    /// From the bytes of a coordinator's hello; `None` when their number is wrong.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The bytes for a hello.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.to_vec()
    }

    /// The secret of one transaction.
    pub fn secret(&self, gtid: &Gtid) -> Vec<u8> {
        mac(&self.0, gtid.to_string().as_bytes()).to_vec()
    }

    /// Whether `shown` is the secret of `gtid`, in constant time.
    pub fn admits(&self, gtid: &Gtid, shown: &[u8]) -> bool {
        self.secret(gtid).as_slice().ct_eq(shown).into()
    }
}

impl std::fmt::Debug for IdentityKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IdentityKey(…)")
    }
}

impl std::fmt::Debug for EpochKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EpochKey(…)")
    }
}

fn mac(key: &[u8; LENGTH], message: &[u8]) -> [u8; LENGTH] {
    // HMAC takes a key of any length (RFC 2104), so the error cannot occur for 32 bytes.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return [0; LENGTH] };
    mac.update(message);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_belongs_to_one_transaction_of_one_life() {
        let gtid: Gtid = "acme-7-3f9ac2-1042".parse().unwrap();
        let key = IdentityKey([7; LENGTH]).epoch_key(gtid.life);
        assert!(key.admits(&gtid, &key.secret(&gtid)));
        let other: Gtid = "acme-7-3f9ac2-1043".parse().unwrap();
        assert!(!key.admits(&other, &key.secret(&gtid)));
        let next_life: Gtid = "acme-8-3f9ac2-1042".parse().unwrap();
        let next_key = IdentityKey([7; LENGTH]).epoch_key(next_life.life);
        assert!(!next_key.admits(&gtid, &key.secret(&gtid)));
        assert!(!key.admits(&gtid, &[]));
    }
}
