//! What came of it, for people and for programs.

use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};

use super::race::{COPY, LIMIT, Lane, Raced, median};

/// What the figures were measured on.
pub struct Machine {
    processor: String,
    cores: usize,
    place: String,
}

impl Machine {
    pub fn look(folder: &Path) -> Machine {
        let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let name = text.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown");
        let kind = rustix::fs::statfs(folder).map_or(0, |found| found.f_type);
        Machine {
            processor: name.trim_start_matches([' ', '\t', ':']).to_string(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            place: if kind == 0x0102_1994 { "in memory (tmpfs)".into() } else { format!("a disk ({kind:#x})") },
        }
    }

    pub fn text(&self) -> String {
        format!("{}, {} cores, {}", self.processor, self.cores, self.place)
    }
}

fn json_of(raced: &Raced<'_>) -> Value {
    let lane = |lane: &Lane| {
        let runs = |of: fn(&super::race::Run) -> f64| median(lane.runs.iter().map(of));
        json!({
            "name": lane.name,
            "seconds": lane.runs.iter().map(|run| run.seconds).collect::<Vec<_>>(),
            "median": runs(|run| run.seconds),
            "user": runs(|run| run.user),
            "system": runs(|run| run.system),
            "peak_mib": lane.runs.iter().map(|run| run.peak_mib).fold(0.0, f64::max),
            "size": lane.runs.first().map(|run| run.size),
            "times_ours": raced.ratio(lane),
        })
    };
    json!({
        "cell": raced.cell.name(),
        "goal": raced.cell.goal,
        "goal_of_limit": raced.cell.of_limit,
        "goal_size": raced.cell.size,
        "contestants": raced.lanes.iter().map(lane).collect::<Vec<_>>(),
    })
}

/// Prints all cells.
pub fn print(results: &[Raced<'_>], machine: &Machine, json: bool) -> Result<()> {
    if json {
        let cells: Vec<_> = results.iter().map(json_of).collect();
        println!("{}", serde_json::to_string_pretty(&json!({ "machine": machine.text(), "cells": cells }))?);
        return Ok(());
    }
    println!("{}", machine.text());
    println!(
        "| from -> to | seconds | qemu-img | times as fast (goal) | cp | of the limit (goal) | size against qemu-img's | MiB |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for raced in results {
        let (cell, ours) = (raced.cell, raced.ours());
        let seconds = |lane: &Lane| format!("{:.2}", median(lane.runs.iter().map(|run| run.seconds)));
        let none = || "-".to_string();
        let size = |lane: &Lane| lane.runs.first().map_or(f64::NAN, |run| run.size as f64);
        let qemu = raced.qemu();
        let goal = |goal: Option<f64>, unit: &str, by: f64| {
            goal.map_or(String::new(), |goal| format!(" ({:.0}{unit})", goal * by))
        };
        println!(
            "| {} | {} | {} | {} | {} | {} | {} | {:.0} |",
            cell.name(),
            seconds(ours),
            qemu.map_or_else(none, seconds),
            qemu.map_or_else(none, |qemu| format!("{:.1} ({})", raced.ratio(qemu), cell.goal)),
            raced.lane(COPY).map_or_else(none, seconds),
            raced.lane(LIMIT).map_or_else(none, |limit| format!(
                "{:.0}%{}",
                raced.ratio(limit) * 100.0,
                goal(cell.of_limit, "%", 100.0)
            )),
            qemu.filter(|_| cell.size.is_some()).map_or_else(none, |qemu| format!(
                "{:.3} (at most {})",
                size(ours) / size(qemu),
                cell.size.unwrap_or(f64::NAN)
            )),
            ours.runs.iter().map(|run| run.peak_mib).fold(0.0, f64::max),
        );
    }
    Ok(())
}
