//! Bytes, cut where messages end.

use std::ops::Range;

use super::message::Message;

/// Some bytes that pass as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) bytes: Vec<u8>,
    /// The messages that end in it.
    pub(super) names: Vec<Message>,
    /// Whether it keeps the connection going rather than saying something: a ping, a window.
    pub(super) is_upkeep: bool,
}

impl Piece {
    pub(super) fn new(bytes: Vec<u8>, name: Option<Message>) -> Self {
        Self { bytes, names: name.into_iter().collect(), is_upkeep: false }
    }
}

/// What has arrived and is not yet a whole piece.
#[derive(Debug, Default)]
pub(super) struct Pending(Vec<u8>);

impl Pending {
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The first `length` bytes, once they are there.
    pub(super) fn take(&mut self, length: usize) -> Option<Vec<u8>> {
        if self.0.len() < length {
            return None;
        }
        let rest = self.0.split_off(length);
        Some(std::mem::replace(&mut self.0, rest))
    }
}

/// A number that stands somewhere in the bytes, the highest byte first.
pub(super) fn number(bytes: &[u8], at: Range<usize>) -> Option<usize> {
    Some(bytes.get(at)?.iter().fold(0, |sum, byte| (sum << 8) | usize::from(*byte)))
}
