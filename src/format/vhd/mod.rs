//! VHD, version 1: Virtual PC, Virtual Server, Hyper-V, Azure, XenServer, VirtualBox, QEMU.
//!
//! ```text
//! fixed     | data: current size bytes                                        | footer |
//! dynamic   | footer copy | dynamic header | block allocation table | blocks…   | footer |
//!             0             512              1536 by habit                       last 512 bytes
//! a block   | sector bitmap, padded to a sector | guest data: block size bytes |
//! ```
//!
//! All integers are big-endian; a sector is 512 bytes. What is accepted: all kinds by every creator, any legal block size, footers of
//! 511 bytes, one of two footers damaged or lost, something appended behind the footer. What is refused by name: disks disabled or
//! encrypted by XenServer, parents that are not what the child was made on, tables and blocks that overlap or lie outside the file.
//!
//! A clear bit of a dynamic disk's bitmap reads as zero, as the specification says (VirtualBox, tapdisk and libvhdi agree; QEMU
//! returns the stale bytes). The disk's size is the footer's current size, never the product of the geometry.

mod bat;
mod blocks;
mod check;
mod dynamic;
mod fixed;
mod footer;
mod geometry;
mod header;
mod locate;
mod locator;
mod parent;
mod reader;
mod tapdisk;
mod unnamed;

use std::path::Path;

use super::{Format, Records, Subformat, Takes};
use crate::fault::{Fault, Kind};
use crate::image::{Facts, LOGICAL_SECTOR};

/// The entry in `FORMATS`.
pub const FORMAT: Format = Format {
    name: "vhd",
    title: "VHD",
    output_endings: &["vhd"],
    recognise: |probe| reader::recognise(probe.file),
    stray: None,
    pieces: None,
    named_beside: None,
    open: Some(reader::open),
    check: Some(check::CHECKER),
    open_stream: None,
    records: &[Records::Uuid],
    subformats: &[
        Subformat {
            name: "dynamic",
            short: "dynamic",
            takes: &[Takes::Contiguous, Takes::BlockSize],
            writer: dynamic::dynamic,
        },
        Subformat {
            name: "fixed",
            short: "fixed",
            takes: &[Takes::Preallocate, Takes::Pipe, Takes::OpenEnd { most: MAX_SIZE }],
            writer: fixed::writer,
        },
        Subformat {
            name: "differencing",
            short: "differencing",
            takes: &[Takes::Base, Takes::Contiguous, Takes::BlockSize],
            writer: dynamic::differencing,
        },
    ],
};

/// Are the last 512 bytes of a file a footer, by their cookie?
pub fn ends_in_footer(file: &crate::io::InputFile) -> bool {
    let mut cookie = footer::COOKIE.map(|_| 0);
    let at = file.len().checked_sub(footer::LEN as u64);
    at.is_some_and(|at| file.read_exact(at, &mut cookie).is_ok()) && cookie == footer::COOKIE
}

/// The largest disk, in bytes: 2040 GiB. Entries of the block allocation table are 32-bit sectors, and Windows takes no larger fixed one.
const MAX_SIZE: u64 = 2040 << 30;

/// R20: sizes beyond the format's, and sectors that it cannot record.
fn refuse_what_cannot_be_held(facts: &Facts, output: &Path) -> Result<(), Fault> {
    if facts.logical_sector_size != LOGICAL_SECTOR {
        return Err(Fault::new(Kind::OverLimit, output, "a VHD's sectors are 512 bytes")
            .found(format!("a disk of {}-byte sectors", facts.logical_sector_size))
            .advice("a guest would see an empty disk; a raw output keeps the bytes"));
    }
    match facts.virtual_size > MAX_SIZE {
        true => Err(Fault::new(Kind::OverLimit, output, "a VHD holds 2040 GiB at most")
            .found(format!("{} bytes", facts.virtual_size))
            .advice(
                "VHDX holds it, which this version does not write; -O vmdk -s monolithicFlat and raw disks do too",
            )),
        false => Ok(()),
    }
}

/// Is this the sound footer of a fixed disk of `size` bytes?
pub fn is_fixed_footer(raw: &[u8; footer::LEN], size: u64) -> bool {
    footer::looks_fixed_at(raw, size) && footer::Footer::parse(raw, Path::new(""), size).is_ok()
}
