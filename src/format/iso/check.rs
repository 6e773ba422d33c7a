//! Checks an optical disc: the primary descriptor's fields, what it leads to, the boot catalog, and the MD5 that some discs carry of
//! themselves. How long the image has to be is the reader's to tell.

use std::sync::Arc;

use byteorder::{BigEndian, ByteOrder, LittleEndian};

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
const BOOT_CATALOG: &str = "ISO-BOOT-CATALOG";
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
    Rule::told_as("ISO-GPT", &["the GPT header of the hybrid image is damaged"]),
    Rule::new(BOTH_ENDS),
    Rule::new(BLOCK_SIZE),
    Rule::new(TERMINATOR),
    Rule::new(OUTSIDE),
    Rule::new(BOOT_CATALOG),
    Rule::new(MEDIA_MD5),
];

/// How discs are checked.
pub const CHECKER: Checker = Checker { rules: RULES, look, unpacked: None, left_out: &[] };

/// Bytes of a descriptor.
const LEN: usize = 2048;
/// Descriptors that are looked at.
const MOST: u64 = 64;
/// Entries of a boot catalog that are looked at.
const MOST_ENTRIES: usize = 64;
/// Bytes of such an entry.
const ENTRY: usize = 32;

/// Numbers that stand twice, little-endian in front: offset and bytes of each half.
const TWICE: [(usize, usize, &str); 5] = [
    (80, 4, "volume space size"),
    (120, 2, "volume set size"),
    (124, 2, "volume sequence number"),
    (128, 2, "logical block size"),
    (132, 4, "path table size"),
];
const BLOCK_SIZE_AT: usize = 128;
const PATH_TABLES_AT: [(usize, bool); 2] = [(140, true), (148, false)];
const ROOT_AT: usize = 156;
const BOOT_SYSTEM: std::ops::Range<usize> = 7..30;
const BOOT_CATALOG_AT: usize = 71;

fn look(_: &mut Opening<'_>, file: &Arc<InputFile>, findings: &mut Findings) -> Result<(), Fault> {
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
                boot_catalog(file, base + BOOT_CATALOG_AT as u64, catalog, findings)?;
            }
            1 => {
                Primary { file, base, raw: &raw }.look(findings);
                media_md5::look(file, base, &raw, findings)?;
            }
            255 => return Ok(()),
            _ => {}
        }
        findings.count("volume_descriptors", 1);
    }
    Ok(())
}

struct Primary<'a> {
    file: &'a InputFile,
    base: u64,
    raw: &'a [u8; LEN],
}

impl Primary<'_> {
    fn odd(&self, at: usize, what: &'static str) -> Fault {
        Fault::damaged(self.file.name(), self.base + at as u64, what)
    }

    fn look(&self, findings: &mut Findings) {
        for (at, len, name) in TWICE {
            let part = |from: usize| self.raw.get(from..from + len).unwrap_or_default();
            let (little, big) = (LittleEndian::read_uint(part(at), len), BigEndian::read_uint(part(at + len), len));
            if little != big {
                findings.warning(BOTH_ENDS, || {
                    let differ = self.odd(at, "a number of the primary volume descriptor differs from its other form");
                    differ.found(format!("{name}: {little}, little-endian")).against(format!("{big}, big-endian"))
                });
            }
        }
        let block = LittleEndian::read_u16(&self.raw[BLOCK_SIZE_AT..]);
        if u64::from(block) != SECTOR {
            findings.warning(BLOCK_SIZE, || {
                self.odd(BLOCK_SIZE_AT, "logical block size of the volume").found(block).expected(SECTOR)
            });
        }
        let block = if block == 0 { SECTOR } else { block.into() };
        let path_tables = PATH_TABLES_AT.into_iter().map(|(at, little)| {
            let raw = self.raw.get(at..).unwrap_or_default();
            (at, if little { LittleEndian::read_u32(raw) } else { BigEndian::read_u32(raw) }, 0)
        });
        let root = LittleEndian::read_u32(&self.raw[ROOT_AT + 2..]);
        let root = (ROOT_AT + 2, root, u64::from(LittleEndian::read_u32(&self.raw[ROOT_AT + 10..])));
        for (at, first, len) in path_tables.chain([root]) {
            let end = u64::from(first) * block + len.max(1);
            // Block 0 is none.
            if first != 0 && end > self.file.len() {
                findings.error(OUTSIDE, || {
                    let outside = self.odd(at, "a path table or the root directory lies outside the file");
                    outside.found(format!("block {first}")).against(format!("the file has {} bytes", self.file.len()))
                });
            }
        }
    }
}

/// The catalog of what boots: its own checksum, and that the images begin in the file.
fn boot_catalog(file: &InputFile, byte: u64, at: u64, findings: &mut Findings) -> Result<(), Fault> {
    let mut raw = [0; MOST_ENTRIES * ENTRY];
    let got = file.read_up_to(at, &mut raw)?;
    let entries = raw.get(..got).unwrap_or_default();
    let odd = |byte: u64, what: &'static str| Fault::damaged(file.name(), byte, what);
    let Some(validation) = entries.first_chunk::<ENTRY>() else {
        findings.warning(BOOT_CATALOG, || {
            let outside = odd(byte, "the boot catalog lies outside the file").found(format!("byte {at}"));
            outside.against(format!("the file has {} bytes", file.len()))
        });
        return Ok(());
    };
    let sum = validation.chunks_exact(2).map(LittleEndian::read_u16).fold(0u16, u16::wrapping_add);
    if validation[0] != 1 || validation[30..] != [0x55, 0xAA] || sum != 0 {
        findings.warning(BOOT_CATALOG, || {
            odd(at, "the boot catalog's first entry")
                .found(format!("checksum {sum:#06x}"))
                .expected("a sum of 0, and 55 aa at its end")
        });
        return Ok(());
    }
    for (entry, byte) in entries.chunks_exact(ENTRY).zip((at..).step_by(ENTRY)).skip(1) {
        let (kind, load) = (entry.first().copied(), entry.get(8..).map(LittleEndian::read_u32).unwrap_or_default());
        match kind {
            Some(0) => break,
            Some(0x88) if u64::from(load) * SECTOR >= file.len() => findings.warning(BOOT_CATALOG, || {
                let outside = odd(byte, "a boot image begins outside the file").found(format!("block {load}"));
                outside.against(format!("the file has {} bytes", file.len()))
            }),
            _ => {}
        }
    }
    Ok(())
}
