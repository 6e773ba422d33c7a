//! The hosted sparse extent header: 512 bytes, packed, little-endian.
//!
//! Source: VMware "Virtual Disk Format 5.0", section "Hosted Sparse Extent Header".
//!
//! Read: versions 1 to 3, any legal grain and table size, bounds looked at before anything is sized by them.
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

use std::path::Path;

use byteorder::{ByteOrder, LittleEndian};

use super::layout::Layout;
use crate::fault::{Fault, Kind};
use crate::image::SECTOR;

/// Length of the header in bytes.
pub const LEN: usize = 512;
/// The first four bytes.
pub const MAGIC: [u8; 4] = *b"KDMV";

const VERSION: u32 = 1;
const STREAM_VERSION: u32 = 3;
const FLAG_NEWLINES: u32 = 1 << 0;
const FLAG_REDUNDANT: u32 = 1 << 1;
const FLAG_ZEROED_GRAINS: u32 = 1 << 2;
const FLAG_COMPRESSED: u32 = 1 << 16;
const FLAG_MARKERS: u32 = 1 << 17;
/// Flags that a reader must know.
const FLAGS_INCOMPATIBLE: u32 = 0xFFFF_0000;
/// An offset that is not there.
const NONE: u64 = u64::MAX;
/// The last version that is read.
const MAX_VERSION: u32 = 3;
/// The largest grain that is read, in sectors: 1 GiB.
const MAX_GRAIN_SECTORS: u64 = 1 << 21;
const NEWLINES: [u8; 4] = *b"\n \r\n";

/// Field offsets, in the order of the table above.
pub mod at {
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
    pub const UNCLEAN_SHUTDOWN: usize = 72;
    pub const NEWLINES: usize = 73;
    pub const COMPRESS_ALGORITHM: usize = 77;
    /// Behind the last field.
    pub const PAD: usize = 79;
}

/// How an extent's grains are stored, by its flags and its algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// As they are.
    Plain,
    /// Deflated, each behind a marker: streamOptimized.
    Deflated,
    /// The fields contradict each other, or say what nobody writes.
    Unknown {
        /// Flag 16.
        compressed: bool,
        /// Flag 17.
        markers: bool,
        /// The algorithm.
        algorithm: u16,
    },
}

/// A header whose magic, version, flags and sizes are right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SparseHeader {
    /// Sectors of the extent.
    pub capacity: u64,
    /// Sectors in a grain.
    pub grain_sectors: u64,
    /// Sector of the embedded descriptor; 0: none.
    pub descriptor_offset: u64,
    /// Sectors set aside for it.
    pub descriptor_sectors: u64,
    /// Entries in a grain table.
    pub gtes_per_gt: u32,
    /// Sector of the redundant grain directory, where it is in use.
    pub rgd_offset: Option<u64>,
    /// Sector of the grain directory; none: it stands in a footer.
    pub gd_offset: Option<u64>,
    /// Sectors in front of the first grain.
    pub overhead: u64,
    /// Entries of 1 mean zero.
    pub zeroed_grains: bool,
    /// How grains are stored.
    pub grains_are: Stored,
    /// The writer did not come to its end.
    pub unclean_shutdown: bool,
    /// Each table has its marker in front (known of streams whose directory has one).
    pub marked_tables: bool,
    /// Sectors from here on were never written (COWD).
    pub free_sector: Option<u64>,
}

/// Sector and sectors of the embedded descriptor, as the header of a sparse extent says; whatever else stands there.
pub fn descriptor_area(raw: &[u8; LEN]) -> (u64, u64) {
    let field = |at: usize| raw.get(at..).map(LittleEndian::read_u64).unwrap_or_default();
    (field(at::DESCRIPTOR_OFFSET), field(at::DESCRIPTOR_SIZE))
}

/// True where a header has a descriptor, and neither capacity nor directories: then it is but a wrapping, and the descriptor names the
/// extents (QEMU).
pub fn is_wrapping(raw: &[u8; LEN]) -> bool {
    let none = |at: usize| raw.get(at..).map(LittleEndian::read_u64) == Some(0);
    none(at::CAPACITY) && none(at::GD_OFFSET) && none(at::RGD_OFFSET) && descriptor_area(raw).0 != 0
}

