//! The dynamic header: what can be mended in memory is told and mended, so that the rest is looked at too.

use byteorder::{BigEndian, ByteOrder};

use super::id;
use crate::fault::Fault;
use crate::format::parents::base_name;
use crate::format::vhd::footer::{DiskType, checksum};
use crate::format::vhd::header::{self, DynamicHeader, at};
use crate::format::vhd::locate::Located;
use crate::format::vhd::locator::{self, Locator};
use crate::image::{Findings, SECTOR};
use crate::io::InputFile;

/// Block sizes that every reader takes: Xen's refuse more than 2 MiB.
const MOST_BLOCK: u32 = 2 << 20;
const LEAST_BLOCK: u32 = 512 << 10;
const VERSION: u32 = 0x0001_0000;
/// Behind the fields, up to the header's end; and the four bytes behind the parent's time.
const RESERVED: [std::ops::Range<usize>; 2] = [60..64, 768..header::LEN];
/// A locator that nobody but a Mac reads.
const MAC_ALIAS: [&[u8]; 2] = [b"Mac ", &[0x4D, 0x16, 0x32, 0x20]];

/// Looks at the header; it, where it says enough to go on.
pub fn look(file: &InputFile, located: &Located, findings: &mut Findings) -> Result<Option<DynamicHeader>, Fault> {
    let base = located.footer.data_offset;
    if located.footer.disk_type == DiskType::Fixed
        || base.checked_add(header::LEN as u64).is_none_or(|end| end > located.data_end)
    {
        return Ok(None);
    }
    let mut raw = [0; header::LEN];
    file.read_exact(base, &mut raw)?;
    findings.count("dynamic_headers", 1);
    let Some(header) = mended(&raw, file, base, findings) else { return Ok(None) };
    Look { file, located, raw: &raw, header: &header }.look(findings);
    Ok(Some(header))
}

/// The header, each thing that is wrong with it told once.
fn mended(raw: &[u8; header::LEN], file: &InputFile, base: u64, findings: &mut Findings) -> Option<DynamicHeader> {
    let mut raw = *raw;
    for _ in 0..4 {
        let fault = match DynamicHeader::parse(&raw, file.name(), base) {
            Ok(header) => return Some(header),
            Err(fault) => fault,
        };
        let field = usize::try_from(fault.byte().unwrap_or(base).saturating_sub(base)).unwrap_or_default();
        let broken = match field {
            0 => id::HEADER_COOKIE,
            at::CHECKSUM => id::HEADER_CHECKSUM,
            at::VERSION => id::HEADER_VERSION,
            _ => id::BLOCK_SIZE,
        };
        // A cookie that is mended breaks no checksum that fits it; a checksum that is made to fit here was told of.
        let cookie_fits = checksum(&raw, at::CHECKSUM) == BigEndian::read_u32(&raw[at::CHECKSUM..]);
        findings.error(broken, || fault);
        match broken {
            id::HEADER_COOKIE => raw[..8].copy_from_slice(&header::COOKIE),
            id::HEADER_VERSION => BigEndian::write_u32(&mut raw[at::VERSION..], VERSION),
            id::HEADER_CHECKSUM => {}
            _ => return None,
        }
        if broken != id::HEADER_COOKIE || cookie_fits {
            let sum = checksum(&raw, at::CHECKSUM);
            BigEndian::write_u32(&mut raw[at::CHECKSUM..], sum);
        }
    }
    None
}

struct Look<'a> {
    file: &'a InputFile,
    located: &'a Located,
    raw: &'a [u8; header::LEN],
    header: &'a DynamicHeader,
}

