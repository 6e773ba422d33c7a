//! The first cell with more threads, and with more data.

use std::path::Path;

use anyhow::Result;
use serde_json::json;

use super::cells::{ALL, Kind};
use super::command::remove;
use super::disk::Fill;
use super::race::{Race, median};

/// MB of data.
const DATA: [u64; 4] = [500, 1000, 2000, 4000];
const JOBS: [usize; 4] = [1, 2, 4, 8];

/// A table of seconds.
pub fn run(race: &Race<'_>, files: &Path, json: bool) -> Result<()> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let jobs: Vec<_> = JOBS.into_iter().filter(|jobs| *jobs <= cores.max(2)).collect();
    let mut rows = Vec::new();
    for data in DATA {
        let raw = Fill { from: files, bytes: data * 1_000_000 }.in_a_child(race.folder)?;
        let source = Kind::DynamicVhd.make(race, &raw)?;
        remove(&raw)?;
        let to = race.folder.join("out.vmdk");
        let mut seconds = vec![Vec::new(); jobs.len()];
        for _ in 0..race.rounds {
            for (jobs, seconds) in jobs.iter().zip(&mut seconds) {
                let jobs = jobs.to_string();
                let mut command = race.vdconv(&source, &to, ALL[0].target, &["-j", &jobs]);
                seconds.push(race.run(&mut command)?.seconds);
            }
        }
        rows.push((data, seconds.into_iter().map(|runs| median(runs.into_iter())).collect::<Vec<_>>()));
        remove(&source)?;
    }
    if json {
        let row = |(data, seconds): &(u64, Vec<f64>)| json!({ "mb": data, "jobs": jobs, "seconds": seconds });
        println!("{}", serde_json::to_string_pretty(&rows.iter().map(row).collect::<Vec<_>>())?);
        return Ok(());
    }
    println!("| {} |{}", ALL[0].name(), jobs.iter().map(|jobs| format!(" -j {jobs} |")).collect::<String>());
    println!("|---|{}", "---|".repeat(jobs.len()));
    for (data, seconds) in rows {
        let cell = |seconds: &f64| format!(" {seconds:.2} s, {:.2} GB/s |", data as f64 / 1000.0 / seconds);
        println!("| {data} MB |{}", seconds.iter().map(cell).collect::<String>());
    }
    Ok(())
}