impl SparseHeader {
    /// Parses and verifies; the header is at byte `base` of `file`: 0, or where a footer stands.
    pub fn parse(raw: &[u8; LEN], file: &Path, base: u64) -> Result<SparseHeader, Fault> {
        let u32_at = |at: usize| raw.get(at..).map(LittleEndian::read_u32).unwrap_or_default();
        let u64_at = |at: usize| raw.get(at..).map(LittleEndian::read_u64).unwrap_or_default();
        let fault = |kind, at: usize, what: &'static str| Fault::new(kind, file, what).at(base + at as u64);
        if raw[..4] != MAGIC {
            return Err(fault(Kind::Damaged, at::MAGIC, "VMDK sparse extent magic")
                .found(raw[..4].escape_ascii())
                .expected("KDMV"));
        }
        let (version, flags) = (u32_at(at::VERSION), u32_at(at::FLAGS));
        if version == 0 || version > MAX_VERSION {
            return Err(fault(Kind::Unsupported, at::VERSION, "VMDK sparse extent version")
                .found(version)
                .expected("1, 2 or 3"));
        }
        if flags & FLAGS_INCOMPATIBLE & !(FLAG_COMPRESSED | FLAG_MARKERS) != 0 {
            return Err(fault(Kind::Unsupported, at::FLAGS, "VMDK sparse extent flags").found(format!("{flags:#010x}")));
        }
        if flags & FLAG_NEWLINES != 0 && raw[at::NEWLINES..at::NEWLINES + 4] != NEWLINES {
            return Err(fault(Kind::Damaged, at::NEWLINES, "the file was changed by a transfer as text")
                .found(raw[at::NEWLINES..at::NEWLINES + 4].escape_ascii())
                .expected(NEWLINES.escape_ascii())
                .advice("transfer it again, as binary"));
        }
        let (capacity, grain_sectors) = (u64_at(at::CAPACITY), u64_at(at::GRAIN_SIZE));
        if !grain_sectors.is_power_of_two() || grain_sectors > MAX_GRAIN_SECTORS {
            return Err(fault(Kind::Damaged, at::GRAIN_SIZE, "VMDK grain size")
                .found(format!("{grain_sectors} sectors"))
                .expected(format!("a power of two up to {MAX_GRAIN_SECTORS}")));
        }
        let gtes_per_gt = u32_at(at::GTES_PER_GT);
        if !gtes_per_gt.is_power_of_two() || !(128..=4096).contains(&gtes_per_gt) {
            return Err(fault(Kind::Damaged, at::GTES_PER_GT, "VMDK grain table entries")
                .found(gtes_per_gt)
                .expected("a power of two from 128 to 4096"));
        }
        if capacity > i64::MAX as u64 / SECTOR {
            return Err(
                fault(Kind::OverLimit, at::CAPACITY, "VMDK extent capacity").found(format!("{capacity} sectors"))
            );
        }
        let there = |offset: u64| (offset != NONE && offset != 0).then_some(offset);
        Ok(SparseHeader {
            capacity,
            grain_sectors,
            descriptor_offset: u64_at(at::DESCRIPTOR_OFFSET),
            descriptor_sectors: u64_at(at::DESCRIPTOR_SIZE),
            gtes_per_gt,
            rgd_offset: there(u64_at(at::RGD_OFFSET)).filter(|_| flags & FLAG_REDUNDANT != 0),
            gd_offset: there(u64_at(at::GD_OFFSET)),
            overhead: u64_at(at::OVERHEAD),
            zeroed_grains: flags & FLAG_ZEROED_GRAINS != 0 || version >= 2,
            grains_are: match (
                flags & FLAG_COMPRESSED != 0,
                flags & FLAG_MARKERS != 0,
                LittleEndian::read_u16(&raw[at::COMPRESS_ALGORITHM..]),
            ) {
                (false, false, 0) => Stored::Plain,
                (true, true, 1) => Stored::Deflated,
                (compressed, markers, algorithm) => Stored::Unknown { compressed, markers, algorithm },
            },
            unclean_shutdown: raw[at::UNCLEAN_SHUTDOWN] != 0,
            marked_tables: false,
            free_sector: None,
        })
    }

