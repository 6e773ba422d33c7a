//! The fields of a primary descriptor, or of a supplementary one such as Joliet's, and what they lead to.
//!
//! Source: ECMA-119, 8.4 and 8.5.

use std::ops::Range;

use byteorder::{BigEndian, ByteOrder, LittleEndian};

use super::record::{self, Record, SHORTEST, differing};
use super::{BLOCK_SIZE, BOTH_ENDS, DIRECTORY, LEN, OUTSIDE, SECTOR, against_end};
use crate::fault::Fault;
use crate::image::Findings;
use crate::io::InputFile;

/// Numbers that stand twice, little-endian in front: offset and bytes of each half.
const TWICE: [(usize, usize, &str); 5] = [
    (80, 4, "volume space size"),
    (120, 2, "volume set size"),
    (124, 2, "volume sequence number"),
    (128, 2, "logical block size"),
    (132, 4, "path table size"),
];
const ESCAPES: Range<usize> = 88..91;
const SET_SIZE_AT: usize = 120;
const NUMBER_AT: usize = 124;
const BLOCK_SIZE_AT: usize = 128;
const TABLE_LEN_AT: usize = 132;
const LITTLE_TABLE_AT: usize = 140;
const BIG_TABLE_AT: usize = 148;
const ROOT_AT: usize = 156;

/// A descriptor of a volume.
pub struct Descriptor<'a> {
    /// The image.
    pub file: &'a InputFile,
    /// Where the descriptor stands in it.
    pub base: u64,
    /// Its bytes.
    pub raw: &'a [u8; LEN],
}

/// Where the directories of a volume begin, and how they are to be read.
#[derive(Debug, Clone, Copy)]
pub struct Root {
    /// The byte of its record.
    pub record_at: u64,
    /// The byte at which the root directory begins, and how many it has.
    pub place: (u64, u32),
    /// Its first block, as its own records repeat it.
    pub first: u32,
    /// Bytes of a block.
    pub block: u64,
    /// Names are UTF-16, big-endian.
    pub wide: bool,
    /// The volume's number, where it is one of a set: what is on another is not in this file.
    pub one_of_set: Option<u16>,
}

/// One of the two tables of all directories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Table {
    /// The byte of the number that leads to it.
    pub told_at: u64,
    /// Where it begins.
    pub at: u64,
}

impl Descriptor<'_> {
    fn u16(&self, at: usize) -> u16 {
        LittleEndian::read_u16(self.raw.get(at..).unwrap_or_default())
    }

    /// Bytes of a block.
    pub fn block(&self) -> u64 {
        match self.u16(BLOCK_SIZE_AT) {
            0 => SECTOR,
            block => block.into(),
        }
    }

    /// The little-endian and the big-endian table and their bytes. Block 0 is none.
    pub fn tables(&self) -> ([Option<Table>; 2], u32) {
        let number = |at: usize| self.raw.get(at..at + 4).unwrap_or(&[0; 4]);
        let table = |at: usize, first: u32| {
            (first != 0).then_some(Table { told_at: self.base + at as u64, at: u64::from(first) * self.block() })
        };
        let little = table(LITTLE_TABLE_AT, LittleEndian::read_u32(number(LITTLE_TABLE_AT)));
        let big = table(BIG_TABLE_AT, BigEndian::read_u32(number(BIG_TABLE_AT)));
        ([little, big], LittleEndian::read_u32(number(TABLE_LEN_AT)))
    }

    fn root_record(&self) -> Option<Record<'_>> {
        Record::parse(self.raw.get(ROOT_AT..ROOT_AT + SHORTEST)?)
    }

    /// Where the directories begin; `None` where they do not begin in the file.
    pub fn root(&self) -> Option<Root> {
        let record = self.root_record()?;
        let at = record.content() * self.block();
        let one_of_set = (self.u16(SET_SIZE_AT) > 1).then(|| self.u16(NUMBER_AT));
        let escapes = self.raw.get(ESCAPES).unwrap_or_default();
        let root = Root {
            record_at: self.base + ROOT_AT as u64,
            place: (at, record.len()),
            first: record.first(),
            block: self.block(),
            wide: self.raw[0] == 2 && matches!(escapes, b"%/@" | b"%/C" | b"%/E"),
            one_of_set,
        };
        (record.first() != 0 && at + u64::from(record.len()) <= self.file.len()).then_some(root)
    }

    /// Holds its fields against each other and against the file's end.
    pub fn look(&self, findings: &mut Findings) {
        let odd = |at: usize, what: &'static str| Fault::damaged(self.file.name(), self.base + at as u64, what);
        let root = self.raw.get(ROOT_AT..).unwrap_or_default();
        let of_root = differing(root, &record::TWICE).map(|(at, name, little, big)| (ROOT_AT + at, name, little, big));
        for (at, name, little, big) in differing(self.raw, &TWICE).chain(of_root) {
            findings.warning(BOTH_ENDS, || {
                let differ = odd(at, "a number of a volume descriptor differs from its other form");
                differ.found(format!("{name}: {little}, little-endian")).against(format!("{big}, big-endian"))
            });
        }
        let block = self.u16(BLOCK_SIZE_AT);
        if u64::from(block) != SECTOR {
            findings.warning(BLOCK_SIZE, || {
                odd(BLOCK_SIZE_AT, "logical block size of the volume").found(block).expected(SECTOR)
            });
        }
        match self.root_record() {
            Some(root) if root.raw().len() == SHORTEST && root.is_directory() && root.first() != 0 => {}
            _ => findings.error(DIRECTORY, || {
                odd(ROOT_AT, "the volume descriptor has no record of a root directory")
                    .found(format!("a record of {} bytes", root.first().copied().unwrap_or_default()))
                    .expected(SHORTEST)
            }),
        }
        let (tables, table_len) = self.tables();
        let tables = tables.into_iter().flatten().map(|table| (table.told_at, table.at, u64::from(table_len).max(1)));
        let root = self.root_record().filter(|root| root.first() != 0).map(|root| {
            let told_at = self.base + ROOT_AT as u64 + 2;
            (told_at, root.content() * self.block(), u64::from(root.len()).max(1))
        });
        for (told_at, at, len) in tables.chain(root) {
            if at + len > self.file.len() {
                findings.error(OUTSIDE, || {
                    let what = "a path table or the root directory lies outside the file";
                    let outside = Fault::damaged(self.file.name(), told_at, what);
                    outside.found(format!("bytes {at} to {}", at + len)).against(against_end(self.file))
                });
            }
        }
    }
}
