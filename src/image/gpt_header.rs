//! The header of a GPT: seen in disks, and in optical images that are disks too.
//!
//! Source: UEFI specification, chapter 5. All little-endian; the primary stands in sector 1, its backup in the last sector.
//!
//! | offset | bytes | field                | reading                                      |
//! |-------:|------:|----------------------|----------------------------------------------|
//! |      0 |     8 | signature            | `EFI PART`                                   |
//! |     12 |     4 | header size          | 92 up to a sector                            |
//! |     16 |     4 | CRC-32 of the header | with these four bytes as zero                |
//! |     24 |     8 | sector of this copy  |                                              |
//! |     32 |     8 | sector of the other  |                                              |
//! |     40 |    16 | usable sectors       | the first and the last one                   |
//! |     56 |    16 | disk GUID            | its first three fields little-endian         |
//! |     72 |     8 | entries begin        | their sector                                 |
//! |     80 |     8 | entries              | how many, and bytes of each                  |
//! |     88 |     4 | CRC-32 of all entries |                                             |

use byteorder::{ByteOrder, LittleEndian};
use uuid::Uuid;

/// Bytes of the header that have a meaning.
const LEN: usize = 92;

/// Entries that a table may have, and bytes of all of them: more is no table of any tool.
const MOST_ENTRIES: u32 = 16_384;
const MOST_ARRAY: u64 = 4 << 20;

/// A header whose checksum is right; what it says is held against nothing else yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GptHeader {
    /// The sector that this copy says it is in.
    pub here: u64,
    /// The sector of the other copy.
    pub other: u64,
    /// The first sector that partitions may use.
    pub first_usable: u64,
    /// The last sector that partitions may use.
    pub last_usable: u64,
    /// The disk's GUID.
    pub disk_id: Uuid,
    /// The sector at which the entries begin.
    pub entries_at: u64,
    /// How many entries there are.
    pub entry_count: u32,
    /// Bytes of an entry.
    pub entry_len: u32,
    /// CRC-32 of all entries.
    pub entries_crc: u32,
}

/// What a sector that may hold a header holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GptLook {
    /// No header.
    None,
    /// A header that is not what its checksum says.
    Damaged,
    /// A header with the right checksum.
    Sound(GptHeader),
}

impl GptHeader {
    /// Looks at the sector that holds it: 512 or 4,096 bytes.
    pub fn look(sector: &[u8]) -> GptLook {
        let Some(header) = sector.first_chunk::<LEN>().filter(|header| header.starts_with(b"EFI PART")) else {
            return GptLook::None;
        };
        let len = usize::try_from(LittleEndian::read_u32(&header[12..])).unwrap_or(usize::MAX);
        let Some(summed) = sector.get(..len).filter(|_| len >= LEN) else { return GptLook::Damaged };
        let mut summed = summed.to_vec();
        summed.get_mut(16..20).unwrap_or_default().fill(0);
        if crc32fast::hash(&summed) != LittleEndian::read_u32(&header[16..]) {
            return GptLook::Damaged;
        }
        let mut id = [0; 16];
        id.copy_from_slice(&header[56..72]);
        GptLook::Sound(GptHeader {
            here: LittleEndian::read_u64(&header[24..]),
            other: LittleEndian::read_u64(&header[32..]),
            first_usable: LittleEndian::read_u64(&header[40..]),
            last_usable: LittleEndian::read_u64(&header[48..]),
            disk_id: Uuid::from_bytes_le(id),
            entries_at: LittleEndian::read_u64(&header[72..]),
            entry_count: LittleEndian::read_u32(&header[80..]),
            entry_len: LittleEndian::read_u32(&header[84..]),
            entries_crc: LittleEndian::read_u32(&header[88..]),
        })
    }

    /// Bytes of all entries.
    pub fn entries_len(&self) -> u64 {
        u64::from(self.entry_count) * u64::from(self.entry_len)
    }

    /// Can there be such a table? Whether it fits the disk is another question: disks are cut.
    pub fn is_possible(&self, sector_size: u64) -> bool {
        self.first_usable <= self.last_usable
            && (1..=MOST_ENTRIES).contains(&self.entry_count)
            && (128..=4096).contains(&self.entry_len)
            && self.entry_len.is_power_of_two()
            && self.entries_len() <= MOST_ARRAY
            && self.end(sector_size).is_some()
    }

    /// Bytes of a disk that ends with the other copy; `None` where no disk is that large.
    pub fn end(&self, sector_size: u64) -> Option<u64> {
        let end = self.other.max(self.here).checked_add(1)?.checked_mul(sector_size)?;
        i64::try_from(end).is_ok().then_some(end)
    }
}
