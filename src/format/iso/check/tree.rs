//! The directories of a volume, from the root on: each record, and that what it stands for lies in the file. Contents are not read.
//!
//! A directory is kept as the place of its record and the number of the directory that it is in; what it is called is read again where a
//! message needs it. So a million of them cost as little as their places do, and however they lead into each other, each is read once.

use std::collections::HashMap;

use byteorder::{BigEndian, ByteOrder};

use super::descriptor::Root;
use super::record::{self, Record, SHORTEST, differing};
use super::{
    BOTH_ENDS, DIRECTORY, DIRECTORY_TWICE, FILE_OUTSIDE, MULTI_EXTENT, OUTSIDE, SECTOR, UNFINISHED, against_end,
};
use crate::fault::Fault;
use crate::image::Findings;
use crate::io::{InputFile, in_memory};

/// Bytes of a directory that are read at once.
const PIECE: u64 = 64 << 10;
/// Bytes of the longest record.
const LONGEST: u64 = 255;
/// Directories in each other that are gone into.
const MOST_DEEP: u16 = 128;
/// Characters of a path that are shown, of its end.
const MOST_SHOWN: usize = 512;

/// What may be looked at of one image; real discs have a hundredth.
pub struct Budget {
    /// Directory records.
    records: u64,
    /// Bytes of directories and path tables.
    bytes: u64,
}

impl Default for Budget {
    fn default() -> Budget {
        Budget { records: 1_000_000, bytes: 256 << 20 }
    }
}

impl Budget {
    /// Takes so many bytes; `false`: there are not so many left.
    pub fn take_bytes(&mut self, bytes: u64) -> bool {
        let left = self.bytes.checked_sub(bytes);
        self.bytes = left.unwrap_or(self.bytes);
        left.is_some()
    }

    fn take_record(&mut self) -> bool {
        let left = self.records.checked_sub(1);
        self.records = left.unwrap_or_default();
        left.is_some()
    }
}

/// A directory that was met.
struct Node {
    /// The byte of its record in the directory that it is in.
    record_at: u64,
    /// The number of that directory; the root's is its own.
    parent: u32,
    /// How many it is in.
    depth: u16,
    /// Blocks of attributes in front of its records.
    attributes: u8,
    first: u32,
    len: u32,
}

impl Node {
    /// The block of its first record.
    fn content(&self) -> u64 {
        u64::from(self.first) + u64::from(self.attributes)
    }
}

struct Tree<'a> {
    file: &'a InputFile,
    root: &'a Root,
    nodes: Vec<Node>,
    /// The directory that begins at a block.
    by_block: HashMap<u64, u32>,
    /// Directories that were met and not read yet.
    waiting: Vec<u32>,
}

/// A file whose content goes on in the next record: the byte of its record, and its name.
type GoesOn = Option<(u64, Vec<u8>)>;

/// Walks all directories from `root` on, as far as the budget lasts.
pub fn look(file: &InputFile, root: &Root, budget: &mut Budget, findings: &mut Findings) -> Result<(), Fault> {
    let mut tree = Tree { file, root, nodes: Vec::new(), by_block: HashMap::new(), waiting: Vec::new() };
    let content = root.place.0 / root.block;
    let attributes = u8::try_from(content.saturating_sub(root.first.into())).unwrap_or_default();
    tree.meet(Node {
        record_at: root.record_at,
        parent: 0,
        depth: 0,
        attributes,
        first: root.first,
        len: root.place.1,
    });
    while let Some(number) = tree.waiting.pop() {
        if !tree.directory(number, budget, findings)? {
            findings.note(UNFINISHED, || {
                let many = Fault::damaged(file.name(), root.record_at, "the directories are too many to look at all");
                many.found(format!("{} of them, and more", tree.nodes.len() - tree.waiting.len()))
            });
            break;
        }
        findings.count("directories", 1);
    }
    Ok(())
}

