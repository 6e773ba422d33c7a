//! What lies inside a disk, as lines of `info`.

use vdconv::fault::Fault;
use vdconv::guest::{FileSystem, Guest, Loaders, Partition, TableKind};

use super::show;

/// Partitions that people are shown; JSON has more.
const MOST: usize = 24;

/// Labels and what stands behind them; a line that goes on has an empty label. What could not be read because a file is `missing` is told
/// with that file.
pub fn lines(guest: &Guest, missing: &[Fault]) -> Vec<(&'static str, String)> {
    let mut lines = vec![("partitions", table(guest))];
    let widths = guest.partitions.iter().take(MOST).fold([0; 3], |widest, partition| {
        let cells = cells(partition);
        [0, 1, 2].map(|n: usize| widest[n].max(cells[n].len()))
    });
    for partition in guest.partitions.iter().take(MOST) {
        let [number, start, len] = cells(partition);
        let [a, b, c] = widths;
        lines.push(("", format!("{number:>a$}  at {start:>b$}, {len:>c$}  {}", what(partition))));
    }
    if guest.table.count > MOST {
        lines.push(("", format!("and {} more", guest.table.count - MOST)));
    }
    if let Some(whole) = &guest.file_system {
        lines.push(("file system", described(whole)));
    }
    lines.push(("boot", format!("{}: {}", guest.boot.kind.title(), guest.boot.reason)));
    let told: Vec<String> = missing.iter().map(ToString::to_string).collect();
    let unread = guest.unread.iter().map(ToString::to_string).filter(|fault| !told.contains(fault));
    for (n, fault) in unread.enumerate() {
        lines.push((if n == 0 { "not read" } else { "" }, fault));
    }
    lines
}

fn table(guest: &Guest) -> String {
    let table = &guest.table;
    let id = table.disk_id.as_ref().map(|id| format!(", disk id {id}")).unwrap_or_default();
    match table.kind {
        TableKind::None => "none".into(),
        TableKind::Unread => "cannot be read".into(),
        TableKind::Mbr => format!("MBR{id}"),
        TableKind::Gpt => {
            let sectors = if table.sector_size == 512 {
                String::new()
            } else {
                format!(" of {}-byte sectors", table.sector_size)
            };
            let copies = [("first copy", table.primary), ("second copy", table.backup)];
            let copies = copies.iter().filter_map(|(name, copy)| copy.map(|copy| format!(", {name} {}", copy.word())));
            let hybrid = if table.hybrid { ", hybrid MBR" } else { "" };
            format!("GPT{sectors}{id}{}{hybrid}", copies.collect::<String>())
        }
    }
}

fn cells(partition: &Partition) -> [String; 3] {
    [partition.number.to_string(), show::size(partition.start), show::size(partition.len)]
}

/// What a partition is for, and what is in it.
pub fn what(partition: &Partition) -> String {
    let kind = match partition.type_name {
        "" => format!("type {}", partition.kind),
        name => name.to_string(),
    };
    let name = partition.name.as_ref().map(|name| format!(" \"{name}\"")).unwrap_or_default();
    let active = if partition.active { ", active" } else { "" };
    let inside = partition.file_system.as_ref().map(|found| format!(": {}", described(found))).unwrap_or_default();
    let loaders = partition.loaders.as_ref().map(starts).unwrap_or_default();
    format!("{kind}{name}{active}{inside}{loaders}")
}

/// The loaders of an EFI system partition.
fn starts(loaders: &Loaders) -> String {
    let windows = loaders.windows.then_some("Windows' own");
    let all: Vec<&str> = loaders.fallback.iter().copied().chain(windows).collect();
    if all.is_empty() { ", no loader".into() } else { format!(", loader: {}", all.join(", ")) }
}

fn described(found: &FileSystem) -> String {
    let label = found.label.as_ref().map(|label| format!(" \"{label}\"")).unwrap_or_default();
    format!("{}{label}", found.title)
}
