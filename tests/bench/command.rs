//! The command line.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use super::race::Race;
use super::{cells, disk, limit, scaling, synced, table};

/// Measures conversions, side by side with qemu-img, cp and the machine's limit.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    job: Option<Job>,
    /// Where disks are made and converted: in memory, unless the disk is to be measured.
    #[arg(long, default_value = "/dev/shm", global = true)]
    dir: PathBuf,
    /// MB of files that the disk is filled with.
    #[arg(long, default_value_t = 1200, global = true)]
    data: u64,
    /// Where the files are taken from.
    #[arg(long, default_value = "/usr", global = true)]
    files: PathBuf,
    /// Rounds.
    #[arg(long, default_value_t = 5, global = true)]
    rounds: usize,
    /// Only the cells whose name has this in it.
    #[arg(long, global = true)]
    only: Option<String>,
    /// Another vdconv than the one that was built with this.
    #[arg(long, default_value = env!("CARGO_BIN_EXE_vdconv"), global = true)]
    vdconv: PathBuf,
    /// JSON instead of a table.
    #[arg(long, global = true)]
    json: bool,
    /// What `cargo bench` says.
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

#[derive(Subcommand)]
enum Job {
    /// Every cell against every contestant (this is what is done without a word).
    Cells,
    /// The first cell at 1, 2, 4, 8 threads and a growing amount of data.
    Scaling,
    /// The first cell onto a disk (--dir), with what was written on stable storage at the end.
    Synced,
    /// Makes the raw disk in FOLDER.
    #[command(hide = true)]
    Fill { folder: PathBuf },
    /// The limit itself: copies the data of FROM to TO.
    #[command(hide = true)]
    Limit { from: PathBuf, to: PathBuf },
}

/// Does what was asked for.
pub fn run() -> Result<ExitCode> {
    let args = Args::parse();
    if let Some(Job::Limit { from, to }) = &args.job {
        limit::copy(from, to)?;
        return Ok(ExitCode::SUCCESS);
    }
    let fill = disk::Fill { from: &args.files, bytes: args.data * 1_000_000 };
    if let Some(Job::Fill { folder }) = &args.job {
        fill.make(folder)?;
        return Ok(ExitCode::SUCCESS);
    }
    let folder = tempfile::Builder::new().prefix("vdconv-bench-").tempdir_in(&args.dir);
    let folder = folder.with_context(|| format!("no folder in {}", args.dir.display()))?;
    let race = Race { folder: folder.path(), vdconv: &args.vdconv, rounds: args.rounds };
    match args.job {
        Some(Job::Scaling) => scaling::run(&race, &args.files, args.json)?,
        Some(Job::Synced) => synced::run(&race, &fill, args.json)?,
        _ => run_cells(&race, &fill, args.only.as_deref(), args.json)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn run_cells(race: &Race<'_>, fill: &disk::Fill<'_>, only: Option<&str>, json: bool) -> Result<()> {
    let raw = fill.in_a_child(race.folder)?;
    let mut results = Vec::new();
    for cell in cells::ALL.iter().filter(|cell| only.is_none_or(|only| cell.name().contains(only))) {
        let source = cell.source.make(race, &raw)?;
        results.push(race.cell(cell, &source)?);
        remove(&source)?;
    }
    table::print(&results, &table::Machine::look(race.folder), json)
}

pub fn remove(path: &Path) -> Result<()> {
    std::fs::remove_file(path).with_context(|| format!("removing {}", path.display()))
}
