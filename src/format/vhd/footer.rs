//! The VHD footer: the last 512 bytes of every VHD, repeated at byte 0 of dynamic and differencing ones.
//!
//! Source: "Virtual Hard Disk Image Format Specification" 1.0, section "Hard Disk Footer Format". All big-endian.
//!
//! | offset | bytes | field               | reading                                                   |
//! |-------:|------:|---------------------|-----------------------------------------------------------|
//! |      0 |     8 | cookie              | must be `conectix`                                        |
//! |      8 |     4 | features            | not looked at; 2 is written                               |
//! |     12 |     4 | file format version | major must be 1                                           |
//! |     16 |     8 | data offset         | byte of the dynamic header; all ones in a fixed disk      |
//! |     24 |     4 | time stamp          | seconds since 2000-01-01 UTC                              |
//! |     28 |     4 | creator application | shown; decides nothing (old tapdisk apart)                |
//! |     32 |     4 | creator version     | shown                                                     |
//! |     36 |     4 | creator host OS     | shown                                                     |
//! |     40 |     8 | original size       | not looked at                                             |
//! |     48 |     8 | current size        | bytes: the size of the disk, whatever the geometry says   |
//! |     56 |     4 | disk geometry       | cylinders (2), heads (1), sectors a track (1); shown      |
//! |     60 |     4 | disk type           | 2 fixed, 3 dynamic, 4 differencing                        |
//! |     64 |     4 | checksum            | ones' complement of the sum of all other bytes            |
//! |     68 |    16 | unique id           | shown in stored order                                     |
//! |     84 |     1 | saved state         | 1: a saved machine needs this disk as it is               |
//! |     85 |   427 | reserved            | byte 85 is tapdisk's "hidden"                             |

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use byteorder::{BigEndian, ByteOrder};
use uuid::Uuid;

use super::geometry;
use crate::fault::{Fault, Kind};
use crate::image::{Creator, Geometry};

/// Length of a footer in bytes.
pub const LEN: usize = 512;
/// The first eight bytes.
pub const COOKIE: [u8; 8] = *b"conectix";
/// XenServer writes this over the cookie of a disk that must not be used.
const COOKIE_DISABLED: [u8; 8] = *b"v_poison";
/// The one feature bit that is always set.
const FEATURES: u32 = 2;
/// Major version 1.
const VERSION: u32 = 0x0001_0000;
/// 2000-01-01 in seconds since 1970.
const EPOCH_2000: u64 = 946_684_800;

/// Field offsets, in the order of the table above.
pub mod at {
    pub const FEATURES: usize = 8;
    pub const VERSION: usize = 12;
    pub const DATA_OFFSET: usize = 16;
    pub const TIME_STAMP: usize = 24;
    pub const CREATOR_APPLICATION: usize = 28;
    pub const CREATOR_VERSION: usize = 32;
    pub const CREATOR_OS: usize = 36;
    pub const ORIGINAL_SIZE: usize = 40;
    pub const CURRENT_SIZE: usize = 48;
    pub const GEOMETRY: usize = 56;
    pub const DISK_TYPE: usize = 60;
    pub const CHECKSUM: usize = 64;
    pub const UNIQUE_ID: usize = 68;
    pub const SAVED_STATE: usize = 84;
    pub const HIDDEN: usize = 85;
}

/// The disk types that exist in the field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskType {
    /// All data in a row from byte 0.
    Fixed,
    /// Blocks as they were first written.
    Dynamic,
    /// As dynamic, over a parent.
    Differencing,
}

/// A footer whose cookie, checksum, version and type are right.
#[derive(Clone)]
pub struct Footer {
    /// Byte offset of the dynamic header; all ones in a fixed disk.
    pub data_offset: u64,
    /// Creation time in seconds since 2000-01-01 UTC.
    pub time_stamp: u32,
    /// Who wrote it.
    pub creator_application: [u8; 4],
    /// Major version in the high half, minor in the low.
    pub creator_version: u32,
    /// `Wi2k`, `Mac ` or anything.
    pub creator_os: [u8; 4],
    /// Size of the disk in bytes.
    pub current_size: u64,
    /// As recorded.
    pub geometry: Geometry,
    /// Its kind.
    pub disk_type: DiskType,
    /// Identity of the disk; children name their parent by it.
    pub unique_id: Uuid,
    /// A saved machine state belongs to this disk.
    pub saved_state: bool,
    raw: Box<[u8; LEN]>,
}

