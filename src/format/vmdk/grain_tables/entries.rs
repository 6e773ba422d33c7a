//! Entries of a directory or a table, as far as the medium gives them.

use byteorder::{ByteOrder, LittleEndian};

use crate::fault::Fault;
use crate::io::{InputFile, Unread, in_memory};

/// Entries of 32 bits in a row.
pub struct Entries {
    /// Byte of the first.
    at: u64,
    values: Vec<u32>,
    unread: Vec<Unread>,
}

impl Entries {
    /// Reads `count` entries from byte `at` on; what the medium does not give of them, or the end of the file cuts off, is told entry by
    /// entry.
    pub fn read(file: &InputFile, at: u64, count: u64) -> Result<Entries, Fault> {
        let (mut bytes, end) = (vec![0; in_memory(count * 4)], at + count * 4);
        let there = file.len().clamp(at, end);
        let mut unread = match bytes.get_mut(..in_memory(there - at)) {
            Some([]) | None => Vec::new(),
            Some(stored) => file.read_around(at, stored)?,
        };
        if there < end {
            let cut = Fault::damaged(file.name(), there, "VMDK grain table is cut by the end of the file");
            let fault = cut.against(format!("the file has {} bytes", file.len()));
            unread.push(Unread { bytes: there..end, fault });
        }
        Ok(Entries { at, values: bytes.chunks_exact(4).map(LittleEndian::read_u32).collect(), unread })
    }

    /// Are these `count` entries from byte `at` on among them?
    pub fn have(&self, at: u64, count: u64) -> bool {
        self.span(at, count).is_some()
    }

    /// Are the `count` entries from byte `at` on there, and zero?
    pub fn are_zero(&self, at: u64, count: u64) -> bool {
        let zero = self.span(at, count).is_some_and(|values| values.iter().all(|value| *value == 0));
        zero && self.unread.iter().all(|unread| unread.bytes.end <= at || at + count * 4 <= unread.bytes.start)
    }

    /// The `count` entries from byte `at` on, by themselves.
    pub fn part(&self, at: u64, count: u64) -> Option<Entries> {
        let values = self.span(at, count)?.to_vec();
        let unread = self.unread.iter().filter_map(|unread| {
            let bytes = unread.bytes.start.max(at)..unread.bytes.end.min(at + count * 4);
            (bytes.start < bytes.end).then(|| Unread { fault: unread.fault.clone().at(bytes.start), bytes })
        });
        Some(Entries { at, values, unread: unread.collect() })
    }

    fn span(&self, at: u64, count: u64) -> Option<&[u32]> {
        let first = at.checked_sub(self.at).filter(|bytes| bytes.is_multiple_of(4))? / 4;
        self.values.get(in_memory(first)..in_memory(first.checked_add(count)?))
    }

    /// An entry, or why it cannot be read; `None` behind the last.
    pub fn get(&self, index: usize) -> Option<Result<u32, Fault>> {
        let value = *self.values.get(index)?;
        let byte = self.at + index as u64 * 4;
        let unread = self.unread.iter().find(|unread| byte < unread.bytes.end && unread.bytes.start < byte + 4);
        Some(unread.map_or(Ok(value), |unread| Err(unread.fault.clone())))
    }

    /// The entries that the medium gives.
    pub fn known(&self) -> impl Iterator<Item = u32> {
        self.values
            .iter()
            .enumerate()
            .filter(|(index, _)| matches!(self.get(*index), Some(Ok(_))))
            .map(|(_, value)| *value)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::io::Gate;

    const COUNT: u64 = 1000;

    proptest! {
        /// Entries that were read with others say what they say when they are read alone, also on a medium with bad sectors.
        #[test]
        fn a_part_is_what_is_read_by_itself(
            bad in prop::collection::vec((0..COUNT * 4, 1..1500u64), 0..3),
            zero in (0..COUNT, 0..COUNT),
            first in 0..COUNT,
            count in 1..COUNT,
        ) {
            let values = (1..).zip(0..COUNT).map(|(value, n)| if (zero.0..zero.1).contains(&n) { 0u32 } else { value });
            let bytes: Vec<u8> = values.flat_map(u32::to_le_bytes).collect();
            let bad: Vec<_> = bad.into_iter().map(|(start, len)| start..(start + len).min(COUNT * 4)).collect();
            let mut gate = Gate::new();
            gate.lay_over_unreadable("x", bytes, &bad);
            let file = gate.typed(Path::new("x")).unwrap();
            let count = count.min(COUNT - first);
            let (whole, alone) = (Entries::read(&file, 0, COUNT).unwrap(), Entries::read(&file, first * 4, count).unwrap());
            let part = whole.part(first * 4, count).unwrap();
            prop_assert_eq!(part.at, alone.at);
            for index in 0..=in_memory(count) {
                let said = |entries: &Entries| entries.get(index).map(|entry| entry.map_err(|fault| fault.to_string()));
                prop_assert_eq!(said(&part), said(&alone), "entry {}", index);
            }
            let all_zero = (0..in_memory(count)).all(|index| matches!(alone.get(index), Some(Ok(0))));
            prop_assert_eq!(whole.are_zero(first * 4, count), all_zero);
            prop_assert!(whole.have(first * 4, count) && !whole.have(first * 4, COUNT - first + 1));
        }
    }
}
