//! The path tables: lists of all directories, one in each byte order, which DOS and Windows go by.
//!
//! Source: ECMA-119, 9.4. A record: its name's bytes (1), attributes (1), first block (4), number of the directory it is in (2), the name
//! (padded to an even length). Directories are numbered from 1 on; the first is the root, which is in itself.

use byteorder::{BigEndian, ByteOrder, LittleEndian};

use super::descriptor::{Descriptor, Table};
use super::tree::Budget;
use super::{PATH_TABLES, UNFINISHED, against_end};
use crate::fault::Fault;
use crate::image::Findings;
use crate::io::{InputFile, in_memory};

/// Bytes of a record in front of its name.
const HEAD: usize = 8;
/// Bytes of the longest record.
const LONGEST: usize = HEAD + 256;
/// Bytes that are read at once.
const PIECE: usize = 64 << 10;
/// Bytes of a table that are looked at: as many as the 65,535 directories that can be numbered take.
const MOST: u64 = 17 << 20;

/// Reads both tables side by side.
pub fn look(descriptor: &Descriptor<'_>, budget: &mut Budget, findings: &mut Findings) -> Result<(), Fault> {
    let (file, block) = (descriptor.file, descriptor.block());
    let ([Some(little), Some(big)], len) = descriptor.tables() else { return Ok(()) };
    let len = u64::from(len);
    let fits = |table: Table| table.at + len <= file.len();
    // One outside is told of already.
    if !fits(little) || !fits(big) {
        return Ok(());
    }
    if !budget.take_bytes(2 * len.min(MOST)) {
        findings.note(UNFINISHED, || {
            Fault::damaged(file.name(), little.told_at, "the path tables are too many to look at all")
        });
        return Ok(());
    }
    let starts = (little.at, big.at);
    let (mut little, mut big) = (Piece::new(file, little.at), Piece::new(file, big.at));
    let (mut at, mut number) = (0, 0u64);
    while at < len.min(MOST) {
        let (ours, theirs) = (little.record(at, len)?, big.record(at, len)?);
        let odd = |start: u64, what: &'static str| Fault::damaged(file.name(), start + at, what);
        let (Some(ours), Some(theirs)) = (ours, theirs) else {
            findings.warning(PATH_TABLES, || odd(starts.0, "a path table's record that cannot be"));
            return Ok(());
        };
        let number_le = |range| ours.get(range).map(LittleEndian::read_u32);
        let same = ours.get(..2) == theirs.get(..2)
            && number_le(2..6) == theirs.get(2..6).map(BigEndian::read_u32)
            && ours.get(6..8).map(LittleEndian::read_u16) == theirs.get(6..8).map(BigEndian::read_u16)
            && ours.get(HEAD..) == theirs.get(HEAD..);
        if !same {
            findings.warning(PATH_TABLES, || {
                odd(starts.1, "the path tables differ")
                    .against(format!("the other one's record is at byte {}", starts.0 + at))
            });
            // After records of different lengths nothing fits any more.
            return Ok(());
        }
        let first = number_le(2..6).unwrap_or_default();
        if number == 0 && descriptor.root().is_some_and(|root| root.first != first) {
            findings.warning(PATH_TABLES, || {
                odd(starts.0, "the path table begins with another directory than the root")
                    .found(format!("block {first}"))
            });
        } else if u64::from(first) * block >= file.len() {
            findings.warning(PATH_TABLES, || {
                let outside = odd(starts.0, "the path table names a directory outside the file");
                outside.found(format!("block {first}")).against(against_end(file))
            });
        }
        at += ours.len().next_multiple_of(2) as u64;
        number += 1;
    }
    findings.count("path_table_records", number);
    Ok(())
}

/// The part of a table that was read last.
struct Piece<'a> {
    file: &'a InputFile,
    /// Where the table begins.
    start: u64,
    /// The place in the table of what was read.
    from: u64,
    bytes: Vec<u8>,
}

impl Piece<'_> {
    fn new(file: &InputFile, start: u64) -> Piece<'_> {
        Piece { file, start, from: 0, bytes: Vec::new() }
    }

    /// The record at this place, without padding; `None`: it has no name, or reaches over the table's end.
    fn record(&mut self, at: u64, len: u64) -> Result<Option<&[u8]>, Fault> {
        let wanted = (len - at).min(LONGEST as u64);
        let holds = at >= self.from && at + wanted <= self.from + self.bytes.len() as u64;
        if !holds {
            self.bytes.resize(in_memory((len - at).min(PIECE as u64)), 0);
            self.file.read_exact(self.start + at, &mut self.bytes)?;
            self.from = at;
        }
        let rest = self.bytes.get(in_memory(at - self.from)..).unwrap_or_default();
        let name = rest.first().copied().unwrap_or_default();
        Ok(rest.get(..HEAD + usize::from(name)).filter(|_| name > 0))
    }
}
