//! Checks a VMDK: the descriptor line by line, each extent's header, both directories, every table entry, what stands in a stream.
//!
//! What of this decides whether the disk can be read is the reader's too, and told with the reader's words; here it goes on behind the
//! first fault.

mod descriptor;
mod header;
mod sesparse;
mod stream;
mod tables;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use super::cowd;
use super::extent::ExtentType;
use super::header::{self as sparse_header, Stored};
use super::parse::Parsed;
use super::stream::{self as reader_stream, FirstGrain, Packing};
use crate::fault::Fault;
use crate::format::{Checker, Opening};
use crate::image::{Findings, Ledger, Rule};
use crate::io::InputFile;

/// The names of what is looked for.
mod id {
    pub const VERSION: &str = "VMDK-VERSION";
    pub const FLAGS: &str = "VMDK-FLAGS";
    pub const NEWLINES: &str = "VMDK-NEWLINES";
    pub const GRAIN_SIZE: &str = "VMDK-GRAIN-SIZE";
    pub const TABLE_SIZE: &str = "VMDK-TABLE-SIZE";
    pub const CAPACITY: &str = "VMDK-CAPACITY";
    pub const ZEROED_GRAINS: &str = "VMDK-ZEROED-GRAINS";
    pub const OVERHEAD: &str = "VMDK-OVERHEAD";
    pub const DIRECTORY: &str = "VMDK-DIRECTORY";
    pub const GDE: &str = "VMDK-GDE";
    pub const GDE_COPY: &str = "VMDK-GDE-COPY";
    pub const GTE: &str = "VMDK-GTE";
    pub const GTE_OVERLAP: &str = "VMDK-GTE-OVERLAP";
    pub const GTE_UNALIGNED: &str = "VMDK-GTE-UNALIGNED";
    pub const GTE_SURPLUS: &str = "VMDK-GTE-SURPLUS";
    pub const GRAIN_CUT: &str = "VMDK-GRAIN-CUT";
    pub const TABLES_DIFFER: &str = "VMDK-TABLES-DIFFER";
    pub const UNREFERENCED: &str = "VMDK-UNREFERENCED";
    pub const FOOTER_DIFFERS: &str = "VMDK-FOOTER-DIFFERS";
    pub const STREAM_VERSION: &str = "VMDK-STREAM-VERSION";
    pub const STREAM_ORDER: &str = "VMDK-STREAM-ORDER";
    pub const STREAM_END: &str = "VMDK-STREAM-END";
    pub const MARKER: &str = "VMDK-MARKER";
    pub const GRAIN_SHORT: &str = "VMDK-GRAIN-SHORT";
    pub const GRAIN_TRAILING: &str = "VMDK-GRAIN-TRAILING";
    pub const CREATE_TYPE: &str = "VMDK-CREATE-TYPE";
    pub const FIRST_LINE: &str = "VMDK-FIRST-LINE";
    pub const LINE_ORDER: &str = "VMDK-LINE-ORDER";
    pub const CID: &str = "VMDK-CID";
    pub const LONG_CONTENT_ID: &str = "VMDK-LONG-CONTENT-ID";
    pub const GEOMETRY: &str = "VMDK-GEOMETRY";
    pub const ENCODING: &str = "VMDK-ENCODING";
    pub const DESCRIPTOR_AREA: &str = "VMDK-DESCRIPTOR-AREA";
    pub const COWD_FLAGS: &str = "VMDK-COWD-FLAGS";
    pub const COWD_DIRECTORY: &str = "VMDK-COWD-DIRECTORY";
    pub const SE_HEADER: &str = "VMDK-SE-HEADER";
    pub const SE_GDE: &str = "VMDK-SE-GDE";
    pub const SE_GTE: &str = "VMDK-SE-GTE";
    pub const SE_OVERLAP: &str = "VMDK-SE-OVERLAP";
}

