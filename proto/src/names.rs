//! The names that transactions and their parts bear. None of these types can be built wrong.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Why a name was not accepted. Carries what was found and what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {found:?} is not acceptable: {expected}")]
pub struct NameError {
    what: &'static str,
    found: String,
    expected: &'static str,
}

impl NameError {
    fn new(what: &'static str, found: &str, expected: &'static str) -> Self {
        // A name from outside may be of any length; an error about it must not be.
        Self { what, found: found.chars().take(80).collect(), expected }
    }
}

// Names are part of every message, record and key: they are shared, not copied.
macro_rules! text_name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:literal, $accept:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                let accept: fn(&str) -> bool = $accept;
                if accept(text) { Ok(Self(text.into())) } else { Err(NameError::new($what, text, $rule)) }
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_name!(
    /// Names a coordinator and its log, for ever: 1 to 16 characters of `[a-z0-9]`.
    CoordinatorId,
    "coordinator_id",
    "1 to 16 characters of a-z and 0-9",
    |text| (1..=16).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
);

text_name!(
    /// Names a database reachable through an agent: 1 to 63 characters of `[a-z0-9_-]`, a letter first.
    ParticipantName,
    "participant",
    "1 to 63 characters of a-z, 0-9, _ and -, beginning with a letter",
    |text| (1..=63).contains(&text.len())
        && text.bytes().next().is_some_and(|b| b.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
);

/// Grows by one at each start of a coordinator, durably.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// 24 random bits drawn with an epoch: tells two lives of one epoch number apart, which only a copied or
/// rolled-back log can produce. Printed as six hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32")]
pub struct Incarnation(u32);

impl Incarnation {
    /// The number of bits.
    pub const BITS: u32 = 24;

    /// Keeps the low 24 bits of `bits`.
    pub fn from_low_bits(bits: u32) -> Self {
        Self(bits & ((1 << Self::BITS) - 1))
    }

    /// The 24 bits.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for Incarnation {
    type Error = NameError;
    fn try_from(bits: u32) -> Result<Self, NameError> {
        let incarnation = Self::from_low_bits(bits);
        let error = || NameError::new("incarnation", &format!("{bits:x}"), "24 bits");
        if incarnation.0 == bits { Ok(incarnation) } else { Err(error()) }
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:06x}", self.0)
    }
}

impl FromStr for Incarnation {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let error = || NameError::new("incarnation", text, "six hexadecimal digits in lower case");
        let well_formed =
            text.len() == 6 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if !well_formed {
            return Err(error());
        }
        u32::from_str_radix(text, 16).map(Self).map_err(|_| error())
    }
}

/// One life of a coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Life {
    /// Which start of the coordinator this is.
    pub epoch: Epoch,
    /// Drawn with the epoch.
    pub incarnation: Incarnation,
}

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.incarnation)
    }
}

/// Names a global transaction, for ever and everywhere: `acme-7-3f9ac2-1042`.
///
/// Ordered by coordinator, then epoch, incarnation and seq: the order in which one coordinator begins them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Gtid {
    /// Whose transaction it is.
    pub coordinator_id: CoordinatorId,
    /// In which life it began.
    pub life: Life,
    /// Counts within the epoch, from 1.
    pub seq: u64,
}

impl fmt::Display for Gtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.coordinator_id, self.life, self.seq)
    }
}

impl fmt::Debug for Gtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Gtid {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let error = || NameError::new("gtid", text, "for example acme-7-3f9ac2-1042");
        let mut parts = text.split('-');
        let (Some(id), Some(epoch), Some(incarnation), Some(seq), None) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(error());
        };
        Ok(Self {
            coordinator_id: id.parse()?,
            life: Life {
                epoch: Epoch(canonical(epoch).ok_or_else(error)?),
                incarnation: incarnation.parse()?,
            },
            seq: canonical(seq).ok_or_else(error)?,
        })
    }
}

/// The place of a branch in the list that Commit named, from 0.
pub type BranchNumber = u16;

