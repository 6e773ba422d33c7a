//! The text of a descriptor, line by line: what VirtualBox, QEMU and libvmdk want of it and other readers do not mind.

use super::id;
use crate::fault::Fault;
use crate::format::vmdk::extent::{ExtentLine, ExtentType};
use crate::format::vmdk::header;
use crate::format::vmdk::parse::{Declared, Parsed, text};
use crate::image::{Findings, SECTOR};
use crate::io::{InputFile, in_memory};

/// The first lines that VirtualBox takes.
const FIRST_LINES: [&str; 4] =
    ["# Disk DescriptorFile", "# Disk Descriptor File", "#Disk Descriptor File", "#Disk DescriptorFile"];
/// Heads of a disk and sectors of a track, at most.
const MOST_HEADS: u64 = 255;
const MOST_SECTORS: u64 = 63;
/// A longer text is refused by the reader.
const MOST: u64 = 16 << 20;

/// The types of disks, and of which extents they are made; none: of any.
const CREATE_TYPES: [(&str, &[ExtentType]); 21] = {
    use ExtentType::{Flat, SeSparse, Sparse, Vmfs, VmfsRaw, VmfsRdm, VmfsSparse, VsanSparse, Zero};
    [
        ("monolithicSparse", &[Sparse]),
        ("monolithicFlat", &[Flat]),
        ("twoGbMaxExtentSparse", &[Sparse]),
        ("2GbMaxExtentSparse", &[Sparse]),
        ("twoGbMaxExtentFlat", &[Flat]),
        ("2GbMaxExtentFlat", &[Flat]),
        ("streamOptimized", &[Sparse]),
        ("vmfs", &[Vmfs]),
        ("vmfsPreallocated", &[Vmfs]),
        ("vmfsEagerZeroedThick", &[Vmfs]),
        ("vmfsThin", &[Vmfs]),
        ("vmfsThick", &[Vmfs]),
        ("vmfsSparse", &[VmfsSparse]),
        ("seSparse", &[SeSparse]),
        ("vmfsSeSparse", &[SeSparse]),
        ("vsanSparse", &[VsanSparse]),
        ("vmfsRawDeviceMap", &[VmfsRdm]),
        ("vmfsPassthroughRawDeviceMap", &[VmfsRdm]),
        ("vmfsRaw", &[VmfsRaw]),
        ("fullDevice", &[Flat]),
        ("partitionedDevice", &[Flat, Zero]),
    ]
};

/// The descriptor in a sparse extent; none where the reader cannot parse it.
pub fn look_embedded(
    file: &InputFile,
    raw: &[u8; header::LEN],
    findings: &mut Findings,
) -> Result<Option<Parsed>, Fault> {
    let (offset, sectors) = header::descriptor_area(raw);
    let (base, len) = (offset.saturating_mul(SECTOR), sectors.saturating_mul(SECTOR));
    if offset == 0 || len == 0 {
        return Ok(Some(Parsed::default()));
    }
    if len > MOST || base.checked_add(len).is_none_or(|end| end > file.len()) {
        return Ok(None);
    }
    let mut bytes = vec![0; in_memory(len)];
    file.read_around(base, &mut bytes)?;
    if bytes.iter().all(|byte| *byte != 0) {
        findings.warning(id::DESCRIPTOR_AREA, || {
            let full = Fault::damaged(file.name(), base, "the VMDK descriptor fills its area: is its end cut off?");
            full.found(format!("{len} bytes")).advice("VirtualBox writes its uuids behind it, over what follows")
        });
    }
    Ok(look(file, base, &bytes, findings))
}

/// The descriptor that is a file of its own.
pub fn look_at_file(file: &InputFile, findings: &mut Findings) -> Result<Option<Parsed>, Fault> {
    if file.len() > MOST || text(file, 0, file.len()).is_err() {
        return Ok(None);
    }
    let mut bytes = vec![0; in_memory(file.len())];
    file.read_around(0, &mut bytes)?;
    Ok(look(file, 0, &bytes, findings))
}

