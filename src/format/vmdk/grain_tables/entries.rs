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
    /// Reads `count` entries from byte `at` on; what the medium does not give of them is told entry by entry.
    pub fn read(file: &InputFile, at: u64, count: u64) -> Result<Entries, Fault> {
        let mut bytes = vec![0; in_memory(count * 4)];
        let unread = file.read_around(at, &mut bytes)?;
        Ok(Entries { at, values: bytes.chunks_exact(4).map(LittleEndian::read_u32).collect(), unread })
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
