//! VMDK: VMware, VirtualBox, QEMU and many others.
//!
//! Read: descriptors of every product, hosted sparse extents with both grain directories, flat, VMFS and ZERO extents, split disks,
//! streamOptimized, ESXi's COWD and seSparse, chains of snapshots. Refused by name: raw device mappings, vSAN, encrypted disks, pieces
//! without their descriptor.
//!
//! ```text
//! monolithicSparse | header | descriptor | redundant directory, its tables | directory, its tables | grains… |
//!                    1 sector 20 sectors                                                            whole grains of 64 KiB
//! monolithicFlat   | X.vmdk: descriptor |   | X-flat.vmdk: the guest's bytes in a row |
//! ```
//!
//! All integers are little-endian; a sector is 512 bytes, offsets in files are in sectors. Sources: VMware, "Virtual Disk Format 5.0"
//! (2011), and what the products' own files look like.

mod beside;
mod check;
mod cowd;
mod deflate;
mod described;
mod descriptor;
mod extent;
mod extents;
mod flat;
mod grain_tables;
mod grains;
mod header;
mod image;
mod layout;
mod lock;
mod markers;
mod parent;
mod parse;
mod placed;
mod reader;
mod recorded;
mod sesparse;
mod sparse;
mod split;
mod stream;
mod stream_feed;
mod stream_markers;
mod stream_optimized;

use super::{Format, Probe, Records, Subformat, Takes};
use crate::fault::{Fault, Kind};
use crate::image::{Facts, LOGICAL_SECTOR, SECTOR};

/// The entry in `FORMATS`.
pub const FORMAT: Format = Format {
    name: "vmdk",
    title: "VMDK",
    output_endings: &["vmdk"],
    recognise: |probe| Ok(recognise(probe)),
    stray: Some(beside::stray),
    pieces: Some(beside::pieces),
    named_beside: Some(beside::named),
    open: Some(reader::open),
    check: Some(check::CHECKER),
    open_stream: Some(|pipe, _| stream_feed::open(pipe)),
    records: &[Records::Adapter, Records::Uuid, Records::Cid, Records::HwVersion],
    subformats: &[
        Subformat {
            name: "monolithicSparse",
            short: "sparse",
            takes: &[Takes::Base, Takes::BlockSize],
            writer: sparse::writer,
        },
        Subformat {
            name: "monolithicFlat",
            short: "flat",
            takes: &[Takes::Preallocate, OPEN_END],
            writer: flat::monolithic,
        },
        Subformat {
            name: "twoGbMaxExtentSparse",
            short: "twoGbMaxExtentSparse",
            takes: &[Takes::BlockSize],
            writer: split::sparse,
        },
        Subformat {
            name: "twoGbMaxExtentFlat",
            short: "twoGbMaxExtentFlat",
            takes: &[Takes::Preallocate],
            writer: flat::in_pieces,
        },
        Subformat {
            name: "streamOptimized",
            short: "stream",
            takes: &[Takes::Level, Takes::Pipe],
            writer: stream_optimized::writer,
        },
        Subformat { name: "vmfs", short: "vmfs", takes: &[Takes::Preallocate, OPEN_END], writer: flat::vmfs },
        Subformat { name: "vmfsThin", short: "vmfsThin", takes: &[OPEN_END], writer: flat::vmfs_thin },
    ],
};

/// Flat kinds of one extent need not know the size before the end; 62 TiB is the most that vSphere takes.
const OPEN_END: Takes = Takes::OpenEnd { most: 62 << 40 };

/// VMDK, where a stream begins as one.
pub fn in_stream(head: &[u8]) -> Option<&'static Format> {
    head.starts_with(&header::MAGIC).then_some(&FORMAT)
}

/// A hosted sparse, COWD or seSparse extent, or a descriptor: a text that names a createType or an extent.
fn recognise(probe: &Probe<'_>) -> bool {
    let head = probe.head;
    if head.starts_with(&header::MAGIC) || head.starts_with(&cowd::MAGIC) || head.starts_with(&sesparse::MAGIC) {
        return true;
    }
    // A text that names its type or an extent.
    let text = head.split(|byte| *byte == 0).next().unwrap_or_default();
    parse::printable(head) && parse::Parsed::parse(text, probe.file.name(), 0).map_or(true, |parsed| parsed.is_one())
}

/// The capacity in sectors, where a VMDK can hold the disk at all.
fn capacity(facts: &Facts, output: &std::path::Path) -> Result<u64, Fault> {
    if facts.logical_sector_size != LOGICAL_SECTOR {
        return Err(Fault::new(Kind::OverLimit, output, "a VMDK's sectors are 512 bytes")
            .found(format!("a disk of {}-byte sectors", facts.logical_sector_size))
            .advice("a guest would see an empty disk; a raw output keeps the bytes"));
    }
    Ok(facts.virtual_size.div_ceil(SECTOR))
}

/// The smallest grain, in bytes: VMware wants more than 8 sectors, and libvmdk refuses 8.
const MIN_GRAIN: u64 = 8192;

/// Sectors in a grain: `--block-size`, within what all readers take.
fn grain_sectors(wish: &crate::format::Wish) -> Result<u64, Fault> {
    let Some(bytes) = wish.block_size else { return Ok(layout::GRAIN_SECTORS) };
    match bytes.is_power_of_two() && (MIN_GRAIN..=layout::GRAIN).contains(&bytes) {
        true => Ok(bytes / SECTOR),
        false => Err(Fault::new(Kind::Usage, &wish.output, "--block-size: the grain of a VMDK")
            .found(bytes)
            .expected(format!("a power of two from {MIN_GRAIN} to {}", layout::GRAIN))),
    }
}
