//! A stream of deflated grains, marker by marker from its first grain to its end; and each grain's own bytes.

use std::path::Path;

use byteorder::{BigEndian, ByteOrder, LittleEndian};
use libdeflater::{Decompressor, adler32};

use super::id;
use crate::fault::Fault;
use crate::format::vmdk::header::{self, SparseHeader, at};
use crate::format::vmdk::markers::{self, Item};
use crate::format::vmdk::stream as reader_stream;
use crate::image::{Findings, SECTOR};
use crate::io::{InputFile, is_zero};

/// A stream.
pub struct Walk<'a> {
    pub file: &'a InputFile,
    pub header: &'a SparseHeader,
    /// The tables lie in front of the grains.
    pub in_front: bool,
}

impl Walk<'_> {
    fn odd(&self, sector: u64, what: &'static str) -> Fault {
        Fault::damaged(self.file.name(), sector.saturating_mul(SECTOR), what)
    }

    /// Looks at the markers, as an importer meets them.
    pub fn look(&self, raw: &[u8; header::LEN], findings: &mut Findings) -> Result<(), Fault> {
        if !self.file.len().is_multiple_of(SECTOR) {
            findings.warning(id::STREAM_END, || {
                let odd = Fault::damaged(self.file.name(), self.file.len(), "the stream is no whole number of sectors");
                odd.found(format!("{} bytes", self.file.len()))
            });
        }
        let (mut sector, mut before) = (LittleEndian::read_u64(&raw[at::OVERHEAD..]), None);
        loop {
            match markers::item_at(self.file, sector, self.header)? {
                Item::Grain { lba, next } => {
                    findings.count("grain_markers", 1);
                    if before.is_some_and(|before| lba <= before) {
                        findings.warning(id::STREAM_ORDER, || {
                            let back =
                                self.odd(sector, "the grains of the stream do not ascend").found(format!("lba {lba}"));
                            back.expected(format!("more than {}", before.unwrap_or_default()))
                                .advice("importers refuse it")
                        });
                    }
                    before = Some(lba);
                    sector = next;
                }
                Item::Metadata { next } => match self.look_at_marker(sector, findings)? {
                    // Whatever stands behind a footer.
                    Some((markers::FOOTER, behind)) => return self.look_at_end(behind, findings),
                    Some((_, behind)) => sector = behind,
                    None => sector = next,
                },
                Item::End => return self.look_at_end(sector, findings),
            }
        }
    }

    /// The marker of a table, a directory or a footer: its type, and the sector behind what follows it.
    fn look_at_marker(&self, sector: u64, findings: &mut Findings) -> Result<Option<(u32, u64)>, Fault> {
        let mut raw = [0; 16];
        self.file.read_up_to(sector.saturating_mul(SECTOR), &mut raw)?;
        let (count, kind) = (LittleEndian::read_u64(&raw), LittleEndian::read_u32(&raw[12..]));
        let want = match kind {
            markers::TABLE => self.header.gt_sectors(),
            markers::DIRECTORY => self.header.gd_sectors(),
            markers::FOOTER => 1,
            _ => return Ok(None),
        };
        if count != want {
            findings.warning(id::MARKER, || {
                let wrong = self.odd(sector, "the marker of a table, a directory or a footer says another length");
                wrong.found(format!("{count} sectors")).expected(want).advice("7-Zip refuses it")
            });
        }
        Ok(Some((kind, sector.saturating_add(1).saturating_add(want))))
    }

    /// One sector of zeroes, and nothing behind it.
    fn look_at_end(&self, sector: u64, findings: &mut Findings) -> Result<(), Fault> {
        let at = sector.saturating_mul(SECTOR).min(self.file.len());
        let mut raw = [0; 512];
        let got = self.file.read_up_to(at, &mut raw)?;
        let ends = got == raw.len() && is_zero(&raw) && at + SECTOR == self.file.len();
        // Behind a footer the reader looks; that it is zero is left.
        if !ends {
            findings.warning(id::STREAM_END, || {
                let what = match (got, is_zero(&raw)) {
                    (0, _) => "the stream has no end marker",
                    (_, true) => "the streamOptimized VMDK does not end behind its footer",
                    (_, false) => "the stream does not end with a sector of zeroes",
                };
                let behind = Fault::damaged(self.file.name(), at, what)
                    .found(format!("{} bytes", self.file.len().saturating_sub(at)));
                let from = if self.in_front {
                    "one sector behind the last grain"
                } else {
                    "one sector, the end of the stream"
                };
                behind.expected(from).advice("importers refuse it, or stop there: convert it")
            });
        }
        Ok(())
    }
}

