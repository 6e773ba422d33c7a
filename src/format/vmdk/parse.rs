//! Reads descriptors as they are found in the wild.
//!
//! Line ends of every system, a byte order mark, blanks and TABs around everything, missing quotes, keys in any order and case, keys
//! without their `ddb.`, declared encodings. The first of a key counts, as in VirtualBox and QEMU. The text ends at its first zero byte.

use std::collections::BTreeMap;
use std::path::Path;

use encoding_rs::{Encoding, UTF_8, WINDOWS_1252};

use super::extent::ExtentLine;
use super::header::{self, SparseHeader};
use crate::fault::{Fault, Kind};
use crate::image::SECTOR;
use crate::io::{InputFile, in_memory};

/// The longest descriptor that is read, in bytes: a thousand extents take 100 KiB.
const MAX_LEN: u64 = 16 << 20;
/// Parent CID of a disk without a parent.
pub const NO_PARENT: u32 = 0xFFFF_FFFF;

/// The keys that something is made of, in lower case.
const KEYS: [&str; 15] = [
    "cid",
    "parentcid",
    "createtype",
    "parentfilenamehint",
    "encryptionkeys",
    "keyid",
    "isnativesnapshot",
    "ddb.iofilters",
    "ddb.adaptertype",
    "ddb.geometry.cylinders",
    "ddb.geometry.heads",
    "ddb.geometry.sectors",
    "ddb.uuid.image",
    "ddb.uuid.parent",
    "ddb.longcontentid",
];

/// What a descriptor says.
#[derive(Debug, Default)]
pub struct Parsed {
    /// The extents, in order: their sum is the disk.
    pub extents: Vec<ExtentLine>,
    keys: BTreeMap<String, (u64, String)>,
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
        let encoding = declared_encoding(bytes).unwrap_or(match std::str::from_utf8(bytes) {
            Ok(_) => UTF_8,
            Err(_) => WINDOWS_1252,
        });
        let mut parsed = Parsed::default();
        let mut at = base;
        for raw in bytes.split(|byte| matches!(byte, b'\n' | b'\r')) {
            let line = encoding.decode_without_bom_handling(raw).0;
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
            let key = key.trim_matches([' ', '\t']).to_ascii_lowercase();
            // The others would only cost memory.
            if KEYS.iter().any(|known| *known == key || known.strip_prefix("ddb.") == Some(&key)) {
                self.keys.entry(key).or_insert((byte, value.to_string()));
            }
        }
        Ok(())
    }

    /// The value of a key, in whatever case it is written; a `ddb.` key also without its `ddb.`.
    pub fn get(&self, key: &str) -> Option<&str> {
        let key = key.to_ascii_lowercase();
        let found = self.keys.get(&key).or_else(|| self.keys.get(key.strip_prefix("ddb.")?));
        found.map(|(_, value)| value.as_str())
    }

    /// Byte of a key's line, for messages.
    pub fn byte_of(&self, key: &str) -> Option<u64> {
        self.keys.get(&key.to_ascii_lowercase()).map(|(byte, _)| *byte)
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
        !self.extents.is_empty() || self.keys.contains_key("createtype")
    }
}

/// The descriptor of a file, wherever in it.
pub fn descriptor_of(file: &InputFile) -> Result<Parsed, Fault> {
    let mut raw = [0; header::LEN];
    let got = file.read_up_to(0, &mut raw)?;
    match got == header::LEN && raw.starts_with(&header::MAGIC) {
        true => embedded(file, &SparseHeader::parse(&raw, file.name())?),
        false => text(file, 0, file.len()),
    }
}

/// The embedded descriptor; one that is all zero, or not there, says nothing.
pub fn embedded(file: &InputFile, header: &SparseHeader) -> Result<Parsed, Fault> {
    let (at, len) = (header.descriptor_offset.saturating_mul(SECTOR), header.descriptor_sectors.saturating_mul(SECTOR));
    if header.descriptor_offset == 0 || len == 0 {
        return Ok(Parsed::default());
    }
    if at.checked_add(len).is_none_or(|end| end > file.len()) {
        return Err(Fault::damaged(file.name(), 28, "the embedded VMDK descriptor lies outside the file")
            .found(format!("sector {}, {} sectors", header.descriptor_offset, header.descriptor_sectors))
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

/// The encoding that the text names, of those that are known. Windows' number 949 has a name of its own.
fn declared_encoding(bytes: &[u8]) -> Option<&'static Encoding> {
    let lines = bytes.split(|byte| matches!(byte, b'\n' | b'\r'));
    let keys = lines.filter_map(|line| std::str::from_utf8(line).ok()?.split_once('='));
    let names = |key: &str| ["encoding", "ddb.encoding"].iter().any(|name| key.trim().eq_ignore_ascii_case(name));
    let label = keys.filter(|(key, _)| names(key)).map(|(_, value)| value.trim().trim_matches('"')).next()?;
    let label = if label.eq_ignore_ascii_case("windows-949-2000") { "windows-949" } else { label };
    Some(Encoding::for_label(label.as_bytes()).unwrap_or(WINDOWS_1252))
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
