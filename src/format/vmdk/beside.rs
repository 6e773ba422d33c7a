//! What the descriptors beside a file say of it: of which disk it is a piece, and which snapshots lie on top of it.
//!
//! Users give the piece instead of the whole, and the base instead of the snapshot that the machine last wrote to. Both are told from
//! the folder: up to 10,000 names, 1 MiB of each.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use percent_encoding::percent_decode_str;
use uuid::Uuid;

use super::header;
use super::parse::{Parsed, descriptor_in_head, descriptor_of, printable};
use crate::fault::{Fault, Kind};
use crate::format::Probe;
use crate::format::parents::base_name;
use crate::image::{Ledger, SECTOR};
use crate::io::{InputFile, Neighbour, in_memory, neighbours};

/// Bytes of a file that are looked at.
const MOST: usize = 1 << 20;
/// Bytes that nearly every descriptor has less than.
const USUAL: usize = 16 << 10;
/// Bytes of all files that are looked at.
const MOST_IN_ALL: usize = 64 << 20;

/// The descriptors in the folder of `file`, that of `file` itself apart.
fn descriptors(file: &InputFile) -> impl Iterator<Item = (Neighbour, Parsed)> {
    let mut left = MOST_IN_ALL;
    neighbours(file, "vmdk")
        .into_iter()
        .map_while(move |neighbour| {
            let found = descriptor(&neighbour, &mut left).map(|descriptor| (neighbour, descriptor));
            (left > 0).then_some(found)
        })
        .flatten()
}

/// The descriptor of a file, as far as its first bytes hold it.
fn descriptor(neighbour: &Neighbour, left: &mut usize) -> Option<Parsed> {
    // Most files of a large folder are data, or pieces of a split disk: told by their first sector.
    let first = neighbour.head(header::LEN);
    *left = left.saturating_sub(first.len());
    let sparse = first.first_chunk().filter(|raw| raw.starts_with(&header::MAGIC)).map(header::descriptor_area);
    let lengths = match sparse {
        Some((0, _) | (_, 0)) => return None,
        Some((offset, sectors)) => {
            let end = offset.saturating_add(sectors).saturating_mul(SECTOR);
            [in_memory(end).min(MOST); 2]
        }
        None if printable(&first) => [USUAL, MOST],
        None => return None,
    };
    let mut head = Vec::new();
    for most in lengths {
        head = neighbour.head(most);
        *left = left.saturating_sub(head.len());
        let cut = sparse.is_none() && head.len() == most && !head.contains(&0);
        if !cut {
            break;
        }
    }
    if head.len() == MOST && sparse.is_none() && !head.contains(&0) {
        // A line that is cut would look damaged.
        head.truncate(head.iter().rposition(|byte| *byte == b'\n')?);
    }
    descriptor_in_head(&head, Path::new(neighbour.name()))
}

/// Does a recorded name mean `file`, by its last part?
fn names(recorded: &str, file: &InputFile) -> bool {
    let real = std::fs::canonicalize(file.name()).ok();
    let own = real.as_deref().unwrap_or(file.name()).file_name().unwrap_or_default().to_string_lossy();
    let decoded = percent_decode_str(recorded).decode_utf8_lossy();
    [recorded, &decoded].iter().any(|name| base_name(name).eq_ignore_ascii_case(&own))
}

/// A name beside `file`, as the user would have to type it.
fn shown(file: &InputFile, neighbour: &Neighbour) -> String {
    file.shown_folder().join(neighbour.name()).to_string_lossy().into_owned()
}

/// The refusal of a piece of a VMDK, where a descriptor beside it names it; it tells which part of which disk it is.
pub fn refusal_of_piece(file: &InputFile) -> Option<Fault> {
    descriptors(file).find_map(|(neighbour, descriptor)| {
        let lines = &descriptor.extents;
        // A name in another folder is another file's.
        let is_here = |name: &str| base_name(name) == name && names(name, file);
        let part = lines.iter().position(|line| line.file.as_deref().is_some_and(is_here))?;
        let whole = shown(file, &neighbour);
        // An embedded descriptor names its own file, under the name it once had.
        let embedded = neighbour.head(4) == header::MAGIC;
        (!embedded).then(|| {
            Fault::new(Kind::Unsupported, file.name(), "a piece of a VMDK, without its descriptor")
                .found(format!("part {} of {} of {whole}", part + 1, lines.len()))
                .advice(format!("give {whole}"))
        })
    })
}

