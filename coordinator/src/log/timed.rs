//! A disk whose forced writes are measured.

use std::path::PathBuf;
use std::sync::Arc;

use votum_proto::runtime::Clock;

use super::disk::{Disk, DiskError, Half};
use crate::metrics::ForcedWrites;

/// What it is made of does all the work.
pub(super) struct Timed<D> {
    pub(super) disk: D,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) forced_writes: ForcedWrites,
}

impl<D: Disk> Disk for Timed<D> {
    fn path(&self, half: Half) -> PathBuf {
        self.disk.path(half)
    }

    fn size(&mut self, half: Half) -> Result<u64, DiskError> {
        self.disk.size(half)
    }

    fn read(&mut self, half: Half) -> Result<Vec<u8>, DiskError> {
        self.disk.read(half)
    }

    fn write(&mut self, half: Half, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.disk.write(half, offset, bytes)
    }

    fn force(&mut self, half: Half) -> Result<(), DiskError> {
        let begun = self.clock.now();
        self.disk.force(half)?;
        self.forced_writes.took(self.clock.now().since(begun));
        Ok(())
    }

    fn extend(&mut self, half: Half, size: u64) -> Result<(), DiskError> {
        self.disk.extend(half, size)
    }
}
