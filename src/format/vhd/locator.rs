//! Parent locators: the name of a differencing disk's parent in the ways of several systems.
//!
//! Source: "Virtual Hard Disk Image Format Specification" 1.0, section "Parent Locator Entry". An entry, all big-endian:
//!
//! | offset | bytes | field                | reading                                                      |
//! |-------:|------:|----------------------|--------------------------------------------------------------|
//! |      0 |     4 | platform code        | below; 0 is no entry                                         |
//! |      4 |     4 | platform data space  | not looked at: products write sectors or bytes               |
//! |      8 |     4 | platform data length | bytes of the text                                            |
//! |     16 |     8 | platform data offset | byte in the file                                             |
//!
//! | code   | text                                                                                                |
//! |--------|-----------------------------------------------------------------------------------------------------|
//! | `W2ru` | UTF-16, little-endian: the path from the child's folder, with backslashes                           |
//! | `W2ku` | UTF-16, little-endian: an absolute path of Windows; tapdisk and Xen Orchestra write a relative one  |
//! | `Wi2r`, `Wi2k` | the same in a code page, deprecated                                                         |
//! | `MacX` | UTF-8: a `file://` URL, or a relative path behind that                                              |
//! | `Mac ` | a Mac alias, which nobody else reads                                                                |

use byteorder::{BigEndian, ByteOrder, LittleEndian};
use encoding_rs::WINDOWS_1252;
use percent_encoding::percent_decode;

use crate::fault::Fault;
use crate::io::{InputFile, in_memory};

/// Length of an entry in bytes.
pub const LEN: usize = 24;
/// The longest text that is read, in bytes: 32,767 UTF-16 units are the longest path of Windows.
pub const MAX_TEXT: u64 = 65_536;

/// Field offsets, in the order of the table above.
pub mod at {
    pub const CODE: usize = 0;
    pub const DATA_SPACE: usize = 4;
    pub const DATA_LENGTH: usize = 8;
    pub const DATA_OFFSET: usize = 16;
}

/// Whose way of naming a locator is, in the order in which they are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// `W2ru`.
    WindowsRelative,
    /// `MacX`.
    MacUrl,
    /// `W2ku`.
    WindowsAbsolute,
    /// `Wi2r`.
    OldRelative,
    /// `Wi2k`.
    OldAbsolute,
}

/// Codes; VirtualBox misspelt those of the Mac.
const CODES: [(u32, Way); 6] = [
    (u32::from_be_bytes(*b"W2ru"), Way::WindowsRelative),
    (u32::from_be_bytes(*b"MacX"), Way::MacUrl),
    (0x4D16_3258, Way::MacUrl),
    (u32::from_be_bytes(*b"W2ku"), Way::WindowsAbsolute),
    (u32::from_be_bytes(*b"Wi2r"), Way::OldRelative),
    (u32::from_be_bytes(*b"Wi2k"), Way::OldAbsolute),
];

/// An entry that names a parent in a way that can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Locator {
    /// Byte of the entry in the file.
    pub byte: u64,
    /// How to read its text.
    pub way: Way,
    /// Bytes of the text.
    pub data_length: u32,
    /// Byte of the text in the file.
    pub data_offset: u64,
}

impl Locator {
    /// The entry at byte `byte`; `None`: it is empty, or of a kind that nobody else reads.
    pub fn parse(raw: &[u8; LEN], byte: u64) -> Option<Locator> {
        let code = BigEndian::read_u32(&raw[at::CODE..]);
        let (_, way) = CODES.iter().find(|(known, _)| *known == code)?;
        Some(Locator {
            byte,
            way: *way,
            data_length: BigEndian::read_u32(&raw[at::DATA_LENGTH..]),
            data_offset: BigEndian::read_u64(&raw[at::DATA_OFFSET..]),
        })
    }

