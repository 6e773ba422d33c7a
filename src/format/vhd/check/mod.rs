//! Checks a VHD: both footers field by field, the dynamic header, every entry of the table, every sector bitmap, locators, XenServer's
//! batmap, and what lies between them.
//!
//! What of this decides whether the disk can be read is the reader's too, and told with the reader's words; here it goes on behind the
//! first fault.

mod batmap;
mod blocks;
mod footers;
mod gaps;
mod headers;

use std::sync::Arc;

use super::locate::locate;
use crate::fault::Fault;
use crate::format::{Checker, Opening};
use crate::image::{Findings, Rule};
use crate::io::InputFile;

/// The names of what is looked for.
mod id {
    pub const FEATURES: &str = "VHD-FEATURES";
    pub const DATA_OFFSET: &str = "VHD-DATA-OFFSET";
    pub const ORIGINAL_SIZE: &str = "VHD-ORIGINAL-SIZE";
    pub const GEOMETRY: &str = "VHD-GEOMETRY";
    pub const TIME: &str = "VHD-TIME";
    pub const UNIQUE_ID: &str = "VHD-UNIQUE-ID";
    pub const RESERVED: &str = "VHD-RESERVED";
    pub const FOOTER_SHORT: &str = "VHD-FOOTER-SHORT";
    pub const HEADER_DATA_OFFSET: &str = "VHD-HEADER-DATA-OFFSET";
    pub const HEADER_RESERVED: &str = "VHD-HEADER-RESERVED";
    pub const HEADER_PARENT: &str = "VHD-HEADER-PARENT";
    pub const HEADER_COOKIE: &str = "VHD-HEADER-COOKIE";
    pub const HEADER_CHECKSUM: &str = "VHD-HEADER-CHECKSUM";
    pub const HEADER_VERSION: &str = "VHD-HEADER-VERSION";
    pub const BLOCK_SIZE: &str = "VHD-BLOCK-SIZE";
    pub const TABLE_ENTRIES: &str = "VHD-TABLE-ENTRIES";
    pub const TABLE_OFFSET: &str = "VHD-TABLE-OFFSET";
    pub const BAT_MISPLACED: &str = "VHD-BAT-MISPLACED";
    pub const BAT_OUTSIDE: &str = "VHD-BAT-OUTSIDE";
    pub const BLOCK_CUT: &str = "VHD-BLOCK-CUT";
    pub const BAT_OVERLAP: &str = "VHD-BAT-OVERLAP";
    pub const BAT_SURPLUS: &str = "VHD-BAT-SURPLUS";
    pub const BITMAP_STALE: &str = "VHD-BITMAP-STALE";
    pub const BITMAP_UNWRITTEN: &str = "VHD-BITMAP-UNWRITTEN";
    pub const UNREFERENCED: &str = "VHD-UNREFERENCED";
    pub const TABLE_PADDING: &str = "VHD-TABLE-PADDING";
    pub const ALIGNMENT: &str = "VHD-ALIGNMENT";
    pub const BITMAP_BEHIND_END: &str = "VHD-BITMAP-BEHIND-END";
    pub const BATMAP: &str = "VHD-BATMAP";
    pub const LOCATOR: &str = "VHD-LOCATOR";
    pub const PARENT_NAMES: &str = "VHD-PARENT-NAMES";
}