impl Footer {
    /// Parses and verifies. `base` is where `raw` begins in `file`; it serves messages only.
    pub fn parse(raw: &[u8; LEN], file: &Path, base: u64) -> Result<Footer, Fault> {
        if !raw.starts_with(&COOKIE) {
            return Err(Fault::damaged(file, base, "VHD footer cookie")
                .found(raw[..8].escape_ascii())
                .expected("conectix"));
        }
        let (stored, computed) = (BigEndian::read_u32(&raw[at::CHECKSUM..]), checksum(raw, at::CHECKSUM));
        if stored != computed && !hidden_without_checksum(raw, stored) {
            return Err(Fault::damaged(file, base + at::CHECKSUM as u64, "VHD footer checksum")
                .found(format!("{stored:#010x}"))
                .expected(format!("{computed:#010x}")));
        }
        let version = BigEndian::read_u32(&raw[at::VERSION..]);
        if version >> 16 != 1 {
            return Err(Fault::new(Kind::Unsupported, file, "VHD file format version")
                .at(base + at::VERSION as u64)
                .found(format!("{version:#010x}"))
                .expected("0x00010000"));
        }
        let disk_type = match BigEndian::read_u32(&raw[at::DISK_TYPE..]) {
            2 => DiskType::Fixed,
            3 => DiskType::Dynamic,
            4 => DiskType::Differencing,
            other => {
                return Err(Fault::new(Kind::Unsupported, file, "VHD disk type")
                    .at(base + at::DISK_TYPE as u64)
                    .found(other)
                    .expected("2 (fixed), 3 (dynamic) or 4 (differencing)"));
            }
        };
        let geometry = Geometry {
            cylinders: BigEndian::read_u16(&raw[at::GEOMETRY..]).into(),
            heads: raw[at::GEOMETRY + 2].into(),
            sectors: raw[at::GEOMETRY + 3].into(),
        };
        Ok(Footer {
            data_offset: BigEndian::read_u64(&raw[at::DATA_OFFSET..]),
            time_stamp: BigEndian::read_u32(&raw[at::TIME_STAMP..]),
            creator_application: bytes(raw, at::CREATOR_APPLICATION),
            creator_version: BigEndian::read_u32(&raw[at::CREATOR_VERSION..]),
            creator_os: bytes(raw, at::CREATOR_OS),
            current_size: BigEndian::read_u64(&raw[at::CURRENT_SIZE..]),
            geometry,
            disk_type,
            unique_id: Uuid::from_bytes(bytes(raw, at::UNIQUE_ID)),
            saved_state: raw[at::SAVED_STATE] != 0,
            raw: Box::new(*raw),
        })
    }