const RULES: &[Rule] = &[
    Rule::told_as("VMDK-MAGIC", &["VMDK sparse extent magic", "COWD extent magic", "seSparse extent magic"]),
    Rule::told_as(
        id::VERSION,
        &["VMDK sparse extent version", "COWD extent version", "seSparse extent version", "VMDK descriptor version"],
    ),
    Rule::told_as(id::FLAGS, &["VMDK sparse extent flags"]),
    Rule::told_as(id::NEWLINES, &["the file was changed by a transfer as text"]),
    Rule::told_as(
        id::GRAIN_SIZE,
        &["VMDK grain size", "COWD grain size", "seSparse grain size", "a compressed VMDK grain is inflated whole"],
    ),
    Rule::told_as(id::TABLE_SIZE, &["VMDK grain table entries", "seSparse grain table size"]),
    Rule::told_as(
        id::CAPACITY,
        &["VMDK extent capacity*", "seSparse capacity", "a VMDK of 0 sectors", "a VMDK of 0 sectors: it has no extent"],
    ),
    Rule::new(id::ZEROED_GRAINS),
    Rule::told_as("VMDK-COMPRESSION", &["VMDK compression flags and algorithm contradict each other"]),
    Rule::told_as(id::OVERHEAD, &["VMDK overHead"]),
    Rule::told_as("VMDK-UNCLEAN", &["the program that wrote this VMDK did not come to its end"]),
    Rule::told_as(
        "VMDK-HEADER-CUT",
        &[
            "the VMDK is cut short within its header",
            "the VMDK extent is cut short within its header",
            "the COWD extent is cut short within its header",
            "the seSparse extent is cut short within its headers",
        ],
    ),
    Rule::told_as(id::DIRECTORY, &["VMDK grain directory lies outside the file", "VMDK without a grain directory"]),
    Rule::told_as(
        id::GDE,
        &["VMDK grain directory entry cannot be*", "more VMDK grain tables than are held against each other"],
    ),
    Rule::new(id::GDE_COPY),
    Rule::told_as(id::GTE, &["VMDK grain table entry cannot be", "VMDK grain table entries cannot be"]),
    Rule::told_as(
        id::TABLES_DIFFER,
        &[
            "VMDK grain table entry and its copy differ",
            "VMDK grain table entry cannot be, and its copy has nothing",
            "VMDK grain tables differ from their copies: the entries that can be are used",
        ],
    ),
    Rule::told_as(
        id::GTE_OVERLAP,
        &[
            "VMDK grain lies where another grain lies, or a table",
            "more VMDK grains lie on each other than are kept apart",
        ],
    ),
    Rule::new(id::GTE_UNALIGNED),
    Rule::new(id::GTE_SURPLUS),
    Rule::told_as("VMDK-GTE-MISSING", &["VMDK grain table has no entry for a grain whose marker is in the stream"]),
    Rule::told_as(
        id::GRAIN_CUT,
        &[
            "VMDK grain is cut by the end of the file",
            "VMDK grain table is cut by the end of the file",
            "the last VMDK grain is cut behind the disk's end",
            "VMDK grain marker is cut by the end of the file",
        ],
    ),
    Rule::new(id::UNREFERENCED),
    Rule::told_as("VMDK-GRAIN-OWNER", &["VMDK grain marker is another grain's"]),
    Rule::told_as("VMDK-GRAIN-LENGTH", &["VMDK grain marker size"]),
    Rule::told_as("VMDK-GRAIN-DEFLATE", &["VMDK grain does not inflate", "VMDK grain inflates to*"]),
    Rule::new(id::GRAIN_SHORT),
    Rule::new(id::GRAIN_TRAILING),
    Rule::told_as(
        "VMDK-FOOTER",
        &[
            "the streamOptimized VMDK has no footer: is it cut short?",
            "the footer of the streamOptimized VMDK leads past its grain directory",
        ],
    ),
    Rule::told_as(
        id::FOOTER_DIFFERS,
        &[
            "the footer of the streamOptimized VMDK contradicts its header",
            "header and footer of the streamOptimized VMDK differ in capacity",
        ],
    ),
    Rule::new(id::STREAM_VERSION),
    Rule::new(id::STREAM_ORDER),
    Rule::told_as(id::STREAM_END, &["the streamOptimized VMDK does not end behind its footer"]),
    Rule::told_as(id::MARKER, &["no marker in front of the grain directory of the streamOptimized VMDK"]),
    Rule::new(id::CREATE_TYPE),
    Rule::new(id::FIRST_LINE),
    Rule::new(id::LINE_ORDER),
    Rule::new(id::CID),
    Rule::new(id::LONG_CONTENT_ID),
    Rule::new(id::GEOMETRY),
    Rule::new(id::ENCODING),
    Rule::told_as(
        id::DESCRIPTOR_AREA,
        &[
            "the embedded VMDK descriptor lies outside the file",
            "a VMDK header without capacity and directories: its descriptor names the extents",
        ],
    ),
    Rule::told_as(
        "VMDK-NO-DESCRIPTOR",
        &["a VMDK extent without a descriptor", "a piece of a VMDK, and no descriptor beside it names it"],
    ),
    Rule::told_as("VMDK-KEY-TWICE", &["a key of the VMDK descriptor comes again with another value: the first counts"]),
    Rule::told_as("VMDK-ADAPTER", &["the VMDK descriptor names a controller that is not known"]),
    Rule::told_as(
        "VMDK-EXTENT-LINE",
        &[
            "VMDK descriptor: a damaged extent line",
            "VMDK descriptor: extent *",
            "VMDK descriptor: unknown extent type",
            "VMDK descriptor: an extent without a file",
            "VMDK extent offset",
            "a VMDK extent of zeroes names a file that is there: it is not read",
            "an embedded VMDK descriptor with more than one extent",
        ],
    ),
    Rule::told_as("VMDK-EXTENT-TWICE", &["two extents of the VMDK have the same bytes of a file"]),
    Rule::told_as("VMDK-EXTENT-MISSING", &["an extent is not there"]),
    Rule::told_as("VMDK-EXTENT-SHORT", &["VMDK flat extent is cut short"]),
    Rule::told_as(
        "VMDK-EXTENT-LONG",
        &["the file of a VMDK extent is longer than the descriptor says: the rest is left out"],
    ),
    Rule::told_as("VMDK-EXTENT-NOACCESS", &["an extent that the descriptor says is not to be had (NOACCESS)"]),
    Rule::told_as(
        "VMDK-PARENT-KEYS",
        &[
            "VMDK descriptor: parentCID",
            "VMDK descriptor: a parent is named, and no parentCID",
            "a parent is named, and parentCID says that there is none",
            "VMDK descriptor: a parent whose uuid cannot be read",
        ],
    ),
    Rule::told_as(
        "VMDK-PARENT-MISSING",
        &[
            "the parent of this snapshot is not there",
            "a snapshot that does not name its parent",
            "a differencing VMDK of VirtualBox, which knows its parent by the uuid alone",
            "the parent of a VMDK must be a VMDK",
        ],
    ),
    Rule::told_as(
        "VMDK-PARENT-ID",
        &[
            "the parent was changed since the snapshot was taken, or is another disk",
            "this is not the disk that the child was made on",
        ],
    ),
    Rule::told_as("VMDK-PARENT-SIZE", &["parent and child differ in size"]),
    Rule::told_as("VMDK-CHAIN", &["the chain of parents leads back to this file"]),
    Rule::told_as("VMDK-NEWER", &["a snapshot beside it lies on top of this disk: the newer state is there"]),
    Rule::new(id::COWD_FLAGS),
    Rule::told_as("VMDK-COWD-FREE", &["COWD free sector lies behind the file's end"]),
    Rule::told_as(
        id::COWD_DIRECTORY,
        &["COWD grain directory is too small", "COWD grain directory lies in the header"],
    ),
    Rule::told_as("VMDK-COWD-ZERO", &["a COWD grain table entry of 1, which no known product writes, is read as zero"]),
    Rule::told_as(
        id::SE_HEADER,
        &[
            "seSparse volatile header magic",
            "a seSparse region lies outside the file",
            "seSparse grain directory is too small",
            "seSparse header overlap another region",
            "seSparse volatile header overlap another region",
            "seSparse grain directory overlap another region",
            "seSparse grain tables overlap another region",
            "seSparse grains overlap another region",
        ],
    ),
    Rule::told_as("VMDK-SE-JOURNAL", &["a seSparse extent whose journal was not replayed*"]),
    Rule::told_as(
        id::SE_GDE,
        &[
            "seSparse grain directory entry",
            "two entries of a seSparse grain directory lead to one table",
            "more seSparse grain tables than are held against each other",
        ],
    ),
    Rule::told_as(id::SE_GTE, &["seSparse grain table entry", "seSparse grain lies behind the last one"]),
    Rule::told_as(
        id::SE_OVERLAP,
        &["seSparse grain lies where another grain lies", "more seSparse grains lie on each other than are kept apart"],
    ),
];