    /// Reads the name; an error where its text does not lie in the file or is no text.
    pub fn name(&self, file: &InputFile) -> Result<String, Fault> {
        let odd = |what: &'static str| {
            Fault::damaged(file.name(), self.byte, what)
                .found(format!("{} bytes at byte {}", self.data_length, self.data_offset))
        };
        let len = u64::from(self.data_length);
        if len == 0 || len > MAX_TEXT {
            return Err(odd("VHD parent locator: length of the name"));
        }
        if self.data_offset.checked_add(len).is_none_or(|end| end > file.len()) {
            return Err(odd("VHD parent locator lies outside the file").against(format!("the file has {}", file.len())));
        }
        let mut raw = vec![0; in_memory(len)];
        file.read_exact(self.data_offset, &mut raw)?;
        let text = match self.way {
            Way::WindowsRelative | Way::WindowsAbsolute => {
                let units: Vec<u16> = raw.chunks_exact(2).map(LittleEndian::read_u16).collect();
                String::from_utf16(&units).map_err(|_| odd("VHD parent locator: a name that is no UTF-16"))?
            }
            Way::OldRelative | Way::OldAbsolute => WINDOWS_1252.decode_without_bom_handling(&raw).0.into_owned(),
            Way::MacUrl => {
                let text = raw.strip_prefix(b"file://").unwrap_or(&raw);
                let text = text.strip_prefix(b"localhost").unwrap_or(text);
                let decoded = percent_decode(text).decode_utf8();
                decoded.map_err(|_| odd("VHD parent locator: a name that is no UTF-8"))?.into_owned()
            }
        };
        Ok(text.split('\0').next().unwrap_or_default().to_string())
    }
}

/// An entry for a text of `len` bytes that has `space` bytes at byte `at`. Bytes, not sectors: so wrote Virtual PC, Hyper-V, VirtualBox
/// and tapdisk, whatever the specification says.
pub fn to_bytes(code: [u8; 4], len: usize, space: usize, at: u64) -> [u8; LEN] {
    let mut raw = [0; LEN];
    let field = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    raw[at::CODE..at::DATA_SPACE].copy_from_slice(&code);
    BigEndian::write_u32(&mut raw[at::DATA_SPACE..], field(space));
    BigEndian::write_u32(&mut raw[at::DATA_LENGTH..], field(len));
    BigEndian::write_u64(&mut raw[at::DATA_OFFSET..], at);
    raw
}

/// A text as Windows keeps it.
pub fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// A relative path as Windows needs it: with backslashes, beginning with a dot.
pub fn windows_relative(path: &str) -> String {
    let path = path.replace('/', "\\");
    if path.starts_with("..\\") { path } else { format!(".\\{path}") }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::io::Gate;

    fn named(code: u32, text: &[u8]) -> Result<String, Fault> {
        let mut raw = [0; LEN];
        BigEndian::write_u32(&mut raw[at::CODE..], code);
        BigEndian::write_u32(&mut raw[at::DATA_LENGTH..], u32::try_from(text.len()).unwrap());
        BigEndian::write_u64(&mut raw[at::DATA_OFFSET..], 512);
        let mut gate = Gate::new();
        gate.lay_over("child.vhd", [vec![0; 512], text.to_vec()].concat());
        let file = gate.typed(Path::new("child.vhd")).unwrap();
        Locator::parse(&raw, 1088).unwrap().name(&file)
    }

    #[test]
    fn names_are_read_in_the_ways_of_all_systems() {
        let code = |code: &[u8; 4]| u32::from_be_bytes(*code);
        assert_eq!(named(code(b"W2ru"), &utf16(".\\Grün.vhd")).unwrap(), ".\\Grün.vhd");
        assert_eq!(named(code(b"W2ku"), &utf16("C:\\a\\b.vhd\0")).unwrap(), "C:\\a\\b.vhd");
        assert_eq!(named(code(b"MacX"), b"file:///Users/a%20b/c.vhd").unwrap(), "/Users/a b/c.vhd");
        assert_eq!(named(code(b"MacX"), b"file://localhost/c.vhd").unwrap(), "/c.vhd");
        assert_eq!(named(0x4D16_3258, b"file://./c.vhd").unwrap(), "./c.vhd");
        assert_eq!(named(code(b"Wi2r"), b".\\d\xFC.vhd").unwrap(), ".\\dü.vhd");
        assert_eq!(Locator::parse(&[0; LEN], 0), None);
        // Half a pair, no UTF-8, nothing, more than the file has.
        assert_eq!(named(code(b"W2ru"), &[0x00, 0xD8]).unwrap_err().byte(), Some(1088));
        assert_eq!(named(code(b"MacX"), b"file:///%FF").unwrap_err().byte(), Some(1088));
        assert_eq!(named(code(b"W2ru"), b"").unwrap_err().byte(), Some(1088));
        let mut raw = [0; LEN];
        raw[..4].copy_from_slice(b"W2ru");
        BigEndian::write_u32(&mut raw[at::DATA_LENGTH..], 10);
        BigEndian::write_u64(&mut raw[at::DATA_OFFSET..], u64::MAX - 3);
        let mut gate = Gate::new();
        gate.lay_over("child.vhd", vec![0; 512]);
        let file = gate.typed(Path::new("child.vhd")).unwrap();
        assert!(Locator::parse(&raw, 1088).unwrap().name(&file).is_err());
    }
}
