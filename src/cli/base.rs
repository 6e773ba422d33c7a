//! `--base`: the image that an output is a delta on top of.

use std::path::{Component, Path, PathBuf};

use vdconv::fault::{Fault, Kind};
use vdconv::format::{self, Base, Lacks, OpenOptions};
use vdconv::image::Disk;
use vdconv::io::Gate;

/// The image that the output is a delta on top of.
pub struct Under {
    name: PathBuf,
    /// It.
    pub disk: Disk,
    relative: PathBuf,
    absolute: PathBuf,
}

impl Under {
    pub fn open(name: &Path, options: &OpenOptions, folder: &Path) -> Result<Under, Fault> {
        // What the input is, whose child, and what of it is believed, says nothing about the base: it is read as readers of the delta
        // will read it, and its losses are not the output's.
        let options = OpenOptions {
            format: None,
            parents: Vec::new(),
            ignore_bitmaps: false,
            is_base: true,
            lacks: Lacks::Nothing,
            ..options.clone()
        };
        let disk = format::open(&mut Gate::new(), name, &options)?;
        let real = |path: &Path| std::fs::canonicalize(path).map_err(|error| Fault::io(path, "cannot look at", error));
        let (absolute, folder) = (real(name)?, real(folder)?);
        let relative = relative_path(&folder, &absolute)
            .ok_or_else(|| Fault::new(Kind::Outside, name, "--base: no path leads to it from the output's drive"))?;
        Ok(Under { name: name.to_path_buf(), disk, relative, absolute })
    }

    pub fn facts(&self) -> Base {
        Base {
            name: self.name.clone(),
            facts: self.disk.facts.clone(),
            relative: self.relative.clone(),
            absolute: self.absolute.clone(),
            modified: self.disk.files().first().and_then(|file| file.modified()),
        }
    }

    /// A warning where readers that stay in the child's folder will not find the base.
    pub fn outside(&self) -> Option<Fault> {
        self.relative.starts_with("..").then(|| {
            Fault::new(Kind::Outside, &self.name, "the base lies outside the output's folder")
                .found(self.relative.display())
                .advice("vdconv needs --allow-outside to follow that name; other readers may not follow it at all")
        })
    }
}

/// The path from `folder` to `file`, both without links; `None`: they have no root in common.
fn relative_path(folder: &Path, file: &Path) -> Option<PathBuf> {
    let common = folder.components().zip(file.components()).take_while(|(a, b)| a == b).count();
    (common > 0).then(|| {
        let up = folder.components().skip(common).map(|_| Component::ParentDir);
        up.chain(file.components().skip(common)).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_up_to_what_both_have_in_common_and_down_from_there() {
        let path = |folder, file| relative_path(Path::new(folder), Path::new(file));
        for (folder, file, want) in [
            ("/a/b", "/a/b/c", "c"),
            ("/a/b", "/a/c", "../c"),
            ("/a/b/x", "/a/c/d", "../../c/d"),
            ("/a", "/a/b/c", "b/c"),
            ("/", "/c", "c"),
            ("/ab", "/a/c", "../a/c"),
        ] {
            assert_eq!(path(folder, file).as_deref(), Some(Path::new(want)), "{folder} {file}");
        }
    }
}
