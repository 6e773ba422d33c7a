//! Reads descriptors as they are found in the wild.
//!
//! Line ends of every system, a byte order mark, blanks and TABs around everything, missing quotes, keys in any order and case, keys
//! without their `ddb.`, declared encodings. The first of a key counts, as in VirtualBox and QEMU. The text ends at its first zero byte.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::Path;

use encoding_rs::{Encoding, UTF_8, WINDOWS_1252};
use uuid::Uuid;

use super::extent::ExtentLine;
use super::header;
use crate::fault::{Fault, Kind};
use crate::image::SECTOR;
use crate::io::{InputFile, in_memory};

/// The longest descriptor that is read, in bytes: a thousand extents take 100 KiB.
const MAX_LEN: u64 = 16 << 20;
/// Parent CID of a disk without a parent.
pub const NO_PARENT: u32 = 0xFFFF_FFFF;

/// The extents that are read: 62 TiB in pieces of 2 GiB are 31,744.
pub const MAX_EXTENTS: usize = 1 << 16;
/// The longest value that is kept, in characters; names of files are shorter everywhere.
const MAX_VALUE: usize = 4096;
/// Repeated keys that are reported.
const MOST_REPEATED: usize = 20;

/// The keys that something is made of or that `info` tells, as products write them.
const KEYS: [&str; 26] = [
    "version",
    "encoding",
    "CID",
    "parentCID",
    "createType",
    "parentFileNameHint",
    "encryptionKeys",
    "keyID",
    "isNativeSnapshot",
    "changeTrackPath",
    "ddb.adapterType",
    "ddb.comment",
    "ddb.geometry.cylinders",
    "ddb.geometry.heads",
    "ddb.geometry.sectors",
    "ddb.iofilters",
    "ddb.longContentID",
    "ddb.thinProvisioned",
    "ddb.toolsInstallType",
    "ddb.toolsVersion",
    "ddb.uuid",
    "ddb.uuid.image",
    "ddb.uuid.modification",
    "ddb.uuid.parent",
    "ddb.uuid.parentmodification",
    "ddb.virtualHWVersion",
];

/// What a descriptor says.
#[derive(Debug, Default)]
pub struct Parsed {
    /// The extents, in order: their sum is the disk.
    pub extents: Vec<ExtentLine>,
    /// Keys that came again with another value: the byte of the line, and the key.
    pub repeated: Vec<(u64, &'static str)>,
    /// The first line, which some writers sign.
    pub first_line: String,
    keys: BTreeMap<&'static str, (u64, String)>,
}

impl Parsed {
    /// Parses a text that begins at byte `base` of `file`.
    pub fn parse(bytes: &[u8], file: &Path, base: u64) -> Result<Parsed, Fault> {
        let bytes = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
        let mark = b"\xEF\xBB\xBF";
        let (bytes, base) = match bytes.strip_prefix(mark) {
            Some(rest) => (rest, base + mark.len() as u64),
            None => (bytes, base),
        };
        let encoding = match (Declared::of(bytes), std::str::from_utf8(bytes)) {
            (Some(declared), _) => declared.encoding.unwrap_or(WINDOWS_1252),
            (None, Ok(_)) => UTF_8,
            (None, Err(_)) => WINDOWS_1252,
        };
        let mut parsed = Parsed::default();
        let mut at = base;
        for raw in bytes.split(|byte| matches!(byte, b'\n' | b'\r')) {
            let line = encoding.decode_without_bom_handling(raw).0;
            if at == base {
                parsed.first_line = line.trim().chars().take(MAX_VALUE).collect();
            }
            parsed.line(line.trim_matches([' ', '\t']), file, at)?;
            at += raw.len() as u64 + 1;
        }
        Ok(parsed)
    }

    fn line(&mut self, line: &str, file: &Path, byte: u64) -> Result<(), Fault> {
        if ExtentLine::claims(line) {
            let extent = ExtentLine::parse(line, byte).map_err(|what| {
                Fault::new(Kind::Damaged, file, format!("VMDK descriptor: {what}")).at(byte).found(line)
            })?;
            if self.extents.len() == MAX_EXTENTS {
                return Err(Fault::new(Kind::OverLimit, file, "VMDK descriptor: too many extents")
                    .at(byte)
                    .expected(format!("at most {MAX_EXTENTS}")));
            }
            self.extents.push(extent);
        } else if !line.starts_with('#') && ExtentLine::resembles(line) {
            let what = "VMDK descriptor: a damaged extent line";
            return Err(Fault::new(Kind::Damaged, file, what).at(byte).found(line));
        } else if !line.starts_with('#')
            && let Some((key, value)) = line.split_once('=')
        {
            let value = value.trim_matches([' ', '\t']);
            let value = match value.strip_prefix('"') {
                Some(quoted) => quoted.split('"').next().unwrap_or_default(),
                None => value,
            };
            let key = key.trim_matches([' ', '\t']);
            // The others would only cost memory.
            if let Some(known) = known(key) {
                let value: String = value.chars().take(MAX_VALUE).collect();
                match self.keys.entry(known) {
                    Entry::Vacant(place) => {
                        place.insert((byte, value));
                    }
                    Entry::Occupied(kept) if kept.get().1 != value && self.repeated.len() < MOST_REPEATED => {
                        self.repeated.push((byte, known));
                    }
                    Entry::Occupied(_) => {}
                }
            }
        }
        Ok(())
    }

