//! Volume descriptors: what an ISO 9660 volume is called, how large it is, and what boots from it.
//!
//! Source: ECMA-119, section 8; "El Torito" 1.0. From byte 32,768 on, 2,048 bytes each:
//!
//! | offset | bytes | field                | reading                                                        |
//! |-------:|------:|----------------------|----------------------------------------------------------------|
//! |      0 |     1 | type                 | 0 boot record, 1 primary, 2 supplementary, 255 the end         |
//! |      1 |     5 | standard identifier  | `CD001`; `BEA01`, `NSR02`, `NSR03`, `TEA01` in UDF             |
//! |      7 |    32 | boot system          | of a boot record: `EL TORITO SPECIFICATION`                    |
//! |     40 |    32 | volume identifier    | padded with blanks                                             |
//! |     71 |     4 | boot catalog         | of a boot record: its block, little-endian                     |
//! |     80 |     4 | volume space size    | blocks, little-endian; the primary descriptor's counts         |
//! |     88 |    32 | escape sequences     | of a supplementary one: `%/@`, `%/C`, `%/E` are Joliet         |
//! |    128 |     2 | logical block size   | little-endian, 2,048 but for oddities                          |

use byteorder::{ByteOrder, LittleEndian};

use crate::fault::Fault;
use crate::io::{InputFile, in_memory};

/// Bytes in front of the first descriptor.
pub const SYSTEM_AREA: u64 = 32_768;
/// Bytes of a descriptor, and of an optical sector.
pub const SECTOR: u64 = 2048;
/// The same, as memory counts.
const LEN: usize = 2048;
/// Descriptors that are looked at: images have a handful.
const MOST: u64 = 64;
/// Entries of a boot catalog that are looked at.
const MOST_BOOT_ENTRIES: usize = 64;

mod at {
    pub const IDENTIFIER: usize = 1;
    pub const BOOT_SYSTEM: usize = 7;
    pub const VOLUME_ID: usize = 40;
    pub const BOOT_CATALOG: usize = 71;
    pub const SPACE_SIZE: usize = 80;
    pub const ESCAPES: usize = 88;
    pub const BLOCK_SIZE: usize = 128;
}

/// What the descriptors say.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Volume {
    /// The name, without padding.
    pub id: String,
    /// Bytes of the volume, by the primary descriptor; none without one.
    pub size: Option<u64>,
    /// Names in UCS-2.
    pub joliet: bool,
    /// `NSR02` or `NSR03`, where there is a UDF volume.
    pub udf: Option<String>,
    /// The platforms that the boot catalog has something for.
    pub boots: Vec<&'static str>,
}

/// Is this the beginning of an ISO 9660 or UDF image?
pub fn is_one(head: &[u8]) -> bool {
    let identifier = usize::try_from(SYSTEM_AREA).ok().and_then(|start| head.get(start + at::IDENTIFIER..start + 6));
    identifier.is_some_and(|identifier| identifier == b"CD001" || identifier == b"BEA01")
}

/// Reads the descriptors, as far as the file has them.
pub fn read(file: &InputFile) -> Result<Volume, Fault> {
    let mut volume = Volume::default();
    let step = step(file)?;
    for n in 0..MOST {
        let mut raw = [0; LEN];
        let got = file.read_up_to(SYSTEM_AREA + n * step, &mut raw)?;
        let kind = raw[0];
        match raw.get(at::IDENTIFIER..at::BOOT_SYSTEM - 1).unwrap_or_default() {
            b"CD001" => match kind {
                0 if raw[at::BOOT_SYSTEM..].starts_with(b"EL TORITO SPECIFICATION") => {
                    let catalog = LittleEndian::read_u32(&raw[at::BOOT_CATALOG..]);
                    volume.boots = boot_catalog(file, u64::from(catalog) * SECTOR)?;
                }
                // Of a descriptor that is cut the size may still be there.
                1 if volume.size.is_none() && got >= at::SPACE_SIZE + 4 => {
                    let block = match LittleEndian::read_u16(&raw[at::BLOCK_SIZE..]) {
                        0 => SECTOR,
                        block => block.into(),
                    };
                    volume.size = Some(u64::from(LittleEndian::read_u32(&raw[at::SPACE_SIZE..])) * block);
                    volume.id = text(&raw[at::VOLUME_ID..at::BOOT_CATALOG + 1]);
                }
                2 => volume.joliet |= is_joliet(&raw[at::ESCAPES..]),
                // What follows the end may be UDF's.
                _ => {}
            },
            identifier @ (b"NSR02" | b"NSR03") => volume.udf = Some(String::from_utf8_lossy(identifier).into_owned()),
            b"BEA01" | b"BOOT2" => {}
            _ => break,
        }
    }
    Ok(volume)
}

/// Bytes from one descriptor to the next: a sector, and on UDF volumes with larger ones such a sector, the first of which is UDF's then.
fn step(file: &InputFile) -> Result<u64, Fault> {
    let mut raw = [0; 2 * LEN + at::BOOT_SYSTEM];
    let got = file.read_up_to(SYSTEM_AREA, &mut raw)?;
    let identifier = |place: u64| {
        let start = in_memory(place) + at::IDENTIFIER;
        raw.get(..got).and_then(|raw| raw.get(start..start + 5))
    };
    let large = identifier(0) == Some(b"BEA01")
        && identifier(SECTOR) == Some(&[0; 5])
        && matches!(identifier(2 * SECTOR), Some(b"NSR02" | b"NSR03"));
    Ok(if large { 2 * SECTOR } else { SECTOR })
}

fn is_joliet(escapes: &[u8]) -> bool {
    [b"%/@", b"%/C", b"%/E"].iter().any(|level| escapes.starts_with(*level))
}

fn text(padded: &[u8]) -> String {
    String::from_utf8_lossy(padded).trim_end_matches([' ', '\0']).to_string()
}

/// The platforms of a boot catalog: the validation entry's, and those of the section headers.
fn boot_catalog(file: &InputFile, at: u64) -> Result<Vec<&'static str>, Fault> {
    let mut raw = [0; MOST_BOOT_ENTRIES * 32];
    let got = file.read_up_to(at, &mut raw)?;
    let platform = |byte: u8| match byte {
        0 => "BIOS",
        1 => "PowerPC",
        2 => "Mac",
        0xEF => "EFI",
        _ => "another platform",
    };
    let mut found = Vec::new();
    let mut section = None;
    for (n, entry) in raw.get(..got).unwrap_or_default().chunks_exact(32).enumerate() {
        match (n, entry.first().copied().unwrap_or_default(), entry.get(1).copied().unwrap_or_default()) {
            (0, 1, id) | (_, 0x90 | 0x91, id) => section = Some(platform(id)),
            (0, ..) => return Ok(found), // no catalog
            (_, 0x88, _) => found.extend(section.take()),
            (_, 0, _) => break,
            _ => {}
        }
    }
    Ok(found)
}
