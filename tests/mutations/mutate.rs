//! One mutation of one file of a subject: bytes flipped, ranges zeroed or overwritten, files cut or grown, fields set to what hurts.

use super::common::vhd::seal;
use super::prng::Prng;
use super::subject::{Content, Guard, Shape, Structure, Subject, number, put_number};

/// A mutated file, and what may be asked of the result.
pub struct Case {
    /// Index of the file.
    pub file: usize,
    pub bytes: Vec<u8>,
    /// For messages: what was done.
    pub what: String,
    pub class: Class,
    /// What must come out where nothing else was said.
    pub expected: Expected,
}

/// What was hit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Class {
    /// A checksum, a copy or the format's own lengths tell: never silently another disk.
    Guarded(String),
    /// Nothing need tell: counted.
    Open(String),
    /// Bytes of the guest alone: as many others may come out as were changed.
    Data { changed: usize },
}

/// What a sound conversion gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// The disk as it was.
    Guest,
    /// The mutated file.
    File,
}

/// Makes case `number` of a subject.
pub fn case(subject: &Subject, seed: u64, number: u64) -> Case {
    let mut prng = Prng::of_case(seed, &subject.name, number);
    loop {
        let case = draw(subject, &mut prng);
        if case.bytes != subject.files[case.file].1 {
            return case;
        }
    }
}

fn draw(subject: &Subject, prng: &mut Prng) -> Case {
    match prng.below(20) {
        0 | 1 => of_another_length(subject, prng),
        2 => anywhere(subject, prng),
        _ => in_a_structure(subject, prng),
    }
}

/// A file cut at any byte, or with something behind it.
fn of_another_length(subject: &Subject, prng: &mut Prng) -> Case {
    let file = prng.below(subject.files.len());
    let mut bytes = subject.files[file].1.clone();
    let len = bytes.len();
    let cut = prng.one_in(2);
    let what = if cut {
        let at = if prng.one_in(3) { prng.below((len / 512).max(1)) * 512 } else { prng.below(len) };
        bytes.truncate(at);
        format!("cut at byte {at}")
    } else {
        let most = *prng.pick(&[4, 512, 4096, 1 << 20]);
        let more = 1 + prng.below(most);
        let more = if prng.one_in(2) { more.next_multiple_of(512) } else { more };
        let zero = prng.one_in(3);
        bytes.extend((0..more).map(|_| if zero { 0 } else { prng.next() as u8 }));
        format!("{more} bytes behind the end")
    };
    let of = if cut { "length, cut" } else { "length, grown" };
    let is_text = subject.at(file, &[0]).iter().any(|s| matches!(s.shape, Shape::Text { room: None }));
    let (class, expected) = match subject.content {
        Content::TheFile { cut_shows: true } if cut => (Class::Guarded(of.into()), Expected::Guest),
        Content::TheFile { .. } => (Class::Guarded(of.into()), Expected::File),
        Content::Guest if is_text => (Class::Open("descriptor".into()), Expected::Guest),
        Content::Guest => (Class::Guarded(of.into()), Expected::Guest),
    };
    Case { file, bytes, what, class, expected }
}

/// A range of any place, over the borders of structures.
fn anywhere(subject: &Subject, prng: &mut Prng) -> Case {
    let file = prng.below(subject.files.len());
    let mut bytes = subject.files[file].1.clone();
    let start = prng.below(bytes.len());
    let most = *prng.pick(&[16, 512, 4096, 65_536]);
    let len = (1 + prng.below(most)).min(bytes.len() - start);
    let how = overwrite(&mut bytes, start, len, prng);
    judged(subject, file, bytes, format!("{how} at byte {start}, {len} bytes"), "")
}