/// A branch's name in `pg_prepared_xacts`: `votum_acme_7_3f9ac2_1042_0_2`, under 200 bytes.
///
/// `branches` counts the branches that Commit named, so that a reader without a log knows how many siblings
/// to look for; 0 where an attached branch had to be named before that.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Gid {
    /// The transaction of which it is a branch.
    pub gtid: Gtid,
    /// Which branch, from 0.
    pub branch: BranchNumber,
    /// Of how many.
    pub branches: BranchNumber,
}

impl fmt::Display for Gid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Gtid { coordinator_id, life, seq } = &self.gtid;
        let Life { epoch, incarnation } = life;
        write!(f, "votum_{coordinator_id}_{epoch}_{incarnation}_{seq}_{}_{}", self.branch, self.branches)
    }
}

impl fmt::Debug for Gid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Gid {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let error = || NameError::new("gid", text, "for example votum_acme_7_3f9ac2_1042_0_2");
        let mut parts = text.split('_');
        let mut next = || parts.next().ok_or_else(error);
        if next()? != "votum" {
            return Err(error());
        }
        let coordinator_id = next()?.parse()?;
        let epoch = Epoch(canonical(next()?).ok_or_else(error)?);
        let incarnation = next()?.parse()?;
        let seq = canonical(next()?).ok_or_else(error)?;
        let branch = canonical(next()?).and_then(|n| n.try_into().ok()).ok_or_else(error)?;
        let branches = canonical(next()?).and_then(|n| n.try_into().ok()).ok_or_else(error)?;
        if parts.next().is_some() || (branches != 0 && branch >= branches) {
            return Err(error());
        }
        Ok(Self { gtid: Gtid { coordinator_id, life: Life { epoch, incarnation }, seq }, branch, branches })
    }
}

/// A number written as `Display` writes it: no sign, no leading zero. A name that parses prints as it stood.
fn canonical(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

/// The name of one hosted session: which life of the agent opened it, and its number there, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionName {
    /// Drawn when the agent's process started.
    pub agent_instance: u64,
    /// Counts the sessions that this instance has opened.
    pub counter: u64,
}

impl fmt::Display for SessionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}.{}", self.agent_instance, self.counter)
    }
}

impl From<SessionName> for crate::v1::SessionName {
    fn from(name: SessionName) -> Self {
        Self { agent_instance: name.agent_instance, counter: name.counter }
    }
}

impl From<crate::v1::SessionName> for SessionName {
    fn from(name: crate::v1::SessionName) -> Self {
        Self { agent_instance: name.agent_instance, counter: name.counter }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gtid_prints_as_it_parses() {
        let text = "acme-7-3f9ac2-1042";
        assert_eq!(text.parse::<Gtid>().unwrap().to_string(), text);
    }

    #[test]
    fn a_gid_prints_as_it_parses_and_stays_under_200_bytes() {
        let text = "votum_acme_7_3f9ac2_1042_0_2";
        assert_eq!(text.parse::<Gid>().unwrap().to_string(), text);
        let longest = Gid {
            gtid: Gtid {
                coordinator_id: "abcdefghijklmnop".parse().unwrap(),
                life: Life { epoch: Epoch(u64::MAX), incarnation: Incarnation::from_low_bits(u32::MAX) },
                seq: u64::MAX,
            },
            branch: u16::MAX - 1,
            branches: u16::MAX,
        };
        assert!(longest.to_string().len() < 200);
        assert_eq!(longest.to_string().parse::<Gid>().unwrap(), longest);
    }

    #[test]
    fn a_name_that_would_print_otherwise_is_refused() {
        for text in [
            "",
            "votum_acme_07_3f9ac2_1042_0_2",
            "votum_acme_7_3f9ac2_1042_2_2",
            "votum_acme_7_3F9AC2_1042_0_2",
            "votum_acme_7_3f9ac2_+1_0_2",
            "votum_acme_7_3f9ac2_1042_0_2_0",
            "votum_ACME_7_3f9ac2_1042_0_2",
            "votum_acme_7_3f9ac2_1042_0_65536",
            "votum_acme_7_3f9ac2_99999999999999999999_0_2",
        ] {
            assert!(text.parse::<Gid>().is_err(), "{text} was accepted");
        }
        assert!("bank-a\u{0}".parse::<ParticipantName>().is_err());
    }
}