/// Does a marker stand in front of the directory that the header names? Without markers the tables lie in front of the grains, and 7-Zip
/// has nothing to go by.
pub fn is_marked(file: &InputFile, directory: u64, findings: &mut Findings) -> Result<bool, Fault> {
    let marked = markers::in_front_of(file, directory)? == Some(markers::DIRECTORY);
    if !marked {
        findings.note(id::MARKER, || {
            let none =
                Fault::damaged(file.name(), at::GD_OFFSET as u64, "a compressed VMDK without markers of its tables");
            none.found(format!("its directory at sector {directory}")).advice("7-Zip does not open it: convert it")
        });
    }
    Ok(marked)
}

/// The fields that say the same in a header and its footer, and where each ends. Capacity is the reader's to hold against the descriptor.
const ALIKE: [(&str, usize, usize); 10] = [
    ("version", at::VERSION, at::FLAGS),
    ("flags", at::FLAGS, at::CAPACITY),
    ("grain size", at::GRAIN_SIZE, at::DESCRIPTOR_OFFSET),
    ("descriptor offset", at::DESCRIPTOR_OFFSET, at::DESCRIPTOR_SIZE),
    ("descriptor size", at::DESCRIPTOR_SIZE, at::GTES_PER_GT),
    ("entries of a grain table", at::GTES_PER_GT, at::RGD_OFFSET),
    ("unclean shutdown", at::UNCLEAN_SHUTDOWN, at::NEWLINES),
    ("newline characters", at::NEWLINES, at::COMPRESS_ALGORITHM),
    ("compression algorithm", at::COMPRESS_ALGORITHM, at::PAD),
    ("padding", at::PAD, header::LEN),
];

/// Holds the header against the footer that stands for it, field by field.
pub fn hold_against_footer(file: &InputFile, raw: &[u8; header::LEN], findings: &mut Findings) -> Result<(), Fault> {
    // Why there is none the reader says.
    let Ok((place, _)) = reader_stream::footer(file) else { return Ok(()) };
    let mut footer = [0; header::LEN];
    file.read_up_to(place, &mut footer)?;
    for (name, start, end) in ALIKE {
        let first = (start..end).find(|n| raw.get(*n) != footer.get(*n));
        if let Some(first) = first {
            findings.warning(id::FOOTER_DIFFERS, || {
                let what = "header and footer of the streamOptimized VMDK differ";
                let differ = Fault::damaged(file.name(), place + first as u64, what).found(name);
                differ.against(format!("the header's is at byte {first}")).advice("7-Zip refuses it: convert it")
            });
        }
    }
    Ok(())
}

/// The bytes of a grain that was inflated: a stream that ends before its recorded length, or gives less than a grain.
pub fn unpacked(file: &Path, marker: u64, packed: &[u8], unit: &[u8], findings: &mut Findings) {
    let sum = packed.last_chunk::<4>().map(|sum| BigEndian::read_u32(sum));
    if sum == Some(adler32(unit)) {
        return;
    }
    let odd = |what: &'static str| Fault::damaged(file, marker, what);
    let mut out = vec![0; unit.len()];
    let mut decompressor = Decompressor::new();
    let Ok(got) = decompressor.zlib_decompress(packed, &mut out) else { return };
    if got < unit.len() {
        findings.warning(id::GRAIN_SHORT, || {
            let short = odd("the last VMDK grain inflates to less than a grain").found(got).expected(unit.len());
            short.advice("7-Zip and VirtualBox refuse it: convert it")
        });
    }
    let shorter = packed.split_last().map(|(_, rest)| rest).unwrap_or_default();
    if decompressor.zlib_decompress(shorter, &mut out).is_ok() {
        findings.warning(id::GRAIN_TRAILING, || {
            odd("bytes behind the zlib stream of a VMDK grain")
                .found(format!("{} bytes in all", packed.len()))
                .advice("7-Zip refuses it: convert it")
        });
    }
}