fn in_a_structure(subject: &Subject, prng: &mut Prng) -> Case {
    // By name first: a disk has a thousand grains and one header.
    let mut names: Vec<_> = subject.structures.iter().map(|structure| structure.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let name = loop {
        let name = *prng.pick(&names);
        let rare = name.ends_with("data") || name == "unused";
        if names.len() == 1 || !rare || prng.one_in(3) {
            break name;
        }
    };
    let of_name: Vec<_> = subject.structures.iter().filter(|structure| structure.name == name).collect();
    let structure = *prng.pick(&of_name);
    let mut bytes = subject.files[structure.file].1.clone();
    let by_shape = !prng.one_in(3);
    let mut what = match &structure.shape {
        Shape::Fields { big_endian, fields } if by_shape => field(structure, fields, *big_endian, &mut bytes, prng),
        Shape::Table { big_endian, width } if by_shape => entry(structure, *width, *big_endian, &mut bytes, prng),
        Shape::Text { room } if by_shape => text(structure, *room, &mut bytes, prng),
        _ => blind(structure, &mut bytes, prng),
    };
    let mut suffix = "";
    if let Some(at) = structure.sum.filter(|_| prng.one_in(3)) {
        // Hostile and consistent: the checksum is made right again.
        seal(&mut bytes[structure.range.clone()], at);
        suffix = ", sealed";
        what.push_str(suffix);
        let twin = subject.structures.iter().find(|other| {
            let same = |s: &Structure| s.file == structure.file && s.shape_is_footer() && s.range != structure.range;
            same(other) && structure.shape_is_footer()
        });
        if let Some(twin) = twin.filter(|_| prng.one_in(2)) {
            bytes.copy_within(structure.range.clone(), twin.range.start);
            suffix = " and its copy, sealed";
            what.push_str(suffix);
        }
    }
    judged(subject, structure.file, bytes, format!("{}: {what}", structure.name), suffix)
}

impl Structure {
    fn shape_is_footer(&self) -> bool {
        self.sum == Some(64)
    }
}

/// Which class a mutation of a file's bytes belongs to, by what it changed.
fn judged(subject: &Subject, file: usize, bytes: Vec<u8>, what: String, suffix: &str) -> Case {
    let old = &subject.files[file].1;
    let expected = match subject.content {
        Content::Guest => Expected::Guest,
        Content::TheFile { .. } => Expected::File,
    };
    // A descriptor that is a file may have another length.
    if bytes.len() != old.len() {
        return Case { file, bytes, what, class: Class::Open("descriptor".into()), expected };
    }
    let changed: Vec<usize> = (0..old.len()).filter(|at| old[*at] != bytes[*at]).collect();
    let touched = subject.at(file, &changed);
    let names = |guards: &[Guard]| {
        let mut names: Vec<_> = touched.iter().filter(|s| guards.contains(&s.guard)).map(|s| s.name.clone()).collect();
        names.dedup();
        names
    };
    let (open, guarded, data) = (names(&[Guard::Open]), names(&[Guard::Checked, Guard::Copied]), names(&[Guard::Data]));
    // A plain sum may fit by chance, or because two bytes changed places.
    let fits = touched.iter().find(|structure| {
        structure.sum.is_some_and(|at| {
            let mut sealed = bytes[structure.range.clone()].to_vec();
            seal(&mut sealed, at);
            sealed == bytes[structure.range.clone()]
        })
    });
    let class = match (open.first(), guarded.as_slice(), data.is_empty(), fits) {
        _ if expected == Expected::File => Class::Guarded(touched.first().map_or(String::new(), |s| s.name.clone())),
        (.., Some(structure)) => {
            let how = if suffix.is_empty() { ", a checksum that fits" } else { suffix };
            Class::Open(format!("{}{how}", structure.name))
        }
        (Some(open), [], ..) => Class::Open(open.clone()),
        (None, [], true, _) => Class::Guarded("unused".into()),
        (None, [], false, _) => Class::Data { changed: changed.len() },
        (None, [one], true, _) => Class::Guarded(one.clone()),
        _ => Class::Open("several structures".into()),
    };
    Case { file, bytes, what, class, expected }
}

/// Zeroes, noise, or other bytes of the file.
fn overwrite(bytes: &mut [u8], start: usize, len: usize, prng: &mut Prng) -> &'static str {
    match prng.below(3) {
        0 => {
            bytes[start..start + len].fill(0);
            "zeroed"
        }
        1 => {
            bytes[start..start + len].iter_mut().for_each(|byte| *byte = prng.next() as u8);
            "noise"
        }
        _ => {
            let from = prng.below(bytes.len() - len + 1);
            bytes.copy_within(from..from + len, start);
            "other bytes of the file"
        }
    }
}