    /// The names of the fields in which two footers differ; empty where they are the same bytes.
    pub fn differences(&self, other: &Footer) -> Vec<&'static str> {
        const FIELDS: [(&str, usize, usize); 14] = [
            ("features", 8, at::VERSION),
            ("file format version", at::VERSION, at::DATA_OFFSET),
            ("data offset", at::DATA_OFFSET, at::TIME_STAMP),
            ("time stamp", at::TIME_STAMP, at::CREATOR_APPLICATION),
            ("creator application", at::CREATOR_APPLICATION, at::CREATOR_VERSION),
            ("creator version", at::CREATOR_VERSION, at::CREATOR_OS),
            ("creator host OS", at::CREATOR_OS, at::ORIGINAL_SIZE),
            ("original size", at::ORIGINAL_SIZE, at::CURRENT_SIZE),
            ("current size", at::CURRENT_SIZE, at::GEOMETRY),
            ("disk geometry", at::GEOMETRY, at::DISK_TYPE),
            ("disk type", at::DISK_TYPE, at::CHECKSUM),
            ("unique id", at::UNIQUE_ID, at::SAVED_STATE),
            ("saved state", at::SAVED_STATE, at::HIDDEN),
            ("reserved", at::HIDDEN, LEN),
        ];
        let differ = |a: usize, b: usize| self.raw.get(a..b) != other.raw.get(a..b);
        FIELDS.iter().filter(|(_, a, b)| differ(*a, *b)).map(|(name, ..)| *name).collect()
    }

    /// The first byte in which this footer differs from another.
    pub fn first_difference(&self, other: &Footer) -> usize {
        self.raw.iter().zip(other.raw.iter()).position(|(a, b)| a != b).unwrap_or_default()
    }

    /// In how many bytes does this footer differ from others?
    pub fn bytes_that_differ(&self, other: &[u8; LEN]) -> usize {
        self.raw.iter().zip(other).filter(|(a, b)| a != b).count()
    }

    /// When the disk was made, as the footer says.
    pub fn created(&self) -> SystemTime {
        time_of(self.time_stamp)
    }

    /// Who wrote it, in words.
    pub fn creator(&self) -> Creator {
        let text = |raw: &[u8; 4]| raw.escape_ascii().to_string().replace("\\x00", "").trim().to_string();
        Creator {
            application: Some(text(&self.creator_application)),
            product: product(&self.creator_application),
            version: Some(format!("{}.{}", self.creator_version >> 16, self.creator_version & 0xFFFF)),
            host_os: Some(text(&self.creator_os)),
        }
    }
}

/// A footer to be written.
pub struct NewFooter {
    /// Byte offset of the dynamic header; all ones in a fixed disk.
    pub data_offset: u64,
    /// When the disk was made, in seconds since 2000-01-01 UTC.
    pub time_stamp: u32,
    /// Size of the disk in bytes.
    pub size: u64,
    /// Its kind.
    pub disk_type: DiskType,
    /// Its identity.
    pub unique_id: Uuid,
}

impl NewFooter {
    /// As it stands in the file.
    ///
    /// The creator is Windows' own, since QEMU 7 cuts a disk of any other to its geometry; the geometry is rounded down, since Xen's
    /// checker refuses one that spans more than the disk. So one file serves Hyper-V, Azure and Xen.
    pub fn to_bytes(&self) -> [u8; LEN] {
        let mut raw = [0; LEN];
        raw[..8].copy_from_slice(&COOKIE);
        BigEndian::write_u32(&mut raw[at::FEATURES..], FEATURES);
        BigEndian::write_u32(&mut raw[at::VERSION..], VERSION);
        BigEndian::write_u64(&mut raw[at::DATA_OFFSET..], self.data_offset);
        BigEndian::write_u32(&mut raw[at::TIME_STAMP..], self.time_stamp);
        raw[at::CREATOR_APPLICATION..at::CREATOR_VERSION].copy_from_slice(b"win ");
        BigEndian::write_u32(&mut raw[at::CREATOR_VERSION..], 0x000A_0000);
        raw[at::CREATOR_OS..at::ORIGINAL_SIZE].copy_from_slice(b"Wi2k");
        BigEndian::write_u64(&mut raw[at::ORIGINAL_SIZE..], self.size);
        BigEndian::write_u64(&mut raw[at::CURRENT_SIZE..], self.size);
        let Geometry { cylinders, heads, sectors } = geometry::of(self.size);
        BigEndian::write_u32(&mut raw[at::GEOMETRY..], cylinders << 16 | heads << 8 | sectors);
        let disk_type = match self.disk_type {
            DiskType::Fixed => 2,
            DiskType::Dynamic => 3,
            DiskType::Differencing => 4,
        };
        BigEndian::write_u32(&mut raw[at::DISK_TYPE..], disk_type);
        raw[at::UNIQUE_ID..at::SAVED_STATE].copy_from_slice(self.unique_id.as_bytes());
        let sum = checksum(&raw, at::CHECKSUM);
        BigEndian::write_u32(&mut raw[at::CHECKSUM..], sum);
        raw
    }
}

/// What 512 bytes claim to be, by their first eight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// A footer.
    Footer,
    /// A footer that XenServer disabled.
    Disabled,
    /// Nothing.
    None,
}

