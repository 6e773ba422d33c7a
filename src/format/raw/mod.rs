//! Raw disks: the guest's bytes from byte 0, nothing else. ISO images are read and written as such.

mod reader;
mod writer;

use super::{Format, Subformat};

/// The entry in `FORMATS`.
pub const FORMAT: Format = Format {
    name: "raw",
    title: "raw disk",
    input_endings: &["raw", "img", "dd", "bin", "iso"],
    output_endings: &["raw", "img", "iso"],
    recognise: |_| Ok(false),
    open: Some(reader::open),
    subformats: &[Subformat { name: "", short: "", writer: writer::writer }],
};
