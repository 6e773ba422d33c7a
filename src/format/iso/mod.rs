//! ISO 9660 and UDF images of optical discs: read as the disks that they are, byte for byte.
//!
//! ```text
//! | system area: 32 KiB, free for an MBR or a GPT | volume descriptors, 2,048 bytes each | files … |
//! ```
//!
//! An image shorter than its volume says was cut off by a download, and is refused: what is missing is the end of its files. One that
//! is longer is fine: tools append padding, partitions and signatures without touching the descriptors. Written as a raw disk.
//!
//! Sources: ECMA-119 (ISO 9660), ECMA-167 (UDF), "El Torito" 1.0, and what xorriso, mkisofs and isohybrid write.

mod check;
mod hybrid;
mod media_md5;
mod reader;
mod udf;
mod volume;

use super::Format;

/// The entry in `FORMATS`.
pub const FORMAT: Format = Format {
    name: "iso",
    title: "ISO image",
    output_endings: &[],
    recognise: |probe| Ok(volume::is_one(probe.head)),
    stray: None,
    pieces: None,
    named_beside: None,
    open: Some(reader::open),
    check: Some(check::CHECKER),
    open_stream: None,
    records: &[],
    subformats: &[],
};