    /// The value of a key of [`KEYS`], in whatever case it was written; a `ddb.` key also without its `ddb.`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.keys.get(key).map(|(_, value)| value.as_str())
    }

    /// The value of a key, where it is not empty.
    pub fn said(&self, key: &str) -> Option<&str> {
        self.get(key).filter(|value| !value.is_empty())
    }

    /// Byte of a key's line, for messages.
    pub fn byte_of(&self, key: &str) -> Option<u64> {
        self.keys.get(key).map(|(byte, _)| *byte)
    }

    /// Every known key that has a value, by name.
    pub fn recorded(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.keys.iter().map(|(key, (_, value))| (*key, value.as_str())).filter(|(_, value)| !value.is_empty())
    }

    /// Is there a parent by VMware's rules: a content id that is not the one that says none?
    pub fn is_child(&self) -> bool {
        self.get("parentCID").is_some() && self.cid("parentCID") != Some(NO_PARENT)
    }

    /// A uuid of VirtualBox, where it is one and not nil.
    pub fn uuid(&self, key: &str) -> Option<Uuid> {
        self.get(key).and_then(|text| Uuid::parse_str(text).ok()).filter(|uuid| !uuid.is_nil())
    }

    /// A content id: hex, or decimal where it has more than eight digits (one writer does that).
    pub fn cid(&self, key: &str) -> Option<u32> {
        let text = self.get(key)?;
        match text.len() {
            1..=8 => u32::from_str_radix(text, 16).ok(),
            _ => text.parse().ok(),
        }
    }

    /// True where a text says so much about a disk that it is a descriptor.
    pub fn is_one(&self) -> bool {
        !self.extents.is_empty() || self.keys.contains_key("createType")
    }
}

/// The descriptor of a file, wherever in it; `None` where the file is no VMDK that has one.
pub fn descriptor_of(file: &InputFile) -> Result<Option<Parsed>, Fault> {
    let mut raw = [0; header::LEN];
    let got = file.read_up_to(0, &mut raw)?;
    if got == header::LEN && raw.starts_with(&header::MAGIC) {
        return embedded(file, &raw).map(Some);
    }
    match printable(raw.get(..got).unwrap_or_default()) {
        true => text(file, 0, file.len()).map(|parsed| Some(parsed).filter(Parsed::is_one)),
        false => Ok(None),
    }
}

/// The descriptor in the first bytes of a file, as far as they hold it; `None` where they are no VMDK's that has one.
pub fn descriptor_in_head(head: &[u8], file: &Path) -> Option<Parsed> {
    let text = match head.first_chunk::<{ header::LEN }>() {
        Some(raw) if raw.starts_with(&header::MAGIC) => {
            let (offset, sectors) = header::descriptor_area(raw);
            // A header whose descriptor lies behind the bytes in hand may still have one.
            let start = in_memory(offset.checked_mul(SECTOR)?).min(head.len());
            let len = in_memory(sectors.checked_mul(SECTOR)?);
            head.get(start..)?.get(..len).unwrap_or_else(|| head.get(start..).unwrap_or_default())
        }
        _ if printable(head) => head,
        _ => return None,
    };
    Parsed::parse(text, file, 0).ok()
}

/// Can this be the beginning of a text? It is up to its first zero byte.
pub fn printable(head: &[u8]) -> bool {
    let text = head.split(|byte| *byte == 0).next().unwrap_or_default();
    !text.is_empty() && text.iter().all(|byte| *byte >= 0x20 || matches!(byte, b'\t' | b'\n' | b'\r' | 0x1B))
}

/// The descriptor in the area that a sparse header sets aside; one that is all zero, or not there, says nothing.
pub fn embedded(file: &InputFile, raw: &[u8; header::LEN]) -> Result<Parsed, Fault> {
    let (offset, sectors) = header::descriptor_area(raw);
    let (at, len) = (offset.saturating_mul(SECTOR), sectors.saturating_mul(SECTOR));
    if offset == 0 || len == 0 {
        return Ok(Parsed::default());
    }
    if at.checked_add(len).is_none_or(|end| end > file.len()) {
        return Err(Fault::damaged(file.name(), 28, "the embedded VMDK descriptor lies outside the file")
            .found(format!("sector {offset}, {sectors} sectors"))
            .against(format!("the file has {} bytes", file.len())));
    }
    text(file, at, len)
}

/// The descriptor that is a text of `len` bytes from `at`.
pub fn text(file: &InputFile, at: u64, len: u64) -> Result<Parsed, Fault> {
    if len > MAX_LEN {
        return Err(Fault::new(Kind::OverLimit, file.name(), "VMDK descriptor")
            .found(format!("{len} bytes"))
            .expected(format!("at most {MAX_LEN}")));
    }
    let mut bytes = vec![0; in_memory(len)];
    file.read_exact(at, &mut bytes)?;
    Parsed::parse(&bytes, file.name(), at)
}

