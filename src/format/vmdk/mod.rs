//! VMDK: VMware, VirtualBox, QEMU and many others. Written, not yet read.
//!
//! ```text
//! monolithicSparse | header | descriptor | redundant directory, its tables | directory, its tables | grains… |
//!                    1 sector 20 sectors                                                            whole grains of 64 KiB
//! monolithicFlat   | X.vmdk: descriptor |   | X-flat.vmdk: the guest's bytes in a row |
//! ```
//!
//! All integers are little-endian; a sector is 512 bytes, offsets in files are in sectors. Sources: VMware, "Virtual Disk Format 5.0"
//! (2011), and what the products' own files look like.

mod descriptor;
mod flat;
mod header;
mod layout;
mod sparse;

use super::{Format, Probe, Subformat};
use crate::fault::{Fault, Kind};
use crate::image::{Facts, LOGICAL_SECTOR, SECTOR};

/// The entry in `FORMATS`.
pub const FORMAT: Format = Format {
    name: "vmdk",
    title: "VMDK",
    output_endings: &["vmdk"],
    recognise: |probe| Ok(recognise(probe)),
    open: None,
    subformats: &[
        Subformat { name: "monolithicSparse", short: "sparse", writer: sparse::writer },
        Subformat { name: "monolithicFlat", short: "flat", writer: flat::writer },
    ],
};

/// The magic of an ESXi seSparse extent, little-endian.
const SESPARSE_MAGIC: [u8; 8] = [0xBE, 0xBA, 0xFE, 0xCA, 0, 0, 0, 0];

/// A hosted sparse, COWD or seSparse extent, or a descriptor: a text that names a createType or an extent.
fn recognise(probe: &Probe<'_>) -> bool {
    let head = probe.head;
    if head.starts_with(&header::MAGIC) || head.starts_with(b"COWD") || head.starts_with(&SESPARSE_MAGIC) {
        return true;
    }
    let text = String::from_utf8_lossy(head.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(head)).to_ascii_lowercase();
    let mut lines = text.split(['\n', '\r']).map(str::trim).filter(|line| !line.is_empty());
    let Some(first) = lines.clone().next() else { return false };
    let extent = |line: &str| ["rw ", "rdonly ", "noaccess "].iter().any(|access| line.starts_with(access));
    (first.starts_with('#') || first.contains('=')) && lines.any(|line| line.starts_with("createtype") || extent(line))
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
