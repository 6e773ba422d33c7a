//! The sector bitmaps: data under clear bits, and bits behind the disk's end.

use std::ops::Range;

use super::super::id;
use super::Sweep;
use crate::fault::Fault;
use crate::format::check::first_data;
use crate::image::{Findings, Regions, SECTOR};
use crate::io::in_memory;

impl Sweep<'_> {
    /// Bits of the last block's bitmap for sectors that the disk does not have.
    pub(super) fn look_behind_the_end(&self, sector: u32, findings: &mut Findings) -> Result<(), Fault> {
        let first = self.needed().saturating_sub(1).saturating_mul(self.block_size());
        // A part of a sector is a sector's, though it is left out of the disk.
        let end = self.located.footer.current_size.saturating_sub(first).div_ceil(SECTOR);
        let sectors = self.block_size() / SECTOR;
        let at = u64::from(sector) * SECTOR;
        let mut bits = vec![0; in_memory(sectors.div_ceil(8))];
        if !self.file.read_around(at, &mut bits)?.is_empty() {
            return Ok(());
        }
        let is_set = |n: &u64| bits.get(in_memory(n / 8)).is_some_and(|byte| byte & (0x80 >> (n % 8)) != 0);
        if let Some(first) = (end..sectors).find(is_set) {
            findings.note(id::BITMAP_BEHIND_END, || {
                let what = "bits of a VHD sector bitmap are set behind the disk's end";
                let set = (end..sectors).filter(is_set).count();
                Fault::damaged(self.file.name(), at + first / 8, what).found(format!("{set} bits"))
            });
        }
        Ok(())
    }

    /// Bytes under clear bits: they read as zero, and somebody wrote something there.
    pub(super) fn look_at_bitmap(
        &self,
        block: u64,
        sector: u32,
        regions: &Regions,
        findings: &mut Findings,
    ) -> Result<(), Fault> {
        let (at, needed) = (u64::from(sector) * SECTOR, self.data_of(block));
        let data = at + self.bitmap_len();
        let end = (data + needed).min(self.located.data_end);
        if data >= end || regions.structure_in(&(at..end)).is_some() {
            return Ok(());
        }
        let sectors = needed / SECTOR;
        let mut bits = vec![0; in_memory(sectors.div_ceil(8))];
        if !self.file.read_around(at, &mut bits)?.is_empty() {
            return Ok(());
        }
        findings.count("sector_bitmaps", 1);
        let is_set = |n: u64| bits.get(in_memory(n / 8)).is_some_and(|byte| byte & (0x80 >> (n % 8)) != 0);
        let stale = |from: u64, to: u64| -> Result<Option<u64>, Fault> {
            first_data(self.file, data + from * SECTOR..(data + to * SECTOR).min(end))
        };
        if (0..sectors).all(|n| !is_set(n)) {
            if let Some(byte) = stale(0, sectors)? {
                findings.error(id::BITMAP_UNWRITTEN, || {
                    let what = "VHD sector bitmap is all clear over data: was it never written?";
                    let unwritten = Fault::damaged(self.file.name(), at, what);
                    unwritten
                        .found(format!("data at byte {byte}, block {block}"))
                        .advice("--ignore-bitmaps takes every stored byte as valid")
                });
            }
            return Ok(());
        }
        for clear in clear_runs(sectors, is_set) {
            if let Some(byte) = stale(clear.start, clear.end)? {
                findings.error(id::BITMAP_STALE, || {
                    let what = "VHD data under clear bits of a sector bitmap: it reads as zero, and QEMU hands it out";
                    Fault::damaged(self.file.name(), byte, what)
                        .found(format!("block {block}, whose bitmap is at byte {at}"))
                });
                break;
            }
        }
        Ok(())
    }
}

/// Stretches of sectors whose bits are clear.
fn clear_runs(sectors: u64, is_set: impl Fn(u64) -> bool) -> Vec<Range<u64>> {
    let mut runs: Vec<Range<u64>> = Vec::new();
    for n in (0..sectors).filter(|n| !is_set(*n)) {
        match runs.last_mut() {
            Some(run) if run.end == n => run.end += 1,
            _ => runs.push(n..n + 1),
        }
    }
    runs
}
