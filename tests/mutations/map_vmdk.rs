//! The structures of VMDKs' files, by the specification, from the files' own fields.

use super::subject::{Guard, Structure, number};

/// Fields of the header of a sparse extent: offset and width.
const HEADER: [(usize, usize); 14] = [
    (0, 4),
    (4, 4),
    (8, 4),
    (12, 8),
    (20, 8),
    (28, 8),
    (36, 8),
    (44, 4),
    (48, 8),
    (56, 8),
    (64, 8),
    (72, 1),
    (73, 4),
    (77, 2),
];

/// A file of the VMDK: its number, its bytes, and what its structures' names begin with.
#[derive(Clone, Copy)]
pub struct Part<'a> {
    pub file: usize,
    pub bytes: &'a [u8],
    pub of: &'a str,
}

impl Part<'_> {
    fn le(&self, at: usize, width: usize) -> usize {
        number(&self.bytes[at..at + width], false) as usize
    }

    fn piece(&self, name: &str, at: usize, len: usize, guard: Guard) -> Structure {
        Structure::of(&format!("{}{name}", self.of), self.file, at..at + len, guard)
    }

    /// A descriptor that is a file.
    pub fn text(self) -> Vec<Structure> {
        vec![self.piece("descriptor", 0, self.bytes.len(), Guard::Open).text(None)]
    }

    /// Bytes of an extent that are the disk's.
    pub fn flat(self, sectors: std::ops::Range<usize>) -> Structure {
        self.piece("data", sectors.start * 512, sectors.len() * 512, Guard::Data)
    }

    /// A hosted sparse extent, plain or packed.
    pub fn sparse(self) -> Vec<Structure> {
        assert_eq!(&self.bytes[..4], b"KDMV");
        let mut all = vec![self.piece("header", 0, 79, Guard::Open).fields(false, &HEADER)];
        let (area, room) = (self.le(28, 8) * 512, self.le(36, 8) * 512);
        let text = self.bytes[area..area + room].iter().position(|byte| *byte == 0).unwrap_or(room);
        if area != 0 && text > 0 {
            let len = (text + 1).min(room);
            all.push(self.piece("descriptor", area, len, Guard::Open).text(Some(room)));
        }
        let packed = self.le(8, 4) & 0x1_0000 != 0;
        let at_end = self.le(56, 8) == usize::MAX;
        let footer = if at_end { self.bytes.len() - 1024 } else { 0 };
        let two = self.le(footer + 8, 4) & 2 != 0;
        // A stream's markers say again which grain lies where.
        let guard = if two || packed { Guard::Copied } else { Guard::Open };
        let mut directories = vec![(self.le(footer + 56, 8) * 512, "grain directory", "grain table")];
        if two {
            directories.push((self.le(footer + 48, 8) * 512, "second grain directory", "second grain table"));
        }
        let (capacity, grain, per_table) = (self.le(12, 8), self.le(20, 8), self.le(44, 4));
        let grains = capacity.div_ceil(grain);
        for (copy, (directory, directory_name, table_name)) in directories.into_iter().enumerate() {
            let tables = grains.div_ceil(per_table);
            all.push(self.piece(directory_name, directory, tables * 4, guard).table(false, 4));
            for table in 0..tables {
                let at = self.le(directory + table * 4, 4) * 512;
                if at == 0 {
                    continue;
                }
                let count = per_table.min(grains - table * per_table);
                all.push(self.piece(table_name, at, count * 4, guard).table(false, 4));
                for n in 0..count {
                    let sector = self.le(at + n * 4, 4);
                    if sector > 1 && copy == 0 && !packed {
                        let valid = grain.min(capacity - (table * per_table + n) * grain);
                        all.push(self.flat(sector..sector + valid));
                    }
                }
            }
        }
        if packed {
            all.extend(self.markers(self.le(64, 8) * 512));
        }
        all
    }

    /// The grains and markers of a stream, from the first on.
    fn markers(self, mut at: usize) -> Vec<Structure> {
        let mut all = Vec::new();
        while at + 512 <= self.bytes.len() {
            let (count, size, kind) = (self.le(at, 8), self.le(at + 8, 4), self.le(at + 12, 4));
            if size > 0 {
                // Which grain it is says the table too.
                all.push(self.piece("grain marker", at, 12, Guard::Copied).fields(false, &[(0, 8), (8, 4)]));
                all.push(self.piece("packed grain", at + 12, size, Guard::Checked));
                at = (at + 12 + size).next_multiple_of(512);
                continue;
            }
            let name = if kind == 0 { "end marker" } else { "metadata marker" };
            all.push(self.piece(name, at, 16, Guard::Open).fields(false, &[(0, 8), (8, 4), (12, 4)]));
            if kind == 3 {
                all.push(self.piece("footer", at + 512, 79, Guard::Open).fields(false, &HEADER));
            }
            at += 512 * (1 + count);
        }
        all
    }

    /// A redo log of ESXi.
    pub fn cowd(self) -> Vec<Structure> {
        assert_eq!(&self.bytes[..4], b"COWD");
        let fields: Vec<_> = (0..8).map(|n| (n * 4, 4)).collect();
        let mut all = vec![self.piece("header", 0, 32, Guard::Open).fields(false, &fields)];
        let (sectors, grain, directory) = (self.le(12, 4), self.le(16, 4), self.le(20, 4) * 512);
        let tables = sectors.div_ceil(4096 * grain);
        all.push(self.piece("grain directory", directory, tables * 4, Guard::Open).table(false, 4));
        for table in 0..tables {
            let at = self.le(directory + table * 4, 4) * 512;
            if at == 0 {
                continue;
            }
            let count = 4096.min(sectors.div_ceil(grain) - table * 4096);
            all.push(self.piece("grain table", at, count * 4, Guard::Open).table(false, 4));
            let entries = (0..count).map(|n| self.le(at + n * 4, 4));
            all.extend(entries.filter(|sector| *sector > 1).map(|sector| self.flat(sector..sector + grain)));
        }
        all
    }

    /// A seSparse extent.
    pub fn sesparse(self) -> Vec<Structure> {
        assert_eq!(self.le(0, 8), 0xCAFE_BABE);
        let fields: Vec<_> = (0..26).map(|n| (n * 8, 8)).collect();
        let mut all = vec![self.piece("header", 0, 208, Guard::Open).fields(false, &fields)];
        let volatile = self.le(0x50, 8) * 512;
        let structure = self.piece("volatile header", volatile, 32, Guard::Open);
        all.push(structure.fields(false, &[(0, 8), (8, 8), (16, 8), (24, 8)]));
        let (capacity, directory) = (self.le(0x10, 8), self.le(0x80, 8) * 512);
        let (tables_at, grains_at) = (self.le(0x90, 8), self.le(0xC0, 8));
        let grains = capacity.div_ceil(8);
        let tables = grains.div_ceil(4096);
        all.push(self.piece("grain directory", directory, tables * 8, Guard::Open).table(false, 8));
        for table in 0..tables {
            let entry = self.le(directory + table * 8, 8);
            if entry == 0 {
                continue;
            }
            let at = (tables_at + (entry & 0xFFFF_FFFF) * 64) * 512;
            let count = 4096.min(grains - table * 4096);
            all.push(self.piece("grain table", at, count * 8, Guard::Open).table(false, 8));
            for n in 0..count {
                let entry = self.le(at + n * 8, 8);
                if entry >> 60 == 3 {
                    let index = (entry & 0x0FFF_0000_0000_0000) >> 48 | (entry & 0xFFFF_FFFF_FFFF) << 12;
                    all.push(self.flat(grains_at + index * 8..grains_at + index * 8 + 8));
                }
            }
        }
        all
    }
}
