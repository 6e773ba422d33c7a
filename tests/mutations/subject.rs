//! What is mutated: an image of one or several files, what its disk holds, and which bytes are which structure.

use std::ops::Range;

/// What stands behind the bytes of a structure, should they be damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// A checksum covers them.
    Checked,
    /// A copy says the same.
    Copied,
    /// Nothing reads them: whatever stands there, the disk is the same.
    Unused,
    /// Neither checksum nor copy.
    Open,
    /// The guest's own bytes: nobody can know that they were others, and no other byte of the disk may be touched by them.
    Data,
}

/// How a structure's bytes are to be understood.
#[derive(Debug, Clone)]
pub enum Shape {
    Bytes,
    /// Offset and width of each field.
    Fields {
        big_endian: bool,
        fields: Vec<(usize, usize)>,
    },
    /// Entries of one width.
    Table {
        big_endian: bool,
        width: usize,
    },
    /// Lines of a descriptor; `room`: bytes that it may fill, where it stands in a file with more.
    Text {
        room: Option<usize>,
    },
}

/// A structure of a file.
#[derive(Debug, Clone)]
pub struct Structure {
    pub name: String,
    /// Index of the file.
    pub file: usize,
    pub range: Range<usize>,
    pub guard: Guard,
    pub shape: Shape,
    /// Where its checksum stands in it, if that is a plain sum.
    pub sum: Option<usize>,
}

/// What comes out when all is well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// The guest: other bytes than the file's.
    Guest,
    /// The file itself, as raw disks and discs are. `cut_shows`: something in it says how long it is.
    TheFile { cut_shows: bool },
}

pub struct Subject {
    pub name: String,
    pub format: &'static str,
    /// It is small, and many cases cost little.
    pub small: bool,
    /// Name and bytes; the first is the one that is converted.
    pub files: Vec<(String, Vec<u8>)>,
    pub guest: Vec<u8>,
    pub content: Content,
    /// By file and place; every byte is in exactly one.
    pub structures: Vec<Structure>,
}

impl Subject {
    pub fn new(name: &str, files: Vec<(String, Vec<u8>)>, guest: Vec<u8>, mapped: Vec<Structure>) -> Subject {
        let mut structures: Vec<_> = mapped.into_iter().filter(|structure| !structure.range.is_empty()).collect();
        structures.sort_by_key(|structure| (structure.file, structure.range.start));
        let mut whole = Vec::new();
        for (file, (file_name, bytes)) in files.iter().enumerate() {
            let mut at = 0;
            let gap = |range: Range<usize>| Structure::of("unused", file, range, Guard::Unused);
            for structure in structures.iter().filter(|structure| structure.file == file) {
                let Range { start, end } = structure.range;
                assert!(at <= start && end <= bytes.len(), "{name}: {} of {file_name} at {start}", structure.name);
                whole.extend((at < start).then(|| gap(at..start)));
                whole.push(structure.clone());
                at = end;
            }
            whole.extend((at < bytes.len()).then(|| gap(at..bytes.len())));
        }
        let format = ["vhd", "vmdk", "iso", "raw"].into_iter().find(|format| name.starts_with(format)).unwrap();
        let small = files.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() < 3 << 20;
        Subject { name: name.into(), format, small, files, guest, content: Content::Guest, structures: whole }
    }

    /// A subject whose bytes are the disk.
    pub fn flat(name: &str, file: &str, bytes: Vec<u8>, cut_shows: bool, mapped: Vec<Structure>) -> Subject {
        let files = vec![(file.to_string(), bytes.clone())];
        Subject { content: Content::TheFile { cut_shows }, ..Subject::new(name, files, bytes, mapped) }
    }

    /// The structures that have one of these bytes.
    pub fn at(&self, file: usize, changed: &[usize]) -> Vec<&Structure> {
        let of_file = self.structures.iter().filter(|structure| structure.file == file);
        let mut rest = changed;
        let mut found = Vec::new();
        for structure in of_file {
            let n = rest.partition_point(|byte| *byte < structure.range.end);
            found.extend((n > 0).then_some(structure));
            rest = &rest[n..];
        }
        found
    }
}

impl Structure {
    pub fn of(name: &str, file: usize, range: Range<usize>, guard: Guard) -> Structure {
        Structure { name: name.into(), file, range, guard, shape: Shape::Bytes, sum: None }
    }

    pub fn fields(self, big_endian: bool, fields: &[(usize, usize)]) -> Structure {
        Structure { shape: Shape::Fields { big_endian, fields: fields.to_vec() }, ..self }
    }

    pub fn table(self, big_endian: bool, width: usize) -> Structure {
        Structure { shape: Shape::Table { big_endian, width }, ..self }
    }

    pub fn text(self, room: Option<usize>) -> Structure {
        Structure { shape: Shape::Text { room }, ..self }
    }

    pub fn sum(self, at: usize) -> Structure {
        Structure { sum: Some(at), ..self }
    }
}

/// Reads a number of a structure.
pub fn number(bytes: &[u8], big_endian: bool) -> u64 {
    let add = |n: u64, byte: &u8| n << 8 | u64::from(*byte);
    match big_endian {
        true => bytes.iter().fold(0, add),
        false => bytes.iter().rev().fold(0, add),
    }
}

/// Writes a number into a structure; what is too large for the field loses its upper bytes.
pub fn put_number(bytes: &mut [u8], big_endian: bool, value: u64) {
    let len = bytes.len();
    for (n, byte) in value.to_le_bytes().into_iter().take(len).enumerate() {
        bytes[if big_endian { len - 1 - n } else { n }] = byte;
    }
}