impl Look<'_> {
    fn odd(&self, field: usize, what: &'static str) -> Fault {
        Fault::damaged(self.file.name(), self.located.footer.data_offset + field as u64, what)
    }

    fn look(&self, findings: &mut Findings) {
        let header = self.header;
        if !(LEAST_BLOCK..=MOST_BLOCK).contains(&header.block_size) {
            findings.warning(id::BLOCK_SIZE, || {
                let odd = self.odd(at::BLOCK_SIZE, "VHD block size that not all readers take").found(header.block_size);
                odd.expected(format!("{LEAST_BLOCK} to {MOST_BLOCK}"))
            });
        } else if ![LEAST_BLOCK, MOST_BLOCK].contains(&header.block_size) {
            findings.note(id::BLOCK_SIZE, || {
                let rare = self.odd(at::BLOCK_SIZE, "VHD block size that the specification was not tested with");
                rare.found(header.block_size).expected(format!("{LEAST_BLOCK} or {MOST_BLOCK}"))
            });
        }
        let data_offset = BigEndian::read_u64(&self.raw[at::DATA_OFFSET..]);
        if data_offset != u64::MAX {
            findings.warning(id::HEADER_DATA_OFFSET, || {
                let odd = self.odd(at::DATA_OFFSET, "data offset of the VHD dynamic header").found(data_offset);
                odd.expected("all ones").advice("Xen's tools refuse it, DiscUtils looks for another header there")
            });
        }
        let reserved = RESERVED.into_iter().flatten();
        if let Some(byte) = reserved.into_iter().find(|n| self.raw.get(*n).is_some_and(|byte| *byte != 0)) {
            findings.warning(id::HEADER_RESERVED, || {
                let odd = self.odd(byte, "reserved bytes of the VHD dynamic header");
                odd.found(format!("{:#04x}", self.raw.get(byte).copied().unwrap_or_default())).expected("zero")
            });
        }
        self.look_at_entries(findings);
        match self.located.footer.disk_type {
            DiskType::Differencing => {
                self.look_at_locators(findings);
                self.look_at_names(findings);
            }
            _ => self.look_for_a_parent(findings),
        }
    }

    fn look_at_entries(&self, findings: &mut Findings) {
        let (header, size) = (self.header, self.located.footer.current_size);
        let needed = (size - size % SECTOR).div_ceil(header.block_size.into());
        if u64::from(header.max_table_entries) > needed {
            findings.warning(id::TABLE_ENTRIES, || {
                let more = self.odd(at::MAX_TABLE_ENTRIES, "VHD max table entries").found(header.max_table_entries);
                more.expected(needed).advice("7-Zip and Azure take no other number")
            });
        }
        if !header.table_offset.is_multiple_of(SECTOR) {
            findings.warning(id::TABLE_OFFSET, || {
                let odd = self.odd(at::TABLE_OFFSET, "VHD table offset").found(header.table_offset);
                odd.expected("a whole number of sectors")
            });
        }
    }

    /// A disk without a parent that names one: a differencing disk whose type was changed?
    fn look_for_a_parent(&self, findings: &mut Findings) {
        let parts = [at::PARENT_ID..at::PARENT_TIME + 4, at::PARENT_NAME..at::LOCATORS_END];
        let mut bytes = parts.into_iter().flatten();
        if let Some(byte) = bytes.find(|n| self.raw.get(*n).is_some_and(|byte| *byte != 0)) {
            findings.warning(id::HEADER_PARENT, || {
                self.odd(byte, "a dynamic VHD that names a parent: only a differencing one has any")
            });
        }
    }

    fn look_at_locators(&self, findings: &mut Findings) {
        let mut seen: Vec<&[u8]> = Vec::new();
        let entries = self.raw.get(at::LOCATORS..at::LOCATORS_END).unwrap_or_default();
        let base = self.located.footer.data_offset + at::LOCATORS as u64;
        for (entry, byte) in entries.as_chunks::<{ locator::LEN }>().0.iter().zip((base..).step_by(locator::LEN)) {
            let odd = |what: &'static str| Fault::damaged(self.file.name(), byte, what);
            let Some(code) = entry.get(..4) else { continue };
            let text = code.escape_ascii().to_string();
            if code == [0; 4] {
                if entry.iter().any(|byte| *byte != 0) {
                    findings.error(id::LOCATOR, || odd("VHD parent locator without a code"));
                }
                continue;
            }
            if entry.get(12..16).is_some_and(|reserved| reserved != [0; 4]) {
                findings.error(id::LOCATOR, || odd("VHD parent locator: reserved bytes").found(&text).expected("zero"));
            }
            if seen.contains(&code) {
                findings.error(id::LOCATOR, || odd("VHD parent locator: a code comes again").found(&text));
            }
            seen.push(code);
            match Locator::parse(entry, byte) {
                Some(locator) => {
                    if let Err(fault) = locator.name(self.file) {
                        findings.error(id::LOCATOR, || fault);
                    }
                }
                None if MAC_ALIAS.contains(&code) => {
                    let len = u64::from(BigEndian::read_u32(&entry[locator::at::DATA_LENGTH..]));
                    let start = BigEndian::read_u64(&entry[locator::at::DATA_OFFSET..]);
                    if len == 0 || start.checked_add(len).is_none_or(|end| end > self.file.len()) {
                        findings.error(id::LOCATOR, || {
                            odd("VHD parent locator lies outside the file")
                                .found(format!("{len} bytes at byte {start}"))
                        });
                    }
                }
                None => findings.error(id::LOCATOR, || odd("VHD parent locator: unknown code").found(&text)),
            }
        }
    }

    fn look_at_names(&self, findings: &mut Findings) {
        let own = base_name(&self.header.parent_name);
        for locator in self.header.locators.iter().filter(|_| !own.is_empty()) {
            let Ok(name) = locator.name(self.file) else { continue };
            let name = base_name(&name);
            if !name.is_empty() && !name.eq_ignore_ascii_case(own) && name.to_lowercase() != own.to_lowercase() {
                findings.warning(id::PARENT_NAMES, || {
                    let differ = Fault::damaged(self.file.name(), locator.byte, "the names of the parent differ");
                    differ.found(name).against(format!("the header says {own}")).advice("Xen's tools refuse it")
                });
            }
        }
    }
}