/// Looks at the cookie alone.
pub fn claim(raw: &[u8; LEN]) -> Claim {
    match () {
        _ if raw.starts_with(&COOKIE) => Claim::Footer,
        _ if raw.starts_with(&COOKIE_DISABLED) => Claim::Disabled,
        _ => Claim::None,
    }
}

/// The refusal of a disk that XenServer disabled.
pub fn disabled(file: &Path, base: u64) -> Fault {
    Fault::new(Kind::Unsupported, file, "VHD disabled by XenServer")
        .at(base)
        .found("cookie v_poison")
        .expected("conectix")
}

/// A fixed disk's footer by its type, with its own place `at` as its size: that much of it is true whatever else is damaged.
pub fn looks_fixed_at(raw: &[u8; LEN], at: u64) -> bool {
    BigEndian::read_u32(&raw[at::DISK_TYPE..]) == 2 && BigEndian::read_u64(&raw[at::CURRENT_SIZE..]) == at
}

/// A fixed disk's footer in its place, of which only the cookie is damaged: its checksum fits once that is put right. Without this a
/// fixed VHD called .img would be taken for a raw disk, and its footer for guest data.
pub fn is_fixed_with_a_damaged_cookie(raw: &[u8; LEN], at: u64) -> bool {
    let mut mended = *raw;
    mended.iter_mut().zip(COOKIE).for_each(|(byte, right)| *byte = right);
    looks_fixed_at(raw, at) && BigEndian::read_u32(&raw[at::CHECKSUM..]) == checksum(&mended, at::CHECKSUM)
}

/// The time that a VHD records as so many seconds since 2000-01-01 UTC.
pub fn time_of(stamp: u32) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(EPOCH_2000 + u64::from(stamp))
}

/// A time as VHDs record it: seconds since 2000-01-01 UTC; earlier ones are 0.
pub fn time_stamp(time: SystemTime) -> u32 {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()).saturating_sub(EPOCH_2000);
    u32::try_from(seconds).unwrap_or(u32::MAX)
}

/// The products known by their creator application.
fn product(application: &[u8; 4]) -> Option<&'static str> {
    Some(match application {
        b"vpc " => "Virtual PC",
        b"vs  " => "Virtual Server",
        b"win " => "Hyper-V or Windows",
        b"d2v\0" => "Disk2vhd",
        b"vbox" => "VirtualBox",
        b"qemu" | b"qem2" => "QEMU",
        b"tap\0" => "XenServer (tapdisk)",
        b"CTXS" => "XenConvert",
        b"wa\0\0" => "Azure",
        b"xo  " => "Xen Orchestra",
        b"mVHD" => "MiniVHD (86Box, PCem)",
        _ => return None,
    })
}

/// `N` bytes at a field's offset.
fn bytes<const N: usize>(raw: &[u8; LEN], at: usize) -> [u8; N] {
    raw.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
}

/// The checksum of VHD structures: ones' complement of the 32-bit sum of all bytes, those of the field at `field` counted as zero.
pub fn checksum(raw: &[u8], field: usize) -> u32 {
    let sum = |bytes: &[u8]| bytes.iter().fold(0u32, |sum, byte| sum.wrapping_add(u32::from(*byte)));
    !(sum(raw).wrapping_sub(sum(raw.get(field..field + 4).unwrap_or_default())))
}

