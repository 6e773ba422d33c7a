//! What is converted into what.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::disk;
use super::race::Race;

/// A kind of image.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    DynamicVhd,
    FixedVhd,
    Sparse,
    Flat,
    Stream,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::DynamicVhd => "dynamic VHD",
            Kind::FixedVhd => "fixed VHD",
            Kind::Sparse => "monolithicSparse",
            Kind::Flat => "monolithicFlat",
            Kind::Stream => "streamOptimized",
        }
    }

    pub fn extension(self) -> &'static str {
        match self {
            Kind::DynamicVhd | Kind::FixedVhd => "vhd",
            Kind::Sparse | Kind::Flat | Kind::Stream => "vmdk",
        }
    }

    /// `-s` of vdconv.
    fn subformat(self) -> &'static str {
        match self {
            Kind::DynamicVhd => "dynamic",
            Kind::FixedVhd => "fixed",
            Kind::Sparse => "sparse",
            Kind::Flat => "flat",
            Kind::Stream => "stream",
        }
    }

    /// `-O` and `-o` of qemu-img.
    fn qemu(self) -> [&'static str; 4] {
        match self {
            Kind::DynamicVhd => ["-O", "vpc", "-o", "subformat=dynamic,force_size=on"],
            Kind::FixedVhd => ["-O", "vpc", "-o", "subformat=fixed,force_size=on"],
            Kind::Sparse => ["-O", "vmdk", "-o", "subformat=monolithicSparse"],
            Kind::Flat => ["-O", "vmdk", "-o", "subformat=monolithicFlat"],
            Kind::Stream => ["-O", "vmdk", "-o", "subformat=streamOptimized"],
        }
    }

    /// A source of this kind: by qemu-img, so that it is nobody's own, else by vdconv.
    pub fn make(self, race: &Race<'_>, raw: &Path) -> Result<PathBuf> {
        let made = race.folder.join("source").with_extension(self.extension());
        match race.has_qemu() {
            true => {
                let mut command = Command::new("qemu-img");
                command.args(["convert", "-f", "raw"]).arg(raw).args(self.qemu()).arg(&made);
                disk::run(&mut command)?;
            }
            false => disk::run(&mut race.vdconv(raw, &made, self, &[]))?,
        }
        Ok(made)
    }

    /// What vdconv is told.
    pub fn told_vdconv(self, command: &mut Command) -> &mut Command {
        command.args(["-s", self.subformat()])
    }

    /// What qemu-img is told.
    pub fn told_qemu(self, command: &mut Command) -> &mut Command {
        command.args(self.qemu())
    }
}

/// One conversion.
pub struct Cell {
    pub source: Kind,
    pub target: Kind,
    /// Of vdconv.
    pub options: &'static [&'static str],
    /// Times as fast as qemu-img that it shall be.
    pub goal: f64,
    /// As fast as the limit that it shall be; none where the work is not copying.
    pub of_limit: Option<f64>,
    /// Its output's size against qemu-img's, at most.
    pub size: Option<f64>,
}

impl Cell {
    pub fn name(&self) -> String {
        let options = self.options.concat();
        let space = if options.is_empty() { "" } else { " " };
        format!("{} -> {}{space}{options}", self.source.name(), self.target.name())
    }
}

const fn plain(source: Kind, target: Kind, goal: f64) -> Cell {
    Cell { source, target, options: &[], goal, of_limit: Some(0.8), size: None }
}

const fn packed(source: Kind, target: Kind, options: &'static [&'static str], goal: f64, size: Option<f64>) -> Cell {
    Cell { source, target, options, goal, of_limit: None, size }
}

/// All of them.
pub const ALL: &[Cell] = &[
    plain(Kind::DynamicVhd, Kind::Sparse, 4.0),
    plain(Kind::DynamicVhd, Kind::Flat, 2.0),
    plain(Kind::DynamicVhd, Kind::FixedVhd, 2.0),
    plain(Kind::FixedVhd, Kind::Sparse, 4.0),
    plain(Kind::Sparse, Kind::DynamicVhd, 4.0),
    packed(Kind::DynamicVhd, Kind::Stream, &[], 6.0, Some(1.0)),
    packed(Kind::DynamicVhd, Kind::Stream, &["--fast"], 10.0, Some(1.06)),
    packed(Kind::Stream, Kind::DynamicVhd, &[], 4.5, None),
    packed(Kind::Stream, Kind::Stream, &[], 20.0, None),
];
