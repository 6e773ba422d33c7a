//! The disk that is converted: an ext4 file system full of files of this machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// What a disk is filled with.
pub struct Fill<'a> {
    /// The folder whose files are taken, spread over all that it has.
    pub from: &'a Path,
    /// So many bytes of them, or a little less.
    pub bytes: u64,
}

impl Fill<'_> {
    /// The same in a process of its own: what this one holds at its peak, its children are taken to have held.
    pub fn in_a_child(&self, folder: &Path) -> Result<PathBuf> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--data", &(self.bytes / 1_000_000).to_string(), "--files"]).arg(self.from);
        run(command.arg("fill").arg(folder))?;
        Ok(folder.join("disk.raw"))
    }

    /// A raw disk in `folder`, half again as large as what is in it.
    pub fn make(&self, folder: &Path) -> Result<PathBuf> {
        let (tree, raw) = (folder.join("tree"), folder.join("disk.raw"));
        fs::create_dir(&tree)?;
        let mut files = Vec::new();
        list(self.from, &mut files);
        let all: u64 = files.iter().map(|(_, len)| len).sum();
        ensure!(all >= self.bytes, "{} has {all} bytes of files, {} are needed", self.from.display(), self.bytes);
        let (mut passed, mut taken) = (0u128, 0);
        for (number, (path, len)) in files.iter().enumerate() {
            passed += u128::from(*len);
            // As much of them as the share that is wanted.
            let wanted = passed * u128::from(self.bytes) / u128::from(all);
            if u128::from(taken + len) > wanted {
                continue;
            }
            // Folders of a hundred.
            let place = tree.join(format!("{:05}", number / 100));
            fs::create_dir_all(&place)?;
            taken += fs::copy(path, place.join(number.to_string())).unwrap_or(0);
        }
        fs::File::create(&raw)?.set_len((self.bytes + self.bytes / 2).next_multiple_of(1 << 20))?;
        run(Command::new("mke2fs").args(["-q", "-F", "-t", "ext4", "-d"]).arg(&tree).arg(&raw))?;
        fs::remove_dir_all(&tree)?;
        Ok(raw)
    }
}

/// All files below a folder and their lengths, in the order of their names. What cannot be read is passed over.
fn list(folder: &Path, files: &mut Vec<(PathBuf, u64)>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut entries: Vec<_> = entries.filter_map(Result::ok).collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        match entry.metadata() {
            Ok(meta) if meta.is_dir() => list(&entry.path(), files),
            Ok(meta) if meta.is_file() => files.push((entry.path(), meta.len())),
            _ => {}
        }
    }
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
