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

/// The byte behind the backup header of a GPT whose primary header is sound.
pub fn end(head: &[u8]) -> Option<u64> {
    let header: &[u8; 512] = head.get(512..1024)?.first_chunk().filter(|header| header.starts_with(b"EFI PART"))?;
    let len = usize::try_from(LittleEndian::read_u32(&header[12..])).ok().filter(|len| (92..=512).contains(len))?;
    let mut summed = *header;
    summed[16..20].fill(0);
    (crc32fast::hash(summed.get(..len)?) == LittleEndian::read_u32(&header[16..]))
        .then(|| LittleEndian::read_u64(&header[32..]).saturating_add(1).saturating_mul(512))
}