/// How VMDKs are checked.
pub const CHECKER: Checker = Checker { rules: RULES, look, unpacked: Some(stream::unpacked), left_out: LEFT_OUT };

/// The look holds all grains against each other, and looks at what lies in the room that is left.
const LEFT_OUT: &[&str] = &[
    "the VMDK holds grains that none of its tables names: leftovers, or data whose tables were lost",
    "the VMDK grain tables are too large to look for overlaps to their end",
    "the seSparse grain tables are too large to look for overlaps to their end",
];

/// What is wrong and stops a look is the reader's to tell.
fn look(opening: &mut Opening<'_>, file: &Arc<InputFile>, findings: &mut Findings) -> Result<(), Fault> {
    let mut raw = [0; sparse_header::LEN];
    let got = file.read_up_to(0, &mut raw)?;
    let sparse = raw.starts_with(&sparse_header::MAGIC);
    if (sparse && got < raw.len()) || raw.starts_with(&cowd::MAGIC) {
        return Ok(());
    }
    let parsed = match sparse {
        true => descriptor::look_embedded(file, &raw, findings)?,
        false => descriptor::look_at_file(file, findings)?,
    };
    let Some(parsed) = parsed else { return Ok(()) };
    match sparse && !sparse_header::is_wrapping(&raw) {
        true => look_at_sparse(file, &raw, &parsed, findings),
        false => look_at_extents(opening, file, &parsed, findings),
    }
}

