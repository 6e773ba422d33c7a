//! What stands where in a stream, by its markers: a second witness of where the grains are.
//!
//! ```text
//! grain marker    | lba: first sector of the grain (8) | size: bytes of the zlib stream (4) | the stream, padded to a sector |
//! metadata marker | sectors that follow (8) | 0 (4) | type: 0 end, 1 table, 2 directory, 3 footer (4) | zero to the sector's end |
//! ```
//!
//! Source: VMware "Virtual Disk Format 5.0", section "Stream-Optimized Compressed Sparse Extents".

use byteorder::{ByteOrder, LittleEndian};

use super::header::SparseHeader;
use crate::fault::Fault;
use crate::image::SECTOR;
use crate::io::InputFile;

/// Type of the marker in front of a grain table.
pub const TABLE: u32 = 1;
/// Type of the marker in front of the grain directory.
pub const DIRECTORY: u32 = 2;
/// Type of the marker in front of the footer.
pub const FOOTER: u32 = 3;
/// Bytes of a grain's marker in front of its stream.
pub const GRAIN_MARKER: u64 = 12;

/// What begins at a sector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item {
    /// A grain of the extent's sector `lba`; the next item is at sector `next`.
    Grain {
        /// First sector of the grain.
        lba: u64,
        /// Sector of the next item.
        next: u64,
    },
    /// A table, a directory, a footer or something that nobody documented; the next item is at sector `next`.
    Metadata {
        /// Sector of the next item.
        next: u64,
    },
    /// The end of the stream, or of the file, or nothing that a marker begins.
    End,
}

/// The item at `sector` of a stream with this header.
pub fn item_at(file: &InputFile, sector: u64, header: &SparseHeader) -> Result<Item, Fault> {
    let mut raw = [0; 16];
    let Some(at) = sector.checked_mul(SECTOR) else { return Ok(Item::End) };
    if file.read_up_to(at, &mut raw)? < raw.len() {
        return Ok(Item::End);
    }
    let (first, size, kind) =
        (LittleEndian::read_u64(&raw), LittleEndian::read_u32(&raw[8..]), LittleEndian::read_u32(&raw[12..]));
    if size != 0 {
        let next = sector.saturating_add((GRAIN_MARKER + u64::from(size)).div_ceil(SECTOR));
        return Ok(Item::Grain { lba: first, next });
    }
    // Some writers leave the count out.
    let follows = match (first, kind) {
        (0, 0) => return Ok(Item::End),
        (0, TABLE) => header.gt_sectors(),
        (0, DIRECTORY) => header.gd_sectors(),
        (0, FOOTER) => 1,
        (count, _) => count,
    };
    Ok(Item::Metadata { next: sector.saturating_add(1).saturating_add(follows) })
}

/// The type of the metadata marker in the sector in front of `sector`; `None`: there is no marker.
pub fn in_front_of(file: &InputFile, sector: u64) -> Result<Option<u32>, Fault> {
    let Some(at) = sector.checked_sub(1).and_then(|sector| sector.checked_mul(SECTOR)) else { return Ok(None) };
    let mut raw = [0; 16];
    let got = file.read_up_to(at, &mut raw)?;
    let kind = LittleEndian::read_u32(&raw[12..]);
    Ok((got == raw.len() && LittleEndian::read_u32(&raw[8..]) == 0 && kind != 0).then_some(kind))
}