fn look(file: &InputFile, base: u64, bytes: &[u8], findings: &mut Findings) -> Option<Parsed> {
    let parsed = Parsed::parse(bytes, file.name(), base).ok()?;
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    if text.is_empty() {
        return Some(parsed);
    }
    let look = Look { file, base, parsed: &parsed };
    look.look_at_lines(text, findings);
    look.look_at_type(findings);
    look.look_at_content_ids(findings);
    look.look_at_geometry(findings);
    look.look_at_encoding(text, findings);
    findings.count("descriptor_lines", text.split(|byte| *byte == b'\n').count() as u64);
    Some(parsed)
}

struct Look<'a> {
    file: &'a InputFile,
    base: u64,
    parsed: &'a Parsed,
}

impl Look<'_> {
    fn odd(&self, byte: u64, what: &'static str) -> Fault {
        Fault::damaged(self.file.name(), byte, what)
    }

    fn at_key(&self, key: &str, what: &'static str) -> Fault {
        self.odd(self.parsed.byte_of(key).unwrap_or(self.base), what)
    }

    /// The first line, and the order of the others: the first thing of each sort is told.
    fn look_at_lines(&self, text: &[u8], findings: &mut Findings) {
        let mark = if text.starts_with(b"\xEF\xBB\xBF") { 3 } else { 0 };
        if mark > 0 || !FIRST_LINES.contains(&self.parsed.first_line.as_str()) {
            findings.warning(id::FIRST_LINE, || {
                let other = self.odd(self.base, "the first line of the VMDK descriptor").found(&self.parsed.first_line);
                other.expected("# Disk DescriptorFile").advice("VirtualBox and 7-Zip refuse it")
            });
        }
        let (mut byte, mut blank, mut extents, mut told) = (self.base, false, false, false);
        for raw in text.split(|byte| *byte == b'\n') {
            let line = String::from_utf8_lossy(raw);
            let (trimmed, start) = (line.trim(), byte);
            byte += raw.len() as u64 + 1;
            let is_extent = ExtentLine::claims(trimmed);
            let is_key = !is_extent && !trimmed.starts_with('#') && trimmed.contains('=');
            let is_ddb = trimmed.starts_with("ddb.");
            let what = match () {
                _ if is_extent && blank => Some("a blank line in front of an extent: QEMU reads that extent twice"),
                _ if (is_extent || is_key) && line.starts_with([' ', '\t']) => {
                    Some("an indented line: VirtualBox refuses it")
                }
                // What tells of tracked changes stands there in VMware's own files.
                _ if is_key && !is_ddb && extents && !trimmed.starts_with("changeTrackPath") => {
                    Some("a key behind the extents: VirtualBox refuses it")
                }
                _ if is_ddb && !extents => Some("a ddb key in front of the extents: VirtualBox refuses it"),
                _ => None,
            };
            if let Some(what) = what.filter(|_| !told) {
                told = true;
                findings.warning(id::LINE_ORDER, || self.odd(start, what).found(trimmed));
            }
            blank = trimmed.is_empty();
            extents |= is_extent;
        }
    }

    fn look_at_type(&self, findings: &mut Findings) {
        let Some(word) = self.parsed.said("createType") else {
            findings.warning(id::CREATE_TYPE, || self.odd(self.base, "the VMDK descriptor has no createType"));
            return;
        };
        if word.eq_ignore_ascii_case("custom") {
            return;
        }
        let Some((_, kinds)) = CREATE_TYPES.iter().find(|(known, _)| known.eq_ignore_ascii_case(word)) else {
            findings
                .warning(id::CREATE_TYPE, || self.at_key("createType", "a createType that is not known").found(word));
            return;
        };
        if let Some(line) = self.parsed.extents.iter().find(|line| line.sectors > 0 && !kinds.contains(&line.kind)) {
            findings.warning(id::CREATE_TYPE, || {
                let other = self.odd(line.byte, "an extent that a disk of this createType does not have");
                other.found(line.kind.word()).against(format!("createType {word}"))
            });
        }
    }

    fn look_at_content_ids(&self, findings: &mut Findings) {
        let (own, parent) = (self.parsed.byte_of("CID"), self.parsed.byte_of("parentCID"));
        let what = match (self.parsed.cid("CID"), own, parent) {
            (_, None, _) => "the VMDK descriptor has no CID",
            (None, ..) => "a CID that is no hex number",
            (_, _, None) => "the VMDK descriptor has no parentCID",
            (_, Some(own), Some(parent)) if parent < own => "parentCID in front of CID: QEMU takes it for the CID",
            (Some(cid), ..) => return self.look_at_long_content_id(cid, findings),
        };
        findings.warning(id::CID, || self.at_key("CID", what).found(self.parsed.get("CID").unwrap_or_default()));
    }

    /// Its last eight digits are the content id in what VMware's products write in place; in exports they are not.
    fn look_at_long_content_id(&self, cid: u32, findings: &mut Findings) {
        let Some(long) = self.parsed.said("ddb.longContentID") else { return };
        let tail = long.len().checked_sub(8).and_then(|front| long.get(front..));
        if tail.and_then(|tail| u32::from_str_radix(tail, 16).ok()) != Some(cid) {
            findings.note(id::LONG_CONTENT_ID, || {
                let other = self.at_key("ddb.longContentID", "the long content id does not end with the CID");
                other.found(long).against(format!("CID {cid:08x}"))
            });
        }
    }

    /// A geometry that spans more than the disk, or that no disk has.
    fn look_at_geometry(&self, findings: &mut Findings) {
        const CYLINDERS: &str = "ddb.geometry.cylinders";
        const HEADS: &str = "ddb.geometry.heads";
        const SECTORS: &str = "ddb.geometry.sectors";
        let number = |key: &str| self.parsed.said(key).and_then(|text| text.parse::<u64>().ok());
        for (key, most) in [(HEADS, MOST_HEADS), (SECTORS, MOST_SECTORS)] {
            if let Some(found) = number(key).filter(|found| *found > most) {
                findings.note(id::GEOMETRY, || {
                    let more = self.at_key(key, "a VMDK geometry that no disk has").found(format!("{key} {found}"));
                    more.expected(format!("at most {most}"))
                });
            }
        }
        let disk = self.parsed.extents.iter().fold(0u64, |sum, line| sum.saturating_add(line.sectors));
        let (Some(cylinders), Some(heads), Some(sectors)) = (number(CYLINDERS), number(HEADS), number(SECTORS)) else {
            return;
        };
        let spans = cylinders.saturating_mul(heads).saturating_mul(sectors);
        if spans > disk {
            findings.note(id::GEOMETRY, || {
                let more = self.at_key(CYLINDERS, "the VMDK geometry spans more than the disk");
                more.found(format!("{cylinders}/{heads}/{sectors} = {spans} sectors"))
                    .against(format!("the extents have {disk}"))
            });
        }
    }

    /// Names of files and comments that are not of the encoding that the text declares.
    fn look_at_encoding(&self, text: &[u8], findings: &mut Findings) {
        let Some(declared) = Declared::of(text) else { return };
        let mut byte = self.base;
        for line in text.split(|byte| matches!(byte, b'\n' | b'\r')) {
            let what = match declared.encoding {
                Some(encoding) if encoding.decode_without_bom_handling(line).1 => {
                    "a line of the VMDK descriptor is not of the encoding that it declares"
                }
                None if !line.is_ascii() && ExtentLine::claims(String::from_utf8_lossy(line).trim()) => {
                    "a name of the VMDK descriptor in an encoding that is not known"
                }
                _ => "",
            };
            if !what.is_empty() {
                findings
                    .warning(id::ENCODING, || self.odd(byte, what).found(line.escape_ascii()).against(declared.label));
                return;
            }
            byte += line.len() as u64 + 1;
        }
    }
}
