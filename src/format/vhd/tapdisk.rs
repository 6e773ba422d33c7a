//! What XenServer's tapdisk does differently: a map of whole blocks behind the table, encrypted blocks, early bitmaps.
//!
//! Source: blktap, vhd/lib/libvhd.c and include/vhd.h. The batmap's header (512 bytes) stands behind the block allocation table:
//! `tdbatmap`, byte offset of the map (8), its sectors (4), version (4), checksum (4), marker (1), key hash: cookie (1), ...

use std::ops::Range;

use byteorder::{BigEndian, ByteOrder};

use super::footer::Footer;
use crate::fault::{Fault, Kind};
use crate::image::SECTOR;
use crate::io::InputFile;

const COOKIE: [u8; 8] = *b"tdbatmap";
/// The key hash's cookie where there is a key.
const ENCRYPTED: u8 = 1;

/// Field offsets in the batmap's header.
mod at {
    pub const OFFSET: usize = 8;
    pub const SECTORS: usize = 16;
    pub const KEY_COOKIE: usize = 29;
}

/// Refuses what cannot be read rightly, and tells what the batmap takes of the file. The map itself only saves looking at bitmaps.
pub fn look(file: &InputFile, footer: &Footer, table_end: u64, data_end: u64) -> Result<Vec<Range<u64>>, Fault> {
    if !footer.creator_application.starts_with(b"tap") {
        return Ok(Vec::new());
    }
    if footer.creator_version == 1 {
        // libvhd refuses them too: the bits of a byte are in the other order.
        return Err(Fault::new(
            Kind::Unsupported,
            file.name(),
            "written by tapdisk 0.1, whose sector bitmaps cannot be trusted",
        )
        .found("creator version 0.1"));
    }
    let (at, mut raw) = (table_end.next_multiple_of(SECTOR), [0; 512]);
    if at.saturating_add(SECTOR) > data_end {
        return Ok(Vec::new());
    }
    file.read_exact(at, &mut raw)?;
    if !raw.starts_with(&COOKIE) {
        return Ok(Vec::new());
    }
    if raw[at::KEY_COOKIE] == ENCRYPTED {
        return Err(Fault::new(Kind::Unsupported, file.name(), "the blocks are encrypted by XenServer")
            .at(at + at::KEY_COOKIE as u64));
    }
    let map = BigEndian::read_u64(&raw[at::OFFSET..]);
    let len = u64::from(BigEndian::read_u32(&raw[at::SECTORS..])) * SECTOR;
    let map = map..map.saturating_add(len);
    // A map that cannot be is nobody's concern: it is not read.
    Ok([at..at + SECTOR, map].into_iter().filter(|span| span.start >= table_end && span.end <= data_end).collect())
}
