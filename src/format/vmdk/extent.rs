//! An extent line of a descriptor: `ACCESS SECTORS TYPE ["FILE" [OFFSET ...]]`.
//!
//! Source: VMware "Virtual Disk Format 5.0", section "The Extent Description", and descriptors of the products. Words are compared
//! without case; what stands behind the offset (ids of device extents) is not looked at.

/// What the extent's owner may do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Read and write.
    Rw,
    /// Read; usual in exports.
    RdOnly,
    /// Nothing: the data cannot be had.
    None,
}

/// How an extent is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExtentType {
    /// The bytes in a row, from an offset on.
    Flat,
    /// The bytes in a row, on a datastore.
    Vmfs,
    /// Hosted sparse: grains.
    Sparse,
    /// ESXi redo log (COWD).
    VmfsSparse,
    /// ESXi space-efficient sparse.
    SeSparse,
    /// Zeroes, in a child too.
    Zero,
    /// Raw device mapping.
    VmfsRdm,
    /// Raw device.
    VmfsRaw,
    /// An object of vSAN.
    VsanSparse,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtentLine {
    /// Byte of the line in the file.
    pub byte: u64,
    /// The access.
    pub access: Access,
    /// Sectors of 512 bytes: the extent's share of the disk.
    pub sectors: u64,
    /// The type.
    pub kind: ExtentType,
    /// The file, as named.
    pub file: Option<String>,
    /// First sector in the file.
    pub offset: u64,
}

/// The longest name, in characters: Windows has the longest paths.
const MAX_NAME: usize = 32_767;

const ACCESSES: [(&str, Access); 3] = [("RW", Access::Rw), ("RDONLY", Access::RdOnly), ("NOACCESS", Access::None)];

const TYPES: [(&str, ExtentType); 9] = [
    ("FLAT", ExtentType::Flat),
    ("VMFS", ExtentType::Vmfs),
    ("SPARSE", ExtentType::Sparse),
    ("VMFSSPARSE", ExtentType::VmfsSparse),
    ("SESPARSE", ExtentType::SeSparse),
    ("ZERO", ExtentType::Zero),
    ("VMFSRDM", ExtentType::VmfsRdm),
    ("VMFSRAW", ExtentType::VmfsRaw),
    ("VSANSPARSE", ExtentType::VsanSparse),
];

impl Access {
    /// The word of the descriptor.
    pub fn word(self) -> &'static str {
        word_of(&ACCESSES, self)
    }
}

impl ExtentType {
    /// The word of the descriptor.
    pub fn word(self) -> &'static str {
        word_of(&TYPES, self)
    }
}