/// The key as it is kept: compared without case, a `ddb.` key also without its `ddb.`.
fn known(key: &str) -> Option<&'static str> {
    let same = |known: &&&str| known.eq_ignore_ascii_case(key);
    let bare = |known: &&&str| known.strip_prefix("ddb.").is_some_and(|bare| bare.eq_ignore_ascii_case(key));
    KEYS.iter().find(same).or_else(|| KEYS.iter().find(bare)).copied()
}

/// The encoding that a text names.
pub struct Declared<'a> {
    /// Its name, as it stands there.
    pub label: &'a str,
    /// It; `None` where it is not known.
    pub encoding: Option<&'static Encoding>,
}

impl<'a> Declared<'a> {
    /// That of a text, where it names one. Windows' number 949 has a name of its own.
    pub fn of(bytes: &'a [u8]) -> Option<Declared<'a>> {
        let lines = bytes.split(|byte| matches!(byte, b'\n' | b'\r'));
        let keys = lines.filter_map(|line| std::str::from_utf8(line).ok()?.split_once('='));
        let names = |key: &str| ["encoding", "ddb.encoding"].iter().any(|name| key.trim().eq_ignore_ascii_case(name));
        let label = keys.filter(|(key, _)| names(key)).map(|(_, value)| value.trim().trim_matches('"')).next()?;
        let known = if label.eq_ignore_ascii_case("windows-949-2000") { "windows-949" } else { label };
        Some(Declared { label, encoding: Encoding::for_label(known.as_bytes()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &[u8]) -> Parsed {
        Parsed::parse(text, Path::new("d.vmdk"), 0).unwrap()
    }

    #[test]
    fn texts_from_the_wild_say_the_same() {
        let plain = b"# Disk DescriptorFile\nversion=1\nCID=0a0b0c0d\nparentCID=ffffffff\ncreateType=\"custom\"\n\nRW 8 FLAT \"a b\" 4\nddb.adapterType = \"ide\"\n";
        let crlf = String::from_utf8_lossy(plain).replace('\n', "\r\n").into_bytes();
        let cr: Vec<u8> = plain.iter().map(|b| if *b == b'\n' { b'\r' } else { *b }).collect();
        let bom = [b"\xEF\xBB\xBF".as_slice(), plain].concat();
        let blanks = b"version = 1 \n\t CID = \"A0B0C0D\"\t\nPARENTCID=FFFFFFFF \ncreatetype= custom\n\n rw 8 flat \"a b\" 4 \n\nadapterType=ide\n\0\0garbage=1".to_vec();
        for text in [plain.to_vec(), crlf, cr, bom, blanks] {
            let parsed = parse(&text);
            assert_eq!((parsed.cid("CID"), parsed.cid("parentCID")), (Some(0x0a0b_0c0d), Some(NO_PARENT)));
            assert_eq!((parsed.get("createType"), parsed.get("ddb.adapterType")), (Some("custom"), Some("ide")));
            assert_eq!(parsed.extents.len(), 1);
            assert_eq!(parsed.extents[0].file.as_deref(), Some("a b"));
            assert_eq!(parsed.get("garbage"), None);
            assert!(parsed.is_one());
        }
        assert!(!parse(b"hello = world\n").is_one());
        assert_eq!(parse(b"CID=3735928559\n").cid("CID"), Some(0xDEAD_BEEF), "decimal, as one writer has it");
        assert_eq!(parse(b"CID=1\nCID=2\n").cid("CID"), Some(1), "the first counts");
    }

    #[test]
    fn names_are_decoded_as_the_text_declares() {
        let name = |text: &[u8]| parse(text).extents[0].file.clone().unwrap();
        assert_eq!(name(b"encoding=\"windows-1252\"\nRW 1 FLAT \"d\xFCsk\" 0\n"), "d\u{fc}sk");
        assert_eq!(name(b"encoding=\"GBK\"\nRW 1 FLAT \"\xD6\xD0\" 0\n"), "\u{4e2d}");
        assert_eq!(name(b"encoding=\"windows-949-2000\"\nRW 1 FLAT \"\xB0\xA1\" 0\n"), "\u{ac00}");
        assert_eq!(name("encoding=\"UTF-8\"\nRW 1 FLAT \"\u{4e2d}\" 0\n".as_bytes()), "\u{4e2d}");
        assert_eq!(name(b"RW 1 FLAT \"d\xFCsk\" 0\n"), "d\u{fc}sk", "no declaration, no UTF-8");
    }

    #[test]
    fn a_broken_extent_line_is_named_with_its_byte() {
        let fault = Parsed::parse(b"a=1\r\nRW x FLAT \"a\" 0\n", Path::new("d.vmdk"), 100).unwrap_err();
        assert_eq!(fault.byte(), Some(105));
        assert!(fault.to_string().contains("RW x FLAT"), "{fault}");
    }
}