impl Tree<'_> {
    fn meet(&mut self, node: Node) {
        let number = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        self.by_block.insert(node.content(), number);
        self.nodes.push(node);
        self.waiting.push(number);
    }

    fn node(&self, number: u32) -> Option<&Node> {
        self.nodes.get(usize::try_from(number).unwrap_or(usize::MAX))
    }

    fn odd(&self, byte: u64, what: &'static str) -> Fault {
        Fault::damaged(self.file.name(), byte, what)
    }

    /// Reads one directory; `false`: the budget does not last.
    fn directory(&mut self, number: u32, budget: &mut Budget, findings: &mut Findings) -> Result<bool, Fault> {
        let Some(node) = self.node(number) else { return Ok(true) };
        let (start, len) = (node.content() * self.root.block, u64::from(node.len));
        let (mut bytes, mut from, mut at, mut index) = (Vec::new(), 0, 0, 0u64);
        let mut goes_on: GoesOn = None;
        while at < len {
            if at + LONGEST.min(len - at) > from + bytes.len() as u64 {
                let piece = (len - at).min(PIECE);
                if !budget.take_bytes(piece) {
                    return Ok(false);
                }
                bytes.resize(in_memory(piece), 0);
                self.file.read_exact(start + at, &mut bytes)?;
                from = at;
            }
            let rest = bytes.get(in_memory(at - from)..).unwrap_or_default();
            let behind = at - at % SECTOR + SECTOR;
            // Records do not reach over a sector's end: its rest is empty.
            if rest.first() == Some(&0) {
                at = behind;
                continue;
            }
            if !budget.take_record() {
                return Ok(false);
            }
            match Record::parse(rest) {
                Some(record) => {
                    if at + record.raw().len() as u64 > behind {
                        findings.warning(DIRECTORY, || {
                            self.odd(start + at, "a directory record reaches over the end of a sector")
                        });
                    }
                    self.record(number, index, start + at, record, &mut goes_on, findings);
                    at += record.raw().len() as u64;
                }
                None => {
                    findings.error(DIRECTORY, || {
                        let byte = |n: usize| rest.get(n).copied().unwrap_or_default();
                        self.odd(start + at, "a directory record that cannot be, and all behind it in the sector")
                            .found(self.path(number))
                            .against(format!("its length is {}, its name's {}", byte(0), byte(SHORTEST - 2)))
                    });
                    at = behind;
                }
            }
            index += 1;
        }
        self.ends(&goes_on, findings);
        if index == 0 {
            findings.warning(DIRECTORY, || {
                self.odd(start, "a directory without any record, its own included").found(self.path(number))
            });
        }
        findings.count("directory_records", index);
        Ok(true)
    }

    /// A file went on, and nothing of it follows.
    fn ends(&self, goes_on: &GoesOn, findings: &mut Findings) {
        if let Some((byte, name)) = goes_on {
            findings.error(MULTI_EXTENT, || {
                self.odd(*byte, "a file should go on in the next record, and does not").found(self.shown(name))
            });
        }
    }

    /// Looks at a record of the directory `number`, its `index`-th.
    fn record(
        &mut self,
        number: u32,
        index: u64,
        byte: u64,
        record: Record<'_>,
        goes_on: &mut GoesOn,
        findings: &mut Findings,
    ) {
        for (at, name, little, big) in differing(record.raw(), &record::TWICE) {
            findings.warning(BOTH_ENDS, || {
                let differ = self.odd(byte + at as u64, "a number of a directory record differs from its other form");
                differ.found(format!("{name}: {little}, little-endian")).against(format!("{big}, big-endian"))
            });
        }
        if goes_on.as_ref().is_some_and(|(_, name)| name != record.name()) {
            self.ends(goes_on, findings);
        }
        *goes_on = record.goes_on().then(|| (byte, record.name().to_vec()));
        let is_self_or_parent = matches!(record.name(), [0] | [1]);
        if index < 2 {
            self.own(number, index, byte, record, findings);
        }
        // What is on another volume of the set is not here.
        let elsewhere = self.root.one_of_set.is_some_and(|volume| volume != record.volume());
        if is_self_or_parent || elsewhere {
            return;
        }
        let (start, len) = (record.content() * self.root.block, u64::from(record.len()));
        let is_outside = len > 0 && start + len > self.file.len();
        let outside = |what| {
            let path = self.path_of(number, record.name());
            let outside = self.odd(byte + 2, what).found(format!("{path}: bytes {start} to {}", start + len));
            outside.against(against_end(self.file))
        };
        match (record.is_directory(), is_outside) {
            (true, true) => findings.error(OUTSIDE, || outside("a directory lies outside the file")),
            (true, false) => self.child(number, byte, record, findings),
            (false, true) => findings.error(FILE_OUTSIDE, || outside("a file's content lies outside the image")),
            (false, false) => {}
        }
    }

    /// The first two records of a directory stand for itself and for the one that it is in. Where the second leads is not looked at: in
    /// what xorriso writes for Joliet it leads to the directory itself, and nobody goes by it.
    fn own(&self, number: u32, index: u64, byte: u64, record: Record<'_>, findings: &mut Findings) {
        let own = self.node(number).map(|node| node.first).unwrap_or_default();
        if record.name() == [u8::from(index == 1)] && (index == 1 || record.first() == own) {
            return;
        }
        findings.warning(DIRECTORY, || {
            let what = "a directory's first records do not stand for itself and the one that it is in";
            let is = format!("{}: {} at block {}", self.path(number), self.shown(record.name()), record.first());
            self.odd(byte, what).found(is).expected(format!("byte {index}, the directory is at block {own}"))
        });
    }

    /// A directory in the directory `number`.
    fn child(&mut self, number: u32, byte: u64, record: Record<'_>, findings: &mut Findings) {
        let depth = self.node(number).map_or(0, |node| node.depth) + 1;
        if let Some(met) = self.by_block.get(&record.content()).copied() {
            let make =
                |what| self.odd(byte + 2, what).found(self.path_of(number, record.name())).against(self.path(met));
            match self.is_above(met, number) {
                true => findings.error(DIRECTORY_TWICE, || make("a directory that it lies in itself")),
                false => findings.warning(DIRECTORY_TWICE, || make("a directory stands in two directories")),
            }
            return;
        }
        if depth > MOST_DEEP {
            findings.note(UNFINISHED, || {
                let deep = self.odd(byte, "directories so deep in each other are not looked at");
                deep.found(self.path_of(number, record.name()))
            });
            return;
        }
        let attributes = record.raw().get(1).copied().unwrap_or_default();
        let node =
            Node { record_at: byte, parent: number, depth, attributes, first: record.first(), len: record.len() };
        self.meet(node);
    }

    /// Is `of` inside `above`, or the same?
    fn is_above(&self, above: u32, of: u32) -> bool {
        self.line(of).any(|number| number == above)
    }

    /// The directory and those that it is in, up to the root.
    fn line(&self, number: u32) -> impl Iterator<Item = u32> + '_ {
        let up = |number: &u32| self.node(*number).filter(|node| node.depth > 0).map(|node| node.parent);
        std::iter::successors(Some(number), up)
    }

    /// What a name looks like in messages.
    fn shown(&self, name: &[u8]) -> String {
        let text = match self.root.wide {
            true => {
                let units: Vec<u16> = name.chunks_exact(2).map(BigEndian::read_u16).collect();
                String::from_utf16_lossy(&units)
            }
            false => String::from_utf8_lossy(name).into_owned(),
        };
        // The version of a file that everything has but nobody types.
        let text = text.strip_suffix(";1").map(str::to_string).unwrap_or(text);
        text.replace('/', "\\x2f")
    }

    /// The path of a directory, read again from its records.
    fn path(&self, number: u32) -> String {
        let mut names = Vec::new();
        for node in self.line(number).filter_map(|number| self.node(number)).filter(|node| node.depth > 0) {
            let mut raw = [0; 255];
            let got = self.file.read_up_to(node.record_at, &mut raw).unwrap_or_default();
            let name = raw.get(..got).and_then(Record::parse).map(|record| self.shown(record.name()));
            names.push(name.unwrap_or_default());
        }
        names.reverse();
        shortened(format!("/{}", names.join("/")))
    }

    fn path_of(&self, number: u32, name: &[u8]) -> String {
        let folder = self.path(number);
        shortened(format!("{}/{}", folder.trim_end_matches('/'), self.shown(name)))
    }
}

/// The end of a path that is too long to be read.
fn shortened(path: String) -> String {
    match path.char_indices().rev().nth(MOST_SHOWN) {
        Some((at, _)) => format!("…{}", path.get(at..).unwrap_or_default()),
        None => path,
    }
}
