//! Runs the contestants of a cell in turn, and measures each.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use wait4::Wait4;

use super::cells::{Cell, Kind};

/// Where and how often.
pub struct Race<'a> {
    pub folder: &'a Path,
    pub vdconv: &'a Path,
    pub rounds: usize,
}

/// One run of one contestant.
#[derive(Clone, Copy)]
pub struct Run {
    pub seconds: f64,
    /// Of them, or of several processors' together, in the program itself and in the kernel.
    pub user: f64,
    pub system: f64,
    pub peak_mib: f64,
    /// Bytes that the output takes up.
    pub size: u64,
}

/// All runs of one contestant, by round.
pub struct Lane {
    pub name: &'static str,
    pub runs: Vec<Run>,
}

/// A cell that was run.
pub struct Raced<'c> {
    pub cell: &'c Cell,
    /// This program first.
    pub lanes: Vec<Lane>,
}

/// The middle one.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    let at = values.len() / 2;
    match values.len() % 2 {
        _ if values.is_empty() => f64::NAN,
        1 => values[at],
        _ => (values[at - 1] + values[at]) / 2.0,
    }
}

impl Raced<'_> {
    pub fn ours(&self) -> &Lane {
        &self.lanes[0]
    }

    /// How many times as long as ours the runs of `lane` took, pair by pair: the median.
    pub fn ratio(&self, lane: &Lane) -> f64 {
        median(lane.runs.iter().zip(&self.ours().runs).map(|(other, ours)| other.seconds / ours.seconds))
    }

    pub fn lane(&self, name: &str) -> Option<&Lane> {
        self.lanes.iter().find(|lane| lane.name == name)
    }

    /// qemu-img as it is, or with as many requests and in whatever order, whichever is better.
    pub fn qemu(&self) -> Option<&Lane> {
        let lanes = [QEMU, QEMU_WIDE].into_iter().filter_map(|name| self.lane(name));
        lanes.min_by(|a, b| self.ratio(a).total_cmp(&self.ratio(b)))
    }
}

pub const QEMU: &str = "qemu-img";
pub const QEMU_WIDE: &str = "qemu-img -m 8 -W";
pub const COPY: &str = "cp";
pub const LIMIT: &str = "limit";

impl Race<'_> {
    pub fn has_qemu(&self) -> bool {
        Command::new("qemu-img").arg("--version").stdout(Stdio::null()).status().is_ok_and(|status| status.success())
    }

    /// A conversion by this program.
    pub fn vdconv(&self, from: &Path, to: &Path, kind: Kind, options: &[&str]) -> Command {
        let mut command = Command::new(self.vdconv);
        command.args(["convert", "--no-sync", "--progress", "none", "-q"]).args(options).arg(from).arg(to);
        kind.told_vdconv(&mut command);
        command
    }

    fn qemu(&self, from: &Path, to: &Path, cell: &Cell, options: &[&str]) -> Command {
        let mut command = Command::new("qemu-img");
        let format = if cell.source.extension() == "vhd" { "vpc" } else { "vmdk" };
        command.arg("convert").args(options).args(["-f", format]).arg(from);
        cell.target.told_qemu(&mut command).arg(to);
        command
    }

    /// Every contestant in turn, over and over.
    pub fn cell<'c>(&self, cell: &'c Cell, source: &Path) -> Result<Raced<'c>> {
        let to = self.folder.join("out").with_extension(cell.target.extension());
        let mut contestants = vec![("vdconv", self.vdconv(source, &to, cell.target, cell.options))];
        if self.has_qemu() {
            contestants.push((QEMU, self.qemu(source, &to, cell, &[])));
            contestants.push((QEMU_WIDE, self.qemu(source, &to, cell, &["-m", "8", "-W"])));
        }
        if cell.of_limit.is_some() {
            let mut copy = Command::new("cp");
            copy.args(["--reflink=never", "--sparse=never"]).arg(source).arg(&to);
            contestants.push((COPY, copy));
            let mut limit = Command::new(std::env::current_exe()?);
            limit.arg("limit").arg(source).arg(&to);
            contestants.push((LIMIT, limit));
        }
        let mut lanes: Vec<_> = contestants.iter().map(|(name, _)| Lane { name, runs: Vec::new() }).collect();
        for _ in 0..self.rounds {
            for ((_, command), lane) in contestants.iter_mut().zip(&mut lanes) {
                lane.runs.push(self.run(command)?);
            }
        }
        Ok(Raced { cell, lanes })
    }

    /// One run; what it wrote is measured and removed.
    pub fn run(&self, command: &mut Command) -> Result<Run> {
        let program = command.get_program().to_string_lossy().into_owned();
        let began = Instant::now();
        let child = command.stdout(Stdio::null()).spawn().with_context(|| format!("{program} is needed"))?;
        let used = child.wait4()?;
        let seconds = began.elapsed().as_secs_f64();
        if !used.status.success() {
            bail!("{command:?}: {}", used.status);
        }
        let mut size = 0;
        for output in self.outputs()? {
            size += fs::metadata(&output)?.len();
            fs::remove_file(&output)?;
        }
        Ok(Run {
            seconds,
            user: used.rusage.utime.as_secs_f64(),
            system: used.rusage.stime.as_secs_f64(),
            peak_mib: used.rusage.maxrss as f64 / f64::from(1 << 20),
            size,
        })
    }

    fn outputs(&self) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(self.folder)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with("out") {
                found.push(entry.path());
            }
        }
        Ok(found)
    }
}
