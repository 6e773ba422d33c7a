//! The first cell onto a disk, with what was written on stable storage at the end: what a migration waits for.

use std::fs::File;
use std::io::Write;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::cells::Kind;
use super::disk::Fill;
use super::race::{Race, median};

/// Bytes of the probe of the disk itself.
const PROBE: usize = 1 << 30;

/// Rounds of this program, qemu-img with its flush, and the disk alone.
pub fn run(race: &Race<'_>, fill: &Fill<'_>, json: bool) -> Result<()> {
    ensure!(race.has_qemu(), "qemu-img is needed");
    let raw = fill.in_a_child(race.folder)?;
    let source = Kind::DynamicVhd.make(race, &raw)?;
    let (to, report) = (race.folder.join("out.vmdk"), race.folder.join("report"));
    let (mut ours, mut waits, mut ratios, mut disk) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..race.rounds {
        let began = Instant::now();
        let status = Command::new(race.vdconv)
            .args(["convert", "--progress", "none", "--json", "-s", "sparse"])
            .args([&source, &to])
            .stdout(File::create(&report)?)
            .status()?;
        let seconds = began.elapsed().as_secs_f64();
        ensure!(status.success(), "vdconv: {status}");
        let said: Value = serde_json::from_slice(&std::fs::read(&report)?)?;
        let wait = said["seconds_syncing"].as_f64().context("a report without seconds_syncing")?;
        std::fs::remove_file(&to)?;
        let mut qemu = Command::new("qemu-img");
        qemu.args(["convert", "-t", "writeback", "-f", "vpc"]).arg(&source);
        let theirs = race.run(Kind::Sparse.told_qemu(&mut qemu).arg(&to))?.seconds;
        ours.push(seconds);
        waits.push(wait / seconds);
        ratios.push(theirs / seconds);
        disk.push(probe(race)?);
    }
    let [ours, waits, ratios, disk] = [ours, waits, ratios, disk].map(|values| median(values.into_iter()));
    match json {
        true => println!(
            "{}",
            json!({ "seconds": ours, "waiting": waits, "times_as_fast": ratios, "disk_mb_per_second": disk })
        ),
        false => println!(
            "dynamic VHD -> monolithicSparse, synced: {ours:.2} s, {ratios:.2} times as fast as qemu-img convert -t writeback, \
             waiting at the end {:.0}% of it; the disk takes {disk:.0} MB/s",
            waits * 100.0
        ),
    }
    Ok(())
}

/// MB a second that the disk takes, written in one go and synced.
fn probe(race: &Race<'_>) -> Result<f64> {
    let path = race.folder.join("probe");
    let piece: Vec<u8> = (0u32..1 << 18).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let began = Instant::now();
    let mut file = File::create_new(&path)?;
    for _ in 0..PROBE / piece.len() {
        file.write_all(&piece)?;
    }
    file.sync_all()?;
    let seconds = began.elapsed().as_secs_f64();
    drop(file);
    std::fs::remove_file(&path)?;
    Ok(PROBE as f64 / 1e6 / seconds)
}
