//! What makes a disk of an optical image: an MBR in its system area.
//!
//! Source: UEFI specification, chapter 5.

/// Offset of the MBR's four entries.
pub const ENTRIES: usize = 446;
/// Bytes of an entry.
pub const ENTRY: usize = 16;
/// Offset of the boot signature.
pub const SIGNATURE: usize = 510;

/// Does the first sector make a disk of the image: the boot signature, and an entry that is not empty?
pub fn is_hybrid(head: &[u8]) -> bool {
    head.get(SIGNATURE..512) == Some(&[0x55, 0xAA])
        && head
            .get(ENTRIES..SIGNATURE)
            .is_some_and(|table| table.chunks_exact(ENTRY).any(|entry| entry.iter().skip(4).any(|byte| *byte != 0)))
}
