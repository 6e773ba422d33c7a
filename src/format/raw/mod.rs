//! Raw disks: the guest's bytes from byte 0, nothing else. ISO images are read and written as such.

mod check;
mod reader;
mod stream;
mod unsized_stream;
mod writer;

use super::{Format, Subformat, Takes};

/// Endings of names that make a file a raw disk when nothing else is recognised in it.
pub const INPUT_ENDINGS: &[&str] = &["raw", "img", "dd", "bin", "iso"];

/// The most that a raw disk of unknown size may turn out to have: more than any file system holds in a file.
const MOST: u64 = 1 << 62;

/// The entry in `FORMATS`.
pub const FORMAT: Format = Format {
    name: "raw",
    title: "raw disk",
    output_endings: &["raw", "img", "iso"],
    recognise: |_| Ok(false),
    stray: None,
    pieces: None,
    named_beside: None,
    open: Some(reader::open),
    check: Some(check::CHECKER),
    open_stream: Some(stream::open),
    records: &[],
    subformats: &[Subformat {
        name: "",
        short: "",
        takes: &[Takes::Preallocate, Takes::Pipe, Takes::OpenEnd { most: MOST }],
        writer: writer::writer,
    }],
};
