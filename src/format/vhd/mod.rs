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
mod footer;
mod header;
mod locate;
mod locator;
mod parent;
mod reader;
mod tapdisk;

use super::Format;

/// The entry in `FORMATS`.
pub const FORMAT: Format = Format {
    name: "vhd",
    title: "VHD",
    output_endings: &[],
    recognise: |probe| reader::recognise(probe.file),
    stray: None,
    open: Some(reader::open),
    subformats: &[],
};
