//! The hosted sparse extent header: 512 bytes, packed, little-endian.
//!
//! Source: VMware "Virtual Disk Format 5.0", section "Hosted Sparse Extent Header".
//!
//! | offset | bytes | field              | writing                                                    |
//! |-------:|------:|--------------------|------------------------------------------------------------|
//! |      0 |     4 | magicNumber        | `KDMV`                                                     |
//! |      4 |     4 | version            | 1                                                          |
//! |      8 |     4 | flags              | 3: newline bytes valid, redundant directory in use         |
//! |     12 |     8 | capacity           | sectors, exact: readers differ on rounded ones             |
//! |     20 |     8 | grainSize          | 128 sectors                                                |
//! |     28 |     8 | descriptorOffset   | sector 1                                                   |
//! |     36 |     8 | descriptorSize     | 20 sectors                                                 |
//! |     44 |     4 | numGTEsPerGT       | 512                                                        |
//! |     48 |     8 | rgdOffset          | sector of the redundant grain directory                    |
//! |     56 |     8 | gdOffset           | sector of the grain directory                              |
//! |     64 |     8 | overHead           | sectors in front of the first grain                        |
//! |     72 |     1 | uncleanShutdown    | 0                                                          |
//! |     73 |     4 | newline characters | `\n`, blank, `\r`, `\n`: damaged by a transfer as text     |
//! |     77 |     2 | compressAlgorithm  | 0                                                          |

use byteorder::{ByteOrder, LittleEndian};

use super::layout::Layout;

/// Length of the header in bytes.
pub const LEN: usize = 512;
/// The first four bytes.
pub const MAGIC: [u8; 4] = *b"KDMV";

const VERSION: u32 = 1;
const FLAG_NEWLINES: u32 = 1 << 0;
const FLAG_REDUNDANT: u32 = 1 << 1;
const NEWLINES: [u8; 4] = *b"\n \r\n";

/// Field offsets, in the order of the table above.
mod at {
    pub const MAGIC: usize = 0;
    pub const VERSION: usize = 4;
    pub const FLAGS: usize = 8;
    pub const CAPACITY: usize = 12;
    pub const GRAIN_SIZE: usize = 20;
    pub const DESCRIPTOR_OFFSET: usize = 28;
    pub const DESCRIPTOR_SIZE: usize = 36;
    pub const GTES_PER_GT: usize = 44;
    pub const RGD_OFFSET: usize = 48;
    pub const GD_OFFSET: usize = 56;
    pub const OVERHEAD: usize = 64;
    pub const NEWLINES: usize = 73;
}

/// The header of an extent of this layout.
pub fn to_bytes(layout: &Layout) -> [u8; LEN] {
    let mut raw = [0; LEN];
    raw[at::MAGIC..at::MAGIC + 4].copy_from_slice(&MAGIC);
    LittleEndian::write_u32(&mut raw[at::VERSION..], VERSION);
    LittleEndian::write_u32(&mut raw[at::FLAGS..], FLAG_NEWLINES | FLAG_REDUNDANT);
    LittleEndian::write_u64(&mut raw[at::CAPACITY..], layout.capacity);
    LittleEndian::write_u64(&mut raw[at::GRAIN_SIZE..], super::layout::GRAIN_SECTORS);
    LittleEndian::write_u64(&mut raw[at::DESCRIPTOR_OFFSET..], super::layout::DESCRIPTOR_OFFSET);
    LittleEndian::write_u64(&mut raw[at::DESCRIPTOR_SIZE..], super::layout::DESCRIPTOR_SECTORS);
    LittleEndian::write_u32(&mut raw[at::GTES_PER_GT..], super::layout::GTES_PER_GT);
    LittleEndian::write_u64(&mut raw[at::RGD_OFFSET..], layout.rgd_offset);
    LittleEndian::write_u64(&mut raw[at::GD_OFFSET..], layout.gd_offset);
    LittleEndian::write_u64(&mut raw[at::OVERHEAD..], layout.overhead);
    raw[at::NEWLINES..at::NEWLINES + 4].copy_from_slice(&NEWLINES);
    raw
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first 96 bytes that qemu-img 10.0.2 wrote for `create -f vmdk x.vmdk 104876032`; the rest of its header is zero.
    #[test]
    fn the_header_of_204836_sectors_is_byte_for_byte_what_qemu_writes() {
        let mut want = vec![
            0x4b, 0x44, 0x4d, 0x56, 0x01, 0x00, 0x00, 0x00, 0x03, 0x00, 0x00, 0x00, 0x24, 0x20, 0x03, 0x00, //
            0x00, 0x00, 0x00, 0x00, 0x80, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, //
            0x00, 0x00, 0x00, 0x00, 0x14, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, //
            0x15, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x26, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, //
            0x80, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x0a, 0x20, 0x0d, 0x0a, 0x00, 0x00, 0x00,
        ];
        want.resize(512, 0);
        assert_eq!(to_bytes(&Layout::new(204_836)).as_slice(), want);
    }
}