/// A warning for each snapshot beside `file` that lies on top of it: what the machine last wrote is there.
pub fn warn_of_newer(file: &InputFile, descriptor: &Parsed, ledger: &Ledger) {
    let uuid = descriptor.uuid("ddb.uuid.image");
    for (neighbour, child) in descriptors(file) {
        let by_name = child.is_child() && child.said("parentFileNameHint").is_some_and(|hint| names(hint, file));
        let by_uuid = uuid.is_some() && child.uuid("ddb.uuid.parent") == uuid;
        if by_name || by_uuid {
            let what = "a snapshot beside it lies on top of this disk: the newer state is there";
            let warning = Fault::new(Kind::Changed, file.name(), what);
            ledger.warn(warning.found(shown(file, &neighbour)));
        }
    }
}

/// The name of a VMDK beside `file` that has this uuid.
pub fn with_uuid(file: &InputFile, uuid: Uuid) -> Option<String> {
    let found = descriptors(file).find(|(_, descriptor)| descriptor.uuid("ddb.uuid.image") == Some(uuid));
    found.map(|(neighbour, _)| shown(file, &neighbour))
}

/// Is a file called as products call pieces: `-s001`, `-000001-s001`, `-f001`, `-flat`, `-delta`, `-sesparse`?
pub fn piece_by_name(name: &Path) -> bool {
    let stem = name.file_stem().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let Some((_, last)) = stem.rsplit_once('-') else { return false };
    let numbered = last.strip_prefix(['s', 'f']).is_some_and(|n| n.len() >= 3 && n.bytes().all(|b| b.is_ascii_digit()));
    numbered || ["flat", "delta", "sesparse"].contains(&last)
}

/// The pieces that the descriptor in `file` names beside it, under the names that products make from the descriptor's own.
pub fn pieces(file: &InputFile) -> Vec<String> {
    let Ok(Some(descriptor)) = descriptor_of(file) else { return Vec::new() };
    let stem = file.name().file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let is_own = |name: &String| {
        let front = Path::new(name).file_stem().and_then(|s| s.to_str()).and_then(|s| s.rsplit_once('-'));
        base_name(name) == name && piece_by_name(Path::new(name)) && front.is_some_and(|(front, _)| front == stem)
    };
    descriptor.extents.into_iter().filter_map(|line| line.file).filter(is_own).collect()
}

/// What the descriptors beside `file`, but for the one of this name, have as extents: the names, in small letters, and who names them.
pub fn named(file: &InputFile, but: &OsStr) -> HashMap<String, PathBuf> {
    let others =
        descriptors(file).filter(|(neighbour, _)| neighbour.name() != but && neighbour.head(4) != header::MAGIC);
    let mut named = HashMap::new();
    for (neighbour, descriptor) in others {
        let owner = file.shown_folder().join(neighbour.name());
        // A name in another folder is another file's.
        let names =
            descriptor.extents.iter().filter_map(|line| line.file.as_deref()).filter(|name| base_name(name) == *name);
        for name in names {
            for name in [name, &percent_decode_str(name).decode_utf8_lossy()] {
                named.entry(base_name(name).to_ascii_lowercase()).or_insert_with(|| owner.clone());
            }
        }
    }
    named
}

/// The refusal of a file without any content of its own that is called `.vmdk`: the data of a flat disk, or a raw device mapping.
pub fn stray(probe: &Probe<'_>) -> Option<Fault> {
    let file = probe.file;
    if !file.name().extension().is_some_and(|ending| ending.eq_ignore_ascii_case("vmdk")) {
        return None;
    }
    let stem = file.name().file_stem().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    if stem.ends_with("-rdm") || stem.ends_with("-rdmp") {
        let what = "a raw device mapping: the data is on the LUN that it maps";
        return Some(Fault::new(Kind::Unsupported, file.name(), what).advice("read the LUN itself"));
    }
    refusal_of_piece(file).or_else(|| {
        piece_by_name(file.name()).then(|| {
            Fault::new(Kind::NotThisFormat, file.name(), "the data of a VMDK, and no descriptor beside it names it")
                .advice("give the descriptor; if that is lost, -f raw reads a whole -flat file as the disk")
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_told_by_their_names() {
        for name in [
            "a-s001.vmdk",
            "a-000001-s1024.vmdk",
            "a b-f001.vmdk",
            "a-flat.vmdk",
            "a-000001-delta.vmdk",
            "A-SESPARSE.VMDK",
        ] {
            assert!(piece_by_name(Path::new(name)), "{name}");
        }
        for name in ["a.vmdk", "a-000001.vmdk", "a-s01.vmdk", "flat.vmdk", "a-s00a.vmdk", "a-disk1.vmdk"] {
            assert!(!piece_by_name(Path::new(name)), "{name}");
        }
    }
}
