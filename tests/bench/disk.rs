//! The disk that is converted: an ext4 file system full of files of this machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// What a disk is filled with.
pub struct Fill<'a> {
    /// The folder whose files are taken, in the order of their names.
    pub from: &'a Path,
    /// At most so many bytes of them.
    pub bytes: u64,
}

impl Fill<'_> {
    /// A raw disk in `folder`, half again as large as what is in it.
    pub fn make(&self, folder: &Path) -> Result<PathBuf> {
        let (tree, raw) = (folder.join("tree"), folder.join("disk.raw"));
        fs::create_dir(&tree)?;
        let mut left = self.bytes;
        collect(self.from, &tree, &mut left, &mut 0)?;
        ensure!(left < self.bytes / 50, "{} has less than {} bytes of files", self.from.display(), self.bytes);
        fs::File::create(&raw)?.set_len((self.bytes + self.bytes / 2).next_multiple_of(1 << 20))?;
        run(Command::new("mke2fs").args(["-q", "-F", "-t", "ext4", "-d"]).arg(&tree).arg(&raw))?;
        fs::remove_dir_all(&tree)?;
        Ok(raw)
    }
}

/// Copies files into one flat folder each of a hundred, until there is enough.
fn collect(from: &Path, tree: &Path, left: &mut u64, number: &mut u64) -> Result<()> {
    let Ok(entries) = fs::read_dir(from) else { return Ok(()) };
    let mut entries: Vec<_> = entries.filter_map(Result::ok).collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            collect(&entry.path(), tree, left, number)?;
        } else if kind.is_file() {
            let len = entry.metadata().map_or(0, |found| found.len());
            if len > *left {
                continue;
            }
            let folder = tree.join(format!("{:05}", *number / 100));
            fs::create_dir_all(&folder)?;
            if fs::copy(entry.path(), folder.join(number.to_string())).is_ok() {
                *left -= len;
                *number += 1;
            }
        }
    }
    Ok(())
}

/// Runs a program that must succeed.
pub fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.stdout(Stdio::null()).status().with_context(|| format!("{program} is needed"))?;
    if !status.success() {
        bail!("{program}: {status}");
    }
    Ok(())
}