fn word_of<T: PartialEq>(table: &[(&'static str, T)], value: T) -> &'static str {
    table.iter().find(|(_, known)| *known == value).map_or("", |(word, _)| word)
}

fn known<T: Copy>(table: &[(&str, T)], word: &str) -> Option<T> {
    table.iter().find(|(name, _)| name.eq_ignore_ascii_case(word)).map(|(_, value)| *value)
}

impl ExtentLine {
    /// True where a line claims to be an extent's: it begins with an access and a blank. Asked before `=` is looked for, since file
    /// names may hold one.
    pub fn claims(line: &str) -> bool {
        line.split_once([' ', '\t']).is_some_and(|(word, _)| known(&ACCESSES, word).is_some())
    }

    /// True where a line is none of a descriptor's, and yet looks like a damaged extent line: it names a type as its third word, or an
    /// access as a key. Passing it over would move all later extents.
    pub fn resembles(line: &str) -> bool {
        let words: Vec<_> = line.split([' ', '\t', '=']).filter(|word| !word.is_empty()).take(3).collect();
        let is_type = |n: usize| words.get(n).is_some_and(|word| known(&TYPES, word).is_some());
        words.first().is_some_and(|word| known(&ACCESSES, word).is_some()) || is_type(1) || is_type(2)
    }

    /// Parses a line that was trimmed; or what is wrong with it.
    pub fn parse(line: &str, byte: u64) -> Result<ExtentLine, &'static str> {
        let (access, rest) = word(line);
        let access = known(&ACCESSES, access).ok_or("extent access")?;
        let (sectors, rest) = word(rest);
        let sectors = sectors.parse().map_err(|_| "extent size is no number of sectors")?;
        let (kind, rest) = word(rest);
        let kind = known(&TYPES, kind).ok_or("unknown extent type")?;
        let (file, rest) = match rest.strip_prefix('"') {
            Some(quoted) => {
                let (file, rest) = quoted.split_once('"').ok_or("extent file name without its closing quote")?;
                (Some(file.to_string()), rest.trim_start())
            }
            None => {
                let (file, rest) = word(rest);
                ((!file.is_empty()).then(|| file.to_string()), rest)
            }
        };
        if file.as_ref().is_some_and(|file| file.chars().nth(MAX_NAME).is_some()) {
            return Err("extent file name is longer than a name can be");
        }
        let (offset, _) = word(rest);
        let offset = match offset {
            "" => 0,
            offset => offset.parse().map_err(|_| "extent offset is no number of sectors")?,
        };
        Ok(ExtentLine { byte, access, sectors, kind, file, offset })
    }
}

/// The first word, and what stands behind it.
fn word(text: &str) -> (&str, &str) {
    let (word, rest) = text.split_once([' ', '\t']).unwrap_or((text, ""));
    (word, rest.trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_as_products_write_them() {
        let line = |text: &str| ExtentLine::parse(text, 7).unwrap();
        let flat = line("RW 4192256 FLAT \"CentOS = 64-bit-f001.vmdk\" 128");
        assert_eq!((flat.access, flat.sectors, flat.kind, flat.offset), (Access::Rw, 4_192_256, ExtentType::Flat, 128));
        assert_eq!(flat.file.as_deref(), Some("CentOS = 64-bit-f001.vmdk"));
        assert_eq!(line("rdonly 1 Sparse \"a\"").access, Access::RdOnly);
        assert_eq!(line("RW 63 ZERO").file, None);
        assert_eq!(line("RW\t63\tZERO\t\"/dev/sdc2\"\t0").kind, ExtentType::Zero);
        assert_eq!(line("RW 63 FLAT \"\\\\.\\PhysicalDrive0\" 63 partitionUUID dev/1").offset, 63);
        assert_eq!(line("RW 8 VMFS hand-made.vmdk").file.as_deref(), Some("hand-made.vmdk"));
        for (bad, what) in [
            ("RW x FLAT \"a\" 0", "sectors"),
            ("RW -1 FLAT \"a\" 0", "sectors"),
            ("RW 99999999999999999999 FLAT \"a\" 0", "sectors"),
            ("RW 1 FLATT \"a\" 0", "type"),
            ("RW 1 FLAT \"a 0", "quote"),
            ("RW 1 FLAT \"a\" b", "offset"),
        ] {
            assert!(ExtentLine::parse(bad, 0).unwrap_err().contains(what), "{bad}");
        }
        let named = |chars| ExtentLine::parse(&format!("RW 1 FLAT \"{}\" 0", "é".repeat(chars)), 0);
        assert!(named(MAX_NAME).is_ok() && named(MAX_NAME + 1).unwrap_err().contains("longer"));
        for damaged in ["SW 16 FLAT \"a\" 0", "RW=16 FLAT \"a\" 0", "R 16 FLAT", "16 FLAT \"a\""] {
            assert!(ExtentLine::resembles(damaged), "{damaged}");
        }
        for other in ["version=1", "ddb.comment = \"a b FLATTER c\"", "# RW 16 FLAT", "some words"] {
            assert!(!ExtentLine::resembles(other), "{other}");
        }
        assert!(ExtentLine::claims("noaccess 0 ZERO") && !ExtentLine::claims("RW=1") && !ExtentLine::claims("RWX 1"));
    }
}
