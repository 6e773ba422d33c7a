//! A directory record: what stands for a file or a folder in its folder.
//!
//! Source: ECMA-119, 9.1. Numbers stand twice, little-endian in front:
//!
//! | offset | bytes | field           | reading                                                                 |
//! |-------:|------:|-----------------|-------------------------------------------------------------------------|
//! |      0 |     1 | length          | of the record, its padding and what extensions add included             |
//! |      1 |     1 | attributes      | blocks of them in front of the content                                  |
//! |      2 |     8 | first block     |                                                                         |
//! |     10 |     8 | bytes           | of the content                                                          |
//! |     25 |     1 | flags           | 2: a directory; 128: the content goes on in the next record             |
//! |     28 |     4 | volume          | of the set, on which the content is                                     |
//! |     32 |     1 | bytes of name   |                                                                         |
//! |     33 |       | name            | one byte 0: the directory itself; one byte 1: the one it is in          |

use byteorder::{BigEndian, ByteOrder, LittleEndian};

/// Bytes in front of the name, and of the shortest record.
const NAME: usize = 33;
/// Bytes of a root directory's record, whose name is one byte.
pub const SHORTEST: usize = NAME + 1;

const IS_DIRECTORY: u8 = 2;
const GOES_ON: u8 = 128;

/// The numbers that stand twice: offset, bytes of a half, name.
pub const TWICE: [(usize, usize, &str); 3] =
    [(2, 4, "first block"), (10, 4, "bytes of the content"), (28, 2, "volume sequence number")];

/// A record whose lengths hold together.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    raw: &'a [u8],
    name: &'a [u8],
}

impl<'a> Record<'a> {
    /// The record at the beginning of `bytes`; `None` where its lengths cannot be.
    pub fn parse(bytes: &'a [u8]) -> Option<Record<'a>> {
        let raw = bytes.get(..usize::from(*bytes.first()?))?;
        let name = raw.get(NAME..)?.get(..usize::from(*raw.get(NAME - 1)?))?;
        (!name.is_empty()).then_some(Record { raw, name })
    }

    /// Its bytes.
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// The name's bytes.
    pub fn name(&self) -> &'a [u8] {
        self.name
    }

    fn number(&self, at: usize) -> u32 {
        self.raw.get(at..at + 4).map(LittleEndian::read_u32).unwrap_or_default()
    }

    /// The first block, attributes included.
    pub fn first(&self) -> u32 {
        self.number(2)
    }

    /// The first block of the content.
    pub fn content(&self) -> u64 {
        u64::from(self.first()) + u64::from(self.raw.get(1).copied().unwrap_or_default())
    }

    /// Bytes of the content.
    pub fn len(&self) -> u32 {
        self.number(10)
    }

    fn flags(&self) -> u8 {
        self.raw.get(25).copied().unwrap_or_default()
    }

    /// Is it a directory's?
    pub fn is_directory(&self) -> bool {
        self.flags() & IS_DIRECTORY != 0
    }

    /// Does the content go on in the next record?
    pub fn goes_on(&self) -> bool {
        self.flags() & GOES_ON != 0
    }

    /// The volume of the set on which the content is.
    pub fn volume(&self) -> u16 {
        self.raw.get(28..30).map(LittleEndian::read_u16).unwrap_or_default()
    }
}

/// Of numbers that stand twice, those whose halves differ: the offset, the name and both halves.
pub fn differing<'a>(
    raw: &'a [u8],
    twice: &'a [(usize, usize, &'static str)],
) -> impl Iterator<Item = (usize, &'static str, u64, u64)> + 'a {
    twice.iter().filter_map(move |(at, len, name)| {
        let (little, big) = (raw.get(*at..at + len)?, raw.get(at + len..at + 2 * len)?);
        let (little, big) = (LittleEndian::read_uint(little, *len), BigEndian::read_uint(big, *len));
        (little != big).then_some((*at, *name, little, big))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_that_do_not_hold_together_are_no_record() {
        let mut raw = [0u8; 64];
        (raw[0], raw[32], raw[33]) = (34, 1, b'A');
        assert_eq!(Record::parse(&raw).unwrap().name(), b"A");
        for (len, name) in [(0, 1), (33, 1), (34, 0), (34, 2), (255, 1), (33, 0)] {
            (raw[0], raw[32]) = (len, name);
            assert!(Record::parse(&raw).is_none(), "{len} {name}");
        }
        assert!(Record::parse(&[]).is_none());
    }
}
