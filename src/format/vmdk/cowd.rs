//! COWD: the redo log of ESX, extents of type VMFSSPARSE.
//!
//! Source: VMware "Virtual Disk Format 5.0", section "ESX Server Sparse Extents", and libvmdk's documentation. Little-endian.
//!
//! | offset | bytes | field        | reading                                               |
//! |-------:|------:|--------------|-------------------------------------------------------|
//! |      0 |     4 | magic        | `COWD`                                                |
//! |      4 |     4 | version      | 1                                                     |
//! |     12 |     4 | numSectors   | capacity                                              |
//! |     16 |     4 | grainSize    | sectors, 1 in practice                                |
//! |     20 |     4 | gdOffset     | sector of the grain directory                         |
//! |     24 |     4 | numGDEntries | at least the tables of the disk                       |
//! |     28 |     4 | freeSector   | the next free one: not behind the file's end          |
//!
//! A table has 4,096 entries whatever the grain; there is no copy. Entry 0: ask the parent; 1: zero.

use byteorder::{ByteOrder, LittleEndian};

use super::header::{SparseHeader, Stored};
use crate::fault::{Fault, Kind};
use crate::format::Opening;
use crate::image::SECTOR;
use crate::io::InputFile;

/// The first four bytes.
pub const MAGIC: [u8; 4] = *b"COWD";
/// Bytes of the header.
const LEN: usize = 2048;
/// Entries in a table.
const GTES_PER_GT: u32 = 4096;
/// The largest grain, in sectors: 1 MiB.
const MAX_GRAIN_SECTORS: u32 = 2048;

/// Field offsets, in the order of the table above.
mod at {
    pub const VERSION: usize = 4;
    pub const NUM_SECTORS: usize = 12;
    pub const GRAIN_SIZE: usize = 16;
    pub const GD_OFFSET: usize = 20;
    pub const NUM_GD_ENTRIES: usize = 24;
    pub const FREE_SECTOR: usize = 28;
}

/// Reads and verifies the header, as that of an extent with one directory.
pub fn read(file: &InputFile, opening: &Opening<'_>) -> Result<SparseHeader, Fault> {
    let mut raw = [0; LEN];
    let got = file.read_up_to(0, &mut raw)?;
    if got < LEN {
        return Err(Fault::damaged(file.name(), got as u64, "the COWD extent is cut short within its header"));
    }
    let field = |at: usize| raw.get(at..).map(LittleEndian::read_u32).unwrap_or_default();
    let damaged = |at: usize, what: &'static str| Fault::damaged(file.name(), at as u64, what).found(field(at));
    if !raw.starts_with(&MAGIC) {
        return Err(Fault::damaged(file.name(), 0, "COWD extent magic")
            .found(raw[..4].escape_ascii())
            .expected("COWD"));
    }
    if field(at::VERSION) != 1 {
        return Err(damaged(at::VERSION, "COWD extent version").expected(1).of_kind(Kind::Unsupported));
    }
    let grain = field(at::GRAIN_SIZE);
    if grain == 0 || grain > MAX_GRAIN_SECTORS {
        return Err(damaged(at::GRAIN_SIZE, "COWD grain size").expected(format!("1 to {MAX_GRAIN_SECTORS} sectors")));
    }
    let len_sectors = file.len().div_ceil(SECTOR);
    if u64::from(field(at::FREE_SECTOR)) > len_sectors {
        let cut = damaged(at::FREE_SECTOR, "COWD free sector lies behind the file's end")
            .against(format!("the file has {len_sectors}"));
        // What the tables have behind the end is lost, entry by entry.
        match opening.options.expects_losses() {
            true => opening.ledger.warn(cut),
            false => return Err(cut),
        }
    }
    let gd_offset = u64::from(field(at::GD_OFFSET));
    if gd_offset * SECTOR < LEN as u64 {
        return Err(damaged(at::GD_OFFSET, "COWD grain directory lies in the header"));
    }
    let mut header = SparseHeader {
        capacity: field(at::NUM_SECTORS).into(),
        grain_sectors: grain.into(),
        descriptor_offset: 0,
        descriptor_sectors: 0,
        gtes_per_gt: GTES_PER_GT,
        rgd_offset: None,
        gd_offset: Some(gd_offset),
        overhead: 0,
        zeroed_grains: true,
        grains_are: Stored::Plain,
        unclean_shutdown: false,
        marked_tables: false,
        free_sector: Some(field(at::FREE_SECTOR).into()),
    };
    // Tables and data follow in the order they were needed.
    header.overhead = gd_offset + header.gd_sectors();
    if u64::from(field(at::NUM_GD_ENTRIES)) < header.tables() {
        return Err(damaged(at::NUM_GD_ENTRIES, "COWD grain directory is too small").expected(header.tables()));
    }
    Ok(header)
}