/// tapdisk set byte 85 ("hidden") to 1 without computing the checksum anew (blktap, libvhd.c): then the checksum without it counts.
fn hidden_without_checksum(raw: &[u8; LEN], stored: u32) -> bool {
    let mut plain = *raw;
    plain[at::HIDDEN] = 0;
    raw[at::HIDDEN] != 0 && stored == checksum(&plain, at::CHECKSUM)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The worked footer of a fixed 1 GiB disk: written out from the specification, accepted by qemu-img and 7-Zip.
    fn worked() -> [u8; LEN] {
        let mut raw = [0; LEN];
        let words: [u32; 21] = [
            0x636f6e65, 0x63746978, 0x00000002, 0x00010000, 0xffffffff, 0xffffffff, 0x2f000000, 0x77696e20, 0x000a0000,
            0x5769326b, 0x00000000, 0x40000000, 0x00000000, 0x40000000, 0x0820103f, 0x00000002, 0xfffff032, 0x00010203,
            0x04050607, 0x08090a0b, 0x0c0d0e0f,
        ];
        for (place, word) in raw.chunks_exact_mut(4).zip(words) {
            BigEndian::write_u32(place, word);
        }
        raw
    }

    #[test]
    fn the_worked_footer_is_read_field_by_field() {
        let footer = Footer::parse(&worked(), Path::new("f.vhd"), 0).unwrap();
        assert_eq!(footer.disk_type, DiskType::Fixed);
        assert_eq!(footer.current_size, 1 << 30);
        assert_eq!(footer.data_offset, u64::MAX);
        assert_eq!(footer.geometry, Geometry { cylinders: 2080, heads: 16, sectors: 63 });
        assert_eq!(footer.unique_id.to_string(), "00010203-0405-0607-0809-0a0b0c0d0e0f");
        let creator = footer.creator();
        assert_eq!((creator.application.as_deref(), creator.version.as_deref()), (Some("win"), Some("10.0")));
        assert_eq!((creator.host_os.as_deref(), creator.product), (Some("Wi2k"), Some("Hyper-V or Windows")));
        // 0x2f000000 = 788529152 = 9126 days and 42752 s after 2000-01-01: 2024-12-26, 11 h 52 min 32 s.
        assert_eq!(humantime::format_rfc3339_seconds(footer.created()).to_string(), "2024-12-26T11:52:32Z");
        assert!(!footer.saved_state);
    }

    #[test]
    fn one_flipped_byte_is_refused_naming_both_checksums_and_the_offset() {
        let mut raw = worked();
        raw[60 + 3] = 3;
        let Err(fault) = Footer::parse(&raw, Path::new("f.vhd"), 1024) else { panic!("accepted") };
        let text = "f.vhd: at byte 1088: VHD footer checksum (found 0xfffff032, expected 0xfffff031)";
        assert_eq!(fault.to_string(), text);
    }

    #[test]
    fn a_hidden_xen_disk_whose_checksum_was_not_redone_is_taken() {
        let mut raw = worked();
        raw[85] = 1;
        assert!(Footer::parse(&raw, Path::new("f"), 0).is_ok());
        raw[86] = 1;
        assert!(Footer::parse(&raw, Path::new("f"), 0).is_err());
    }

    #[test]
    fn version_type_and_a_disabled_disk_are_refused_by_name() {
        for (byte, value, field) in [(13usize, 2u8, "version"), (63, 5, "type"), (0, b'x', "cookie")] {
            let mut raw = worked();
            raw[byte] = value;
            let sum = checksum(&raw, 64);
            BigEndian::write_u32(&mut raw[64..], sum);
            let Err(fault) = Footer::parse(&raw, Path::new("f"), 0) else { panic!("{field} accepted") };
            assert!(fault.field().contains(field), "{fault}");
        }
        let mut raw = worked();
        raw[..8].copy_from_slice(b"v_poison");
        assert_eq!(claim(&raw), Claim::Disabled);
        assert!(disabled(Path::new("f"), 0).to_string().contains("XenServer"));
    }

    #[test]
    fn a_fixed_footer_with_a_damaged_cookie_is_known_at_its_own_place_alone() {
        let mut raw = worked();
        raw[3] ^= 0x20;
        assert!(is_fixed_with_a_damaged_cookie(&raw, 1 << 30));
        assert!(!is_fixed_with_a_damaged_cookie(&raw, 1 << 29));
        raw[100] = 1;
        assert!(!is_fixed_with_a_damaged_cookie(&raw, 1 << 30));
    }

    #[test]
    fn differing_copies_are_told_by_field() {
        let a = Footer::parse(&worked(), Path::new("f"), 0).unwrap();
        let mut b = a.clone();
        b.raw[84] = 1;
        b.raw[30] = 9;
        assert_eq!(a.differences(&b), ["creator application", "saved state"]);
        assert!(a.differences(&a).is_empty());
    }
}
