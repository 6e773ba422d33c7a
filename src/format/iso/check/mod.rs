//! Checks an optical disc: its volume descriptors, the directories and path tables that they lead to, the UDF volume beside them, what
//! boots, what makes a disk of it, and the MD5 that some discs carry of themselves. How long the image has to be is the reader's to tell.
//!
//! Of files nothing but their place is looked at: without an MD5 a disc of many gigabytes costs no more than its directories.

mod boot_catalog;
mod descriptor;
mod gpt;
mod path_table;
mod record;
mod tree;
mod udf;

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use byteorder::{ByteOrder, LittleEndian};

use self::descriptor::Descriptor;
use self::tree::Budget;
use super::media_md5;
use super::volume::{SECTOR, SYSTEM_AREA};
use crate::fault::Fault;
use crate::format::{Checker, Opening};
use crate::image::{Findings, Rule};
use crate::io::InputFile;

const BOTH_ENDS: &str = "ISO-BOTH-ENDS";
const BLOCK_SIZE: &str = "ISO-BLOCK-SIZE";
const TERMINATOR: &str = "ISO-TERMINATOR";
const OUTSIDE: &str = "ISO-OUTSIDE";
const FILE_OUTSIDE: &str = "ISO-FILE-OUTSIDE";
const DIRECTORY: &str = "ISO-DIRECTORY";
const DIRECTORY_TWICE: &str = "ISO-DIRECTORY-TWICE";
const MULTI_EXTENT: &str = "ISO-MULTI-EXTENT";
const UNFINISHED: &str = "ISO-UNFINISHED";
const PATH_TABLES: &str = "ISO-PATH-TABLES";
const BOOT_CATALOG: &str = "ISO-BOOT-CATALOG";
const UDF_ANCHOR: &str = "ISO-UDF-ANCHOR";
const UDF_SEQUENCE: &str = "ISO-UDF-SEQUENCE";
const GPT: &str = "ISO-GPT";
const GPT_BACKUP: &str = "ISO-GPT-BACKUP";
const PROTECTIVE_MBR: &str = "ISO-PROTECTIVE-MBR";
/// The MD5 that the disc carries of itself.
pub const MEDIA_MD5: &str = "ISO-MEDIA-MD5";

const RULES: &[Rule] = &[
    Rule::told_as(
        "ISO-TRUNCATED",
        &[
            "the ISO image is truncated",
            "the ISO image ends within its padding",
            "where the UDF volume ends cannot be read: is the image cut short?",
        ],
    ),
    Rule::told_as(GPT, &["the GPT header of the hybrid image is damaged"]),
    Rule::new(BOTH_ENDS),
    Rule::new(BLOCK_SIZE),
    Rule::new(TERMINATOR),
    Rule::new(OUTSIDE),
    Rule::new(FILE_OUTSIDE),
    Rule::new(DIRECTORY),
    Rule::new(DIRECTORY_TWICE),
    Rule::new(MULTI_EXTENT),
    Rule::new(UNFINISHED),
    Rule::new(PATH_TABLES),
    Rule::new(BOOT_CATALOG),
    Rule::new(UDF_ANCHOR),
    Rule::new(UDF_SEQUENCE),
    Rule::new(GPT_BACKUP),
    Rule::new(PROTECTIVE_MBR),
    Rule::new(MEDIA_MD5),
];

/// How discs are checked.
pub const CHECKER: Checker = Checker { rules: RULES, look, unpacked: None, left_out: &[] };

/// Bytes of a descriptor.
const LEN: usize = 2048;
/// Descriptors that are looked at.
const MOST: u64 = 64;

const BOOT_SYSTEM: Range<usize> = 7..30;
const BOOT_CATALOG_AT: usize = 71;

fn look(_: &mut Opening<'_>, file: &Arc<InputFile>, findings: &mut Findings) -> Result<(), Fault> {
    gpt::look(file, findings)?;
    udf::look(file, findings)?;
    let (mut budget, mut roots) = (Budget::default(), BTreeSet::new());
    for n in 0..MOST {
        let (base, mut raw) = (SYSTEM_AREA + n * SECTOR, [0; LEN]);
        let whole = file.read_up_to(base, &mut raw)? == LEN;
        let is_volume = whole && raw.get(1..6) == Some(b"CD001");
        match raw[0] {
            _ if !is_volume => {
                // UDF's own descriptors follow the end of the others, or stand alone.
                if n > 0 {
                    findings.warning(TERMINATOR, || {
                        let none = Fault::damaged(file.name(), base, "the volume descriptors have no terminator");
                        none.advice("burning programs may refuse it")
                    });
                }
                return Ok(());
            }
            0 if raw.get(BOOT_SYSTEM) == Some(b"EL TORITO SPECIFICATION") => {
                let catalog = u64::from(LittleEndian::read_u32(&raw[BOOT_CATALOG_AT..])) * SECTOR;
                boot_catalog::look(file, base + BOOT_CATALOG_AT as u64, catalog, findings)?;
            }
            kind @ (1 | 2) => {
                let descriptor = Descriptor { file, base, raw: &raw };
                descriptor.look(findings);
                path_table::look(&descriptor, &mut budget, findings)?;
                // Descriptors of one volume may share their directories, as those of ISO 9660:1999 do.
                if let Some(root) = descriptor.root().filter(|root| roots.insert(root.place)) {
                    tree::look(file, &root, &mut budget, findings)?;
                }
                if kind == 1 {
                    media_md5::look(file, base, &raw, findings)?;
                }
            }
            255 => return Ok(()),
            _ => {}
        }
        findings.count("volume_descriptors", 1);
    }
    Ok(())
}

/// What the end of the file is called in messages.
fn against_end(file: &InputFile) -> String {
    format!("the file has {} bytes", file.len())
}