fn look_at_extents(
    opening: &mut Opening<'_>,
    file: &Arc<InputFile>,
    parsed: &Parsed,
    findings: &mut Findings,
) -> Result<(), Fault> {
    let mut seen = HashSet::new();
    for line in &parsed.extents {
        let sparse = matches!(line.kind, ExtentType::Sparse | ExtentType::VmfsSparse | ExtentType::SeSparse);
        let Some(name) = line.file.as_ref().filter(|name| sparse && seen.insert(name.as_str())) else { continue };
        let named = opening.gate.named(file, Path::new(name));
        let Ok(extent) = named.or_else(|_| opening.gate.named(file, Path::new(&name.replace('\\', "/")))) else {
            continue;
        };
        findings.count("sparse_extents", 1);
        let mut raw = [0; sparse_header::LEN];
        if extent.read_up_to(0, &mut raw)? < raw.len() {
            continue;
        }
        match line.kind {
            ExtentType::SeSparse => sesparse::look(&extent, &raw, line.sectors, findings)?,
            _ if raw.starts_with(&cowd::MAGIC) => {
                if let Ok(header) = cowd::read(&extent, opening) {
                    header::look_at_cowd(&extent, &raw, &header, findings);
                    tables::Sweep::new(&extent, &header, tables::Kept::SomeTables).look(findings)?;
                }
            }
            _ => look_at_sparse(&extent, &raw, &Parsed::default(), findings)?,
        }
    }
    Ok(())
}

/// A hosted sparse extent. `parsed`: the descriptor in it, where there is one.
fn look_at_sparse(
    file: &Arc<InputFile>,
    raw: &[u8; sparse_header::LEN],
    parsed: &Parsed,
    findings: &mut Findings,
) -> Result<(), Fault> {
    let Some(header) = header::look(file, raw, findings) else { return Ok(()) };
    let packing = match header.grains_are {
        Stored::Plain => None,
        Stored::Deflated => Some(Packing::Marker),
        // The first grain tells, as the reader has it.
        Stored::Unknown { algorithm: 0 | 1, .. } => match reader_stream::first_grain(file, &header) {
            Ok(FirstGrain::Plain) => None,
            Ok(FirstGrain::Packed(packing)) => Some(packing),
            _ => return Ok(()),
        },
        Stored::Unknown { .. } => return Ok(()),
    };
    let Some(packing) = packing else {
        return tables::Sweep::new(file, &header, tables::Kept::AllTables).look(findings);
    };
    if header.gd_offset.is_none() {
        stream::hold_against_footer(file, raw, findings)?;
    }
    // What it warns of the reader tells.
    let named = parsed.extents.first().map(|line| line.sectors.saturating_mul(crate::image::SECTOR));
    let in_front = header.gd_offset.is_some();
    let Ok(header) = reader_stream::complete(&Ledger::default(), file, header, named) else { return Ok(()) };
    let marked = match header.gd_offset {
        // Where the footer tells the place of the directory, its marker is the reader's to miss.
        Some(directory) if in_front => packing == Packing::Marker && stream::is_marked(file, directory, findings)?,
        _ => true,
    };
    tables::Sweep::new(file, &header, tables::Kept::Packed { marked, packing }).look(findings)?;
    match packing {
        Packing::Marker => stream::Walk { file, header: &header, in_front }.look(raw, findings),
        // Nothing in the file but its tables tells where a grain begins, or ends.
        Packing::Length | Packing::Bare => Ok(()),
    }
}
