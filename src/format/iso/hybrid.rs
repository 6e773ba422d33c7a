//! What makes a disk of an optical image: an MBR in its system area.
//!
//! Source: UEFI specification, chapter 5.

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
