//! What forgets what was not made durable: a file and an ordered map. The disks and stores of simulations and
//! tests are made of these; what goes wrong, and when, is theirs to say.

use std::collections::BTreeMap;
use std::ops::{Bound, Range};

use super::store::Pair;

/// What reaches a disk of itself, whole or not at all, in bytes.
const SECTOR: usize = 512;

/// A file: what is on the disk, and what was written since, in order.
#[derive(Debug, Clone, Default)]
pub struct ForgetfulFile {
    durable: Vec<u8>,
    pending: Vec<(usize, Vec<u8>)>,
}

/// One write that was not forced when the power went.
#[derive(Debug, Clone, Copy)]
pub struct Unforced {
    /// Where in the file.
    pub offset: usize,
    /// How many bytes.
    pub length: usize,
    /// Nothing was written after it.
    pub is_last: bool,
}

impl Unforced {
    /// The write, cut where sectors end; counted from its beginning.
    pub fn sectors(self) -> impl Iterator<Item = Range<usize>> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let from = at;
            at = self.length.min(from + SECTOR - (self.offset + from) % SECTOR);
            (from < at).then_some(from..at)
        })
    }
}

impl ForgetfulFile {
    /// A file with these bytes on the disk.
    pub fn holding(bytes: Vec<u8>) -> Self {
        Self { durable: bytes, pending: Vec::new() }
    }

    /// What a reader sees.
    pub fn view(&self) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        for (offset, written) in &self.pending {
            lay(&mut bytes, *offset, written);
        }
        bytes
    }

    /// A file of its own with what would be there if the power went now, at worst.
    #[must_use]
    pub fn forced(&self) -> Self {
        Self::holding(self.durable.clone())
    }

    /// Writes, for now.
    pub fn write(&mut self, offset: usize, bytes: Vec<u8>) {
        self.pending.push((offset, bytes));
    }

    /// Grows to `size` bytes with zeros, for now.
    pub fn extend(&mut self, size: usize) {
        let length = self.view().len();
        self.write(length, vec![0; size.saturating_sub(length)]);
    }

    /// Everything written is on the disk; also when the process dies, which leaves it with the system.
    pub fn force(&mut self) {
        for (offset, written) in std::mem::take(&mut self.pending) {
            lay(&mut self.durable, offset, &written);
        }
    }

    /// The power goes: of each write that was not forced, the parts that `reached` names are on the disk.
    pub fn tear<Parts: IntoIterator<Item = Range<usize>>>(
        &mut self,
        mut reached: impl FnMut(Unforced) -> Parts,
    ) {
        let pending = std::mem::take(&mut self.pending);
        let last = pending.len().saturating_sub(1);
        for (number, (offset, written)) in pending.into_iter().enumerate() {
            let unforced = Unforced { offset, length: written.len(), is_last: number == last };
            for part in reached(unforced) {
                let from = part.start;
                if let Some(bytes) = written.get(part) {
                    lay(&mut self.durable, offset + from, bytes);
                }
            }
        }
    }
}

fn lay(bytes: &mut Vec<u8>, offset: usize, written: &[u8]) {
    let end = offset + written.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    if let Some(place) = bytes.get_mut(offset..end) {
        place.copy_from_slice(written);
    }
}

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// An ordered map: what is seen, what is durable, and the writes between the two, in order.
#[derive(Debug, Clone, Default)]
pub struct ForgetfulMap {
    seen: Map,
    durable: Map,
    /// `None`: removed.
    pending: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl ForgetfulMap {
    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.seen.get(key).cloned()
    }

    /// Sets the value of a key, for now; `None` removes it.
    pub fn set(&mut self, key: &[u8], value: Option<&[u8]>) {
        let write = (key.to_vec(), value.map(<[u8]>::to_vec));
        self.pending.push(write.clone());
        apply(&mut self.seen, write);
    }

    /// The pairs with `from <= key < to`, in order.
    pub fn range<'a>(&'a self, from: &[u8], to: &[u8]) -> impl DoubleEndedIterator<Item = Pair> + 'a {
        let range = self.seen.range::<[u8], _>((Bound::Included(from), Bound::Excluded(to)));
        range.map(|(key, value)| (key.clone(), value.clone()))
    }

    /// How many writes are not durable.
    pub fn unforced(&self) -> usize {
        self.pending.len()
    }

    /// Everything written is durable.
    pub fn force(&mut self) {
        for write in std::mem::take(&mut self.pending) {
            apply(&mut self.durable, write);
        }
    }

    /// The power goes: of what was not durable only the first `kept` writes are there.
    pub fn lose_all_but(&mut self, kept: usize) {
        for write in std::mem::take(&mut self.pending).into_iter().take(kept) {
            apply(&mut self.durable, write);
        }
        self.seen.clone_from(&self.durable);
    }
}

fn apply(map: &mut Map, (key, value): (Vec<u8>, Option<Vec<u8>>)) {
    match value {
        Some(value) => drop(map.insert(key, value)),
        None => drop(map.remove(&key)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_forced_is_gone_but_for_the_parts_that_reached_the_disk() {
        let mut file = ForgetfulFile::default();
        file.write(0, vec![1; 4]);
        file.force();
        file.write(2, vec![2; 600]);
        file.write(700, vec![3; 2]);
        assert_eq!(file.view().len(), 702);
        assert_eq!(file.forced().view(), [1; 4]);
        let sectors: Vec<_> = Unforced { offset: 2, length: 600, is_last: false }.sectors().collect();
        assert_eq!(sectors, [0..510, 510..600]);
        file.tear(|write| write.sectors().filter(move |part| !write.is_last && part.start > 0));
        let torn = file.view();
        assert_eq!((torn.len(), torn[2], torn[511], torn[512], torn[601]), (602, 1, 0, 2, 2));
    }

    #[test]
    fn a_map_keeps_the_first_writes_in_their_order() {
        let mut map = ForgetfulMap::default();
        map.set(b"a", Some(b"1"));
        map.force();
        map.set(b"a", None);
        map.set(b"b", Some(b"2"));
        assert_eq!((map.get(b"a"), map.get(b"b"), map.unforced()), (None, Some(b"2".to_vec()), 2));
        map.lose_all_but(1);
        assert_eq!(map.range(b"a", b"z").count(), 0);
    }
}