    /// Do header and footer of a stream lay out the same grains and tables? Where these are, and of how large a disk, they may say each in
    /// its own way.
    pub fn lays_out_as(&self, other: &SparseHeader) -> bool {
        self.grain_sectors == other.grain_sectors
            && self.gtes_per_gt == other.gtes_per_gt
            && self.zeroed_grains == other.zeroed_grains
            && self.grains_are == other.grains_are
    }

    /// Grains of the extent.
    pub fn grains(&self) -> u64 {
        self.capacity.div_ceil(self.grain_sectors)
    }

    /// Grain tables of the extent.
    pub fn tables(&self) -> u64 {
        self.grains().div_ceil(self.gtes_per_gt.into())
    }

    /// Entries of a table that the extent needs: the last one has what is left of the grains.
    pub fn entries_of(&self, table: u64) -> u64 {
        let per_table = u64::from(self.gtes_per_gt);
        self.grains().saturating_sub(table.saturating_mul(per_table)).min(per_table)
    }

    /// Sectors of a grain table.
    pub fn gt_sectors(&self) -> u64 {
        u64::from(self.gtes_per_gt) * 4 / SECTOR
    }

    /// Sectors of a grain directory.
    pub fn gd_sectors(&self) -> u64 {
        (self.tables() * 4).div_ceil(SECTOR)
    }
}

/// The header of a streamOptimized extent of `capacity` sectors, or its footer: `gd_offset` is the sector of the directory, all ones in
/// the header, where that is not known yet. ESXi takes version 3 only.
pub fn stream_to_bytes(capacity: u64, gd_offset: u64, overhead: u64) -> [u8; LEN] {
    let mut raw = [0; LEN];
    raw[at::MAGIC..at::MAGIC + 4].copy_from_slice(&MAGIC);
    LittleEndian::write_u32(&mut raw[at::VERSION..], STREAM_VERSION);
    LittleEndian::write_u32(&mut raw[at::FLAGS..], FLAG_NEWLINES | FLAG_COMPRESSED | FLAG_MARKERS);
    LittleEndian::write_u64(&mut raw[at::CAPACITY..], capacity);
    LittleEndian::write_u64(&mut raw[at::GRAIN_SIZE..], super::layout::GRAIN_SECTORS);
    LittleEndian::write_u64(&mut raw[at::DESCRIPTOR_OFFSET..], super::layout::DESCRIPTOR_OFFSET);
    LittleEndian::write_u64(&mut raw[at::DESCRIPTOR_SIZE..], super::layout::DESCRIPTOR_SECTORS);
    LittleEndian::write_u32(&mut raw[at::GTES_PER_GT..], super::layout::GTES_PER_GT);
    LittleEndian::write_u64(&mut raw[at::GD_OFFSET..], gd_offset);
    LittleEndian::write_u64(&mut raw[at::OVERHEAD..], overhead);
    raw[at::NEWLINES..at::NEWLINES + 4].copy_from_slice(&NEWLINES);
    raw[at::COMPRESS_ALGORITHM] = 1;
    raw
}

/// The header of an extent of this layout.
pub fn to_bytes(layout: &Layout) -> [u8; LEN] {
    let mut raw = [0; LEN];
    raw[at::MAGIC..at::MAGIC + 4].copy_from_slice(&MAGIC);
    LittleEndian::write_u32(&mut raw[at::VERSION..], VERSION);
    LittleEndian::write_u32(&mut raw[at::FLAGS..], FLAG_NEWLINES | FLAG_REDUNDANT);
    LittleEndian::write_u64(&mut raw[at::CAPACITY..], layout.capacity);
    LittleEndian::write_u64(&mut raw[at::GRAIN_SIZE..], layout.grain_sectors);
    if layout.descriptor_sectors > 0 {
        LittleEndian::write_u64(&mut raw[at::DESCRIPTOR_OFFSET..], super::layout::DESCRIPTOR_OFFSET);
        LittleEndian::write_u64(&mut raw[at::DESCRIPTOR_SIZE..], layout.descriptor_sectors);
    }
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
        assert_eq!(to_bytes(&Layout::new(204_836, 128, true)).as_slice(), want);
    }
}