/// Without regard to fields.
fn blind(structure: &Structure, bytes: &mut [u8], prng: &mut Prng) -> String {
    let range = structure.range.clone();
    let at = range.start + prng.below(range.len());
    match prng.below(5) {
        0 => {
            let bit = prng.below(8);
            bytes[at] ^= 1 << bit;
            format!("bit {bit} of byte {at} flipped")
        }
        1 => {
            let n = 2 + prng.below(6);
            for _ in 0..n {
                bytes[range.start + prng.below(range.len())] ^= 1 << prng.below(8);
            }
            format!("{n} bits flipped")
        }
        2 => {
            bytes[at] = *prng.pick(&[0, 0xFF]);
            format!("byte {at} set to {}", bytes[at])
        }
        _ => {
            let most = (range.end - at).min(*prng.pick(&[4, 64, 512, 1 << 20]));
            let len = 1 + prng.below(most);
            let how = overwrite(bytes, at, len, prng);
            format!("{how} at byte {at}, {len} bytes")
        }
    }
}

/// What hurts a field: borders of its width, its neighbours, other fields' values, the file's length.
fn hostile(old: u64, width: usize, another: u64, file_len: u64, prng: &mut Prng) -> u64 {
    let max = u64::MAX >> (64 - 8 * width.min(8));
    match prng.below(17) {
        0 => 0,
        1 => 1,
        2 => max,
        3 => max - 1,
        4 => old.wrapping_add(1),
        5 => old.wrapping_sub(1),
        6 => another,
        7 => file_len / 512,
        8 => file_len,
        9 => 1 << 31,
        10 => u64::from(u32::MAX),
        11 => old ^ 1 << prng.below(8 * width),
        12 => old.wrapping_mul(2),
        13 => old / 2,
        14 => prng.below(300) as u64,
        15 => prng.below(file_len as usize / 512) as u64,
        _ => prng.next() & max,
    }
}

fn field(s: &Structure, fields: &[(usize, usize)], big: bool, bytes: &mut [u8], prng: &mut Prng) -> String {
    let place = |(at, width): (usize, usize)| s.range.start + at..s.range.start + at + width;
    let (chosen, other) = (*prng.pick(fields), *prng.pick(fields));
    let (old, another) = (number(&bytes[place(chosen)], big), number(&bytes[place(other)], big));
    if prng.one_in(12) {
        put_number(&mut bytes[place(chosen)], big, another);
        put_number(&mut bytes[place(other)], big, old);
        return format!("fields at {} and {} change places", chosen.0, other.0);
    }
    let value = hostile(old, chosen.1, another, bytes.len() as u64, prng);
    put_number(&mut bytes[place(chosen)], big, value);
    format!("field at {} of {} bytes from {old:#x} to {value:#x}", chosen.0, chosen.1)
}

fn entry(s: &Structure, width: usize, big: bool, bytes: &mut [u8], prng: &mut Prng) -> String {
    let count = s.range.len() / width;
    let place = |n: usize| s.range.start + n * width..s.range.start + (n + 1) * width;
    let none = [0, u64::from(u32::MAX)];
    let used: Vec<usize> = (0..count).filter(|n| !none.contains(&number(&bytes[place(*n)], big))).collect();
    let any = |prng: &mut Prng| match used.is_empty() || prng.one_in(3) {
        true => prng.below(count),
        false => *prng.pick(&used),
    };
    let (n, other) = (any(prng), any(prng));
    let (old, another) = (number(&bytes[place(n)], big), number(&bytes[place(other)], big));
    match prng.below(8) {
        0 => {
            put_number(&mut bytes[place(n)], big, another);
            put_number(&mut bytes[place(other)], big, old);
            format!("entries {n} and {other} change places")
        }
        1 => {
            put_number(&mut bytes[place(n)], big, another);
            format!("entry {n} is that of {other}")
        }
        2 if count > 1 => {
            let m = if n + 1 < count { n + 1 } else { n - 1 };
            let next = number(&bytes[place(m)], big);
            put_number(&mut bytes[place(n)], big, next);
            put_number(&mut bytes[place(m)], big, old);
            format!("entries {n} and {m} change places")
        }
        3 => {
            let value = *prng.pick(&none);
            put_number(&mut bytes[place(n)], big, value);
            format!("entry {n} from {old:#x} to {value:#x}")
        }
        _ => {
            let value = hostile(old, width, another, bytes.len() as u64, prng);
            put_number(&mut bytes[place(n)], big, value);
            format!("entry {n} from {old:#x} to {value:#x}")
        }
    }
}