const RULES: &[Rule] = &[
    Rule::told_as(
        "VHD-FOOTER-MISSING",
        &[
            "the VHD footer at the end is missing",
            "the copy of the VHD footer is missing",
            "the VHD footer is cut short",
            "a VHD that lost both its footers: its dynamic header is there",
        ],
    ),
    Rule::told_as("VHD-FOOTER-COOKIE", &["VHD footer cookie"]),
    Rule::told_as("VHD-FOOTER-CHECKSUM", &["VHD footer checksum"]),
    Rule::told_as("VHD-FOOTERS-DIFFER", &["the two VHD footers differ", "the footer at the end is another disk's"]),
    Rule::told_as("VHD-FOOTER-DOUBTFUL", &["dynamic VHD footer *"]),
    Rule::new(id::FOOTER_SHORT),
    Rule::told_as("VHD-APPENDED", &["something was appended to the VHD"]),
    Rule::told_as("VHD-DISABLED", &["VHD disabled by XenServer"]),
    Rule::new(id::FEATURES),
    Rule::told_as("VHD-VERSION", &["VHD file format version"]),
    Rule::told_as("VHD-TYPE", &["VHD disk type"]),
    Rule::told_as(
        "VHD-FIXED-SIZE",
        &["the fixed VHD is cut short", "fixed VHD footer whose size is not its own place"],
    ),
    Rule::told_as(id::DATA_OFFSET, &["VHD dynamic header lies outside the file"]),
    Rule::told_as(
        "VHD-SIZE",
        &["VHD current size", "VHD current size is no whole number of sectors", "the disk has no sectors"],
    ),
    Rule::new(id::ORIGINAL_SIZE),
    Rule::new(id::GEOMETRY),
    Rule::new(id::TIME),
    Rule::new(id::UNIQUE_ID),
    Rule::told_as("VHD-SAVED-STATE", &["a saved machine state belongs to this disk"]),
    Rule::new(id::RESERVED),
    Rule::told_as(id::HEADER_COOKIE, &["VHD dynamic header cookie"]),
    Rule::told_as(id::HEADER_CHECKSUM, &["VHD dynamic header checksum"]),
    Rule::told_as(id::HEADER_VERSION, &["VHD dynamic header version"]),
    Rule::new(id::HEADER_DATA_OFFSET),
    Rule::new(id::HEADER_RESERVED),
    Rule::new(id::HEADER_PARENT),
    Rule::told_as(id::BLOCK_SIZE, &["VHD block size"]),
    Rule::told_as(id::TABLE_ENTRIES, &["VHD max table entries"]),
    Rule::told_as(
        id::TABLE_OFFSET,
        &["VHD block allocation table lies outside the file", "VHD block allocation table overlaps another structure"],
    ),
    Rule::told_as(
        id::BAT_MISPLACED,
        &["VHD block lies over another structure", "VHD block lies over a structure that is not needed"],
    ),
    Rule::told_as(id::BAT_OUTSIDE, &["VHD block lies outside the file"]),
    Rule::told_as(
        id::BLOCK_CUT,
        &["VHD block is cut by the end of the file", "the last VHD block is cut behind the disk's end"],
    ),
    Rule::told_as(
        id::BAT_OVERLAP,
        &["VHD block lies where another block lies", "more VHD blocks lie on each other than are kept apart"],
    ),
    Rule::new(id::BAT_SURPLUS),
    Rule::new(id::BITMAP_STALE),
    Rule::told_as(id::BITMAP_UNWRITTEN, &["VHD sector bitmap is all clear over data: was it never written?"]),
    Rule::told_as(id::UNREFERENCED, &["the VHD holds data where no entry of its table leads*"]),
    Rule::new(id::TABLE_PADDING),
    Rule::new(id::ALIGNMENT),
    Rule::new(id::BITMAP_BEHIND_END),
    Rule::new(id::BATMAP),
    Rule::told_as(id::LOCATOR, &["VHD parent locator*"]),
    Rule::told_as(
        "VHD-PARENT-MISSING",
        &["the parent of this differencing VHD is not there", "the parent of a VHD is a VHD or a raw disk"],
    ),
    Rule::told_as("VHD-PARENT-ID", &["this is not the disk that the differencing VHD was made on"]),
    Rule::told_as("VHD-PARENT-TIME", &["the parent was written to since the differencing VHD was made, or is a copy"]),
    Rule::told_as("VHD-PARENT-SIZE", &["parent and child differ in size"]),
    Rule::new(id::PARENT_NAMES),
    Rule::told_as("VHD-CHAIN", &["the chain of parents leads back to this file"]),
];

/// How VHDs are checked.
pub const CHECKER: Checker = Checker {
    rules: RULES,
    look,
    unpacked: None,
    left_out: &["the VHD block allocation table is too large to look for overlaps to its end"],
};

fn look(opening: &mut Opening<'_>, file: &Arc<InputFile>, findings: &mut Findings) -> Result<(), Fault> {
    // Where no footer can be believed the reader says why.
    let Ok(Some(located)) = locate(file, opening.options.format.is_some()) else { return Ok(()) };
    footers::look(file, &located, findings)?;
    let Some(header) = headers::look(file, &located, findings)? else { return Ok(()) };
    let ignore_bitmaps = opening.options.ignore_bitmaps;
    blocks::Sweep { file, located: &located, header: &header, ignore_bitmaps }.look(findings)
}
