//! What the system area of a hybrid image holds: an MBR, and where the backup of a GPT must lie.
//!
//! Source: UEFI specification, chapter 5. All little-endian, sectors of 512 bytes.

use byteorder::{ByteOrder, LittleEndian};

/// Offset of the MBR's four entries, and bytes of each.
const ENTRIES: usize = 446;
const ENTRY: usize = 16;

/// Does the first sector make a disk of the image: the boot signature, and an entry that is not empty?
pub fn is_hybrid(head: &[u8]) -> bool {
    head.get(510..512) == Some(&[0x55, 0xAA])
        && head
            .get(ENTRIES..510)
            .is_some_and(|table| table.chunks_exact(ENTRY).any(|entry| entry.iter().skip(4).any(|byte| *byte != 0)))
}

/// What is known of a GPT's end.
pub enum Gpt {
    /// There is none.
    None,
    /// The primary header is sound: the byte behind the backup header.
    EndsAt(u64),
    /// The primary header is not what its checksum says, or what it says cannot be.
    Damaged,
}

/// Looks at the primary header.
pub fn look(head: &[u8]) -> Gpt {
    let header = head.get(512..1024).and_then(|header| header.first_chunk::<512>());
    let Some(header) = header.filter(|header| header.starts_with(b"EFI PART")) else { return Gpt::None };
    let len = usize::try_from(LittleEndian::read_u32(&header[12..])).unwrap_or(usize::MAX);
    let mut summed = *header;
    summed[16..20].fill(0);
    let sound =
        summed.get(..len).filter(|_| len >= 92).map(crc32fast::hash) == Some(LittleEndian::read_u32(&header[16..]));
    let end = LittleEndian::read_u64(&header[32..]).checked_add(1).and_then(|sectors| sectors.checked_mul(512));
    match end.filter(|end| sound && i64::try_from(*end).is_ok()) {
        Some(end) => Gpt::EndsAt(end),
        None => Gpt::Damaged,
    }
}
