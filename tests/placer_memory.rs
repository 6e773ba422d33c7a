//! A full disk of the largest size costs the placer no memory to speak of. A program of its own, so that nothing else is measured.

use vdconv::format::{self, Wish};
use vdconv::image::{Facts, Identifiers, Put, Seen, Verdict, Writes};

/// Peak resident memory of this process in KiB, where the system tells.
fn peak_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?.trim().trim_end_matches(" kB").parse().ok()
}

#[test]
fn thirty_three_million_grains_are_placed_in_under_32_mib() {
    // One grain less than 2 TiB, minus what the tables take: the largest disk whose every grain can be placed.
    let size = (2 << 40) - (1 << 30);
    let facts = Facts::new("raw", "raw disk", size);
    let wish = Wish::new("o".into(), "o".into(), Identifiers::random());
    let sparse = format::by_name("vmdk").unwrap().subformat("sparse").unwrap();
    let writer = (sparse.writer)(&facts, &wish).unwrap();
    let mut placer = writer.placer();
    let Some(before) = peak_kib() else {
        return println!("skipped: only Linux tells a process's peak memory this way");
    };
    let (mut writes, mut tables, mut last) = (Writes::default(), 0u64, 0);
    for start in (0..size).step_by(1 << 20) {
        writes.clear();
        placer
            .place(
                start..start + (1 << 20),
                Seen::Units { verdicts: &[Verdict::Data; 16], sizes: &[0; 16] },
                &mut writes,
            )
            .unwrap();
        tables += writes.list().iter().filter(|w| matches!(w.put, Put::Meta(_))).count() as u64;
        last = writes.list().iter().map(|w| w.at).max().unwrap();
    }
    writes.clear();
    placer.finish(&mut writes).unwrap();
    let grown = peak_kib().unwrap() - before;
    assert!(grown < 32 << 10, "{grown} KiB");
    // Each table of 512 grains was written twice, and the last megabyte lies right in front of the file's end.
    assert_eq!(tables, 2 * (size >> 25));
    assert_eq!(writes.lens(), [(0, last + (1 << 20))]);
}