/// A descriptor's lines.
fn text(s: &Structure, room: Option<usize>, bytes: &mut Vec<u8>, prng: &mut Prng) -> String {
    let old = bytes[s.range.clone()].to_vec();
    let old = old.strip_suffix(&[0]).unwrap_or(&old);
    let mut lines: Vec<Vec<u8>> = old.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    let (n, m) = (prng.below(lines.len()), prng.below(lines.len()));
    let with = |lines: &[Vec<u8>], needle: &[u8]| lines.iter().position(|line| line.starts_with(needle));
    let keys: [&[u8]; 6] = [b"CID=", b"parentCID=", b"createType=", b"RW ", b"version=", b"parentFileNameHint="];
    let key = *prng.pick(&keys);
    // Half of the time a line that means something.
    let n = with(&lines, key).filter(|_| prng.one_in(2)).unwrap_or(n);
    let what = match prng.below(13) {
        0 => {
            lines.remove(n);
            format!("line {n} deleted")
        }
        1 => {
            let line = lines[n].clone();
            lines.insert(m, line);
            format!("line {n} again at {m}")
        }
        2 => {
            lines.swap(n, m);
            format!("lines {n} and {m} change places")
        }
        3 | 4 => {
            let digits: Vec<usize> = (0..lines[n].len()).filter(|at| lines[n][*at].is_ascii_digit()).collect();
            if let Some(at) = (!digits.is_empty()).then(|| *prng.pick(&digits)) {
                lines[n][at] = b'0' + prng.below(10) as u8;
            }
            format!("a digit of line {n}")
        }
        5 => {
            let line = lines[n].clone();
            let first = line.iter().position(u8::is_ascii_digit);
            if let Some(first) = first {
                let end = first + line[first..].iter().take_while(|byte| byte.is_ascii_digit()).count();
                let huge = ["0", "1", "4294967296", "9223372036854775807", "18446744073709551616", "-1", "1e9", ""];
                lines[n].splice(first..end, prng.pick(&huge).bytes());
            }
            format!("a number of line {n}")
        }
        6 => {
            lines[n].retain(|byte| *byte != b'"');
            format!("quotes of line {n}")
        }
        7 => {
            lines[n].push(b'"');
            format!("a quote behind line {n}")
        }
        8 => {
            let values =
                ["monolithicFlat", "monolithicSparse", "streamOptimized", "vmfsSparse", "seSparse", "custom", ""];
            let value = prng.pick(&values);
            if let Some(n) = with(&lines, b"createType=") {
                lines[n] = format!("createType=\"{value}\"").into_bytes();
            }
            format!("createType {value}")
        }
        9 => {
            let key = *prng.pick(&["CID=", "parentCID="]);
            let value = *prng.pick(&[0, 1, 0x1234_5678, u32::MAX, u32::MAX - 1]);
            if let Some(n) = with(&lines, key.as_bytes()) {
                lines[n] = format!("{key}{value:08x}").into_bytes();
            }
            format!("{key}{value:x}")
        }
        10 => {
            let len = *prng.pick(&[300, 9000, 200_000]);
            lines.insert(n, vec![*prng.pick(b"#xR\" ="); len]);
            format!("a line of {len} bytes at {n}")
        }
        11 => {
            let at = prng.below(lines[n].len() + 1);
            let byte = *prng.pick(&[0, 0xFF, b'\r', 0x1B, b'\n', b' ']);
            lines[n].insert(at, byte);
            format!("byte {byte:#x} in line {n} at {at}")
        }
        _ => {
            let kinds = ["FLAT", "ZERO", "SPARSE", "VMFS", "VMFSSPARSE", "SESPARSE", "RDONLY", "NOACCESS"];
            let kind = *prng.pick(&kinds);
            if let Some(n) = with(&lines, b"RW ") {
                let mut words: Vec<_> = lines[n].split(|byte| *byte == b' ').map(<[u8]>::to_vec).collect();
                let word = if kind == "RDONLY" || kind == "NOACCESS" { 0 } else { 2 };
                if let Some(word) = words.get_mut(word) {
                    *word = kind.into();
                }
                lines[n] = words.join(&b' ');
            }
            format!("an extent's {kind}")
        }
    };
    let mut new = lines.join(&b'\n');
    match room {
        None => *bytes = new,
        Some(room) => {
            new.resize(room, 0);
            bytes[s.range.start..s.range.start + room].copy_from_slice(&new);
        }
    }
    what
}
