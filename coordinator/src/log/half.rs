//! Reading one half of the journal: its chain of batches, and what stands behind the chain's end.

use super::LogPosition;
use super::batch::{self, ALIGN, Found, Header};

/// A batch of an unknown format: where it stands and its version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct UnknownBatch {
    /// In bytes.
    pub(super) offset: u64,
    /// The version in its header.
    pub(super) version: u8,
}

/// What one half holds.
#[derive(Debug)]
pub(super) struct HalfView {
    /// The whole file.
    pub(super) bytes: Vec<u8>,
    /// The chain from offset 0, a closing batch not included; empty when the first batch is not intact.
    pub(super) chain: Vec<(u64, Header)>,
    /// The closing batch, when the journal says that it goes on in the other half.
    pub(super) closed: Option<Header>,
    /// Where the next batch of the chain would begin.
    pub(super) end: u64,
}

impl HalfView {
    /// Follows the chain.
    ///
    /// # Errors
    /// When it leads to an intact batch of an unknown format.
    pub(super) fn read(bytes: Vec<u8>) -> Result<Self, UnknownBatch> {
        let mut view = Self { bytes, chain: Vec::new(), closed: None, end: 0 };
        while let Some(header) = view.next()? {
            if header.closing {
                view.closed = Some(header);
                break;
            }
            view.chain.push((view.end, header));
            view.end += header.extent();
        }
        Ok(view)
    }

    /// The batch at the chain's end, if it continues the chain.
    fn next(&self) -> Result<Option<Header>, UnknownBatch> {
        match batch::read(&self.bytes, self.end, 0) {
            Found::Batch(header, _) => {
                Ok(self.last().is_none_or(|last| follows(&last, &header)).then_some(header))
            }
            Found::UnknownVersion(version) => Err(UnknownBatch { offset: self.end, version }),
            Found::Nothing => Ok(None),
        }
    }

    /// The first batch of the chain.
    pub(super) fn first(&self) -> Option<Header> {
        self.chain.first().map(|(_, header)| *header)
    }

    /// The last batch of the chain.
    pub(super) fn last(&self) -> Option<Header> {
        self.chain.last().map(|(_, header)| *header)
    }

    /// Where, behind the chain's end, a batch stands intact whose records would come at `from` or later: the
    /// bytes between were forced before it, so they are damaged, not torn. What an earlier use of this half
    /// left behind has lower positions.
    ///
    /// # Errors
    /// When an intact batch of an unknown format stands there.
    pub(super) fn later(&self, from: LogPosition) -> Result<Option<u64>, UnknownBatch> {
        let mut offset = self.end;
        if let Some(closed) = self.closed {
            offset += closed.extent();
        }
        while offset < self.bytes.len() as u64 {
            match batch::read(&self.bytes, offset, from) {
                Found::Batch(..) => return Ok(Some(offset)),
                Found::UnknownVersion(version) => return Err(UnknownBatch { offset, version }),
                Found::Nothing => offset += ALIGN,
            }
        }
        Ok(None)
    }

    /// The least size that this file, and the other half's, had when a batch of the chain was written.
    pub(super) fn sizes(&self) -> (u64, u64) {
        let headers = || self.chain.iter().map(|(_, header)| header).chain(self.closed.as_ref());
        let own = headers().map(|header| header.own_pages).max().unwrap_or(0);
        let other = headers().map(|header| header.other_pages).max().unwrap_or(0);
        (u64::from(own) * batch::PAGE, u64::from(other) * batch::PAGE)
    }

    /// The body of the batch at `offset`.
    pub(super) fn body(&self, offset: u64, header: &Header) -> &[u8] {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).saturating_add(batch::HEADER);
        self.bytes.get(start..start.saturating_add(header.body_len as usize)).unwrap_or_default()
    }
}

/// Whether `next` continues the chain behind `last`.
pub(super) fn follows(last: &Header, next: &Header) -> bool {
    let seed = if next.life == last.life {
        last.checksum
    } else if next.life.epoch > last.life.epoch {
        batch::seed_of_life(last.checksum, next.life)
    } else {
        return false;
    };
    next.previous == seed && next.first_position == last.next_position()
}
