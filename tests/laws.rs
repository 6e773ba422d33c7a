//! The laws that everything stands on, over random cases: the contract of `run_at`, the placer law, any -j.

mod common;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use common::vhd::{Vhd, seal};
use proptest::prelude::*;
use vdconv::engine::{self, Control, MapFeed, Sources};
use vdconv::fault::Fault;
use vdconv::format::{self, Base, FORMATS, OpenOptions, Takes, Wish};
use vdconv::image::{Chain, Contract, Disk, Facts, Here, Identifiers, Layer, Put, Seen, Verdict, Writer, Writes};
use vdconv::io::{Gate, Lease, OutputFile, OutputOptions, Outputs, Target};

/// Opens bytes as an image, through the gate's overlay: no file is needed.
fn open(name: &str, bytes: Vec<u8>) -> Result<Disk, Fault> {
    let mut gate = Gate::new();
    gate.lay_over(name, bytes);
    format::open(&mut gate, Path::new(name), &OpenOptions::default())
}

/// The disk's chain, each layer held to the contract.
fn checked(disk: &Disk) -> Chain {
    let layers: Vec<Arc<dyn Layer>> =
        disk.chain.layers().iter().map(|l| Arc::new(Contract(Arc::clone(l))) as Arc<dyn Layer>).collect();
    let mut layers = layers.into_iter().rev();
    let base = Chain::single(layers.next().unwrap());
    layers.fold(base, |chain, layer| Chain::over(layer, chain))
}

/// Reads `guest` by asking for runs; `None` where it is lost.
fn read(chain: &Chain, image: &[u8], guest: Range<u64>) -> Option<Vec<u8>> {
    let (mut bytes, mut at, mut resolver) = (Vec::new(), guest.start, chain.resolver());
    while at < guest.end {
        let run = resolver.at(at, guest.end).unwrap().1;
        match run.here {
            Here::Zero => bytes.resize(bytes.len() + run.len() as usize, 0),
            Here::Plain { at, .. } => bytes.extend(&image[at as usize..][..run.len() as usize]),
            Here::Lost(_) => return None,
            other => panic!("{other:?} in a resolved VHD"),
        }
        at = run.guest.end;
    }
    Some(bytes)
}

/// A random dynamic VHD and what its guest must be: sectors under clear bits are zero, whatever lies there.
fn vhd_and_guest() -> impl Strategy<Value = (Vhd, Vec<u8>)> {
    let sizes = prop_oneof![Just(512u32), Just(1024), Just(4096), Just(8192)];
    (sizes, 1u64..120).prop_flat_map(|(block_size, sectors)| {
        let blocks = (sectors * 512).div_ceil(u64::from(block_size)) as u32;
        let in_block = block_size as usize / 512;
        let block = prop::option::weighted(0.7, prop::collection::vec(any::<bool>(), in_block));
        let stale = any::<bool>();
        (prop::collection::vec(block, blocks as usize), stale).prop_map(move |(blocks, stale)| {
            let mut vhd = Vhd::dynamic(sectors * 512, block_size);
            let mut guest = vec![0; sectors as usize * 512];
            for (index, set) in blocks.into_iter().enumerate() {
                let Some(set) = set else { continue };
                let first = index * in_block;
                let inside = in_block.min(sectors as usize - first);
                let all_clear = !set[..inside].contains(&true);
                let mut bits = vec![0u8; in_block.div_ceil(8)];
                let mut data = Vec::new();
                for (n, set) in set.into_iter().enumerate() {
                    // An all-clear bitmap over data is damage (another test); here it lies over zeroes.
                    let fill = if set || stale && !all_clear { (index + n) as u8 | 1 } else { 0 };
                    data.extend([fill; 512]);
                    if set {
                        bits[n / 8] |= 0x80 >> (n % 8);
                        if n < inside {
                            guest[(first + n) * 512..][..512].fill(fill);
                        }
                    }
                }
                vhd.blocks.insert(index as u32, (data, Some(bits)));
            }
            (vhd, guest)
        })
    })
}

proptest! {
    #[test]
    fn any_read_of_a_dynamic_vhd_is_what_its_bitmaps_say((vhd, guest) in vhd_and_guest(), asks in prop::collection::vec((any::<u64>(), 1u64..20_000), 1..20)) {
        let image = vhd.build();
        let disk = open("a.vhd", image.clone()).unwrap();
        prop_assert_eq!(disk.facts.virtual_size, guest.len() as u64);
        let chain = checked(&disk);
        prop_assert_eq!(read(&chain, &image, 0..guest.len() as u64), Some(guest.clone()));
        for (from, len) in asks {
            let from = from % guest.len() as u64;
            let to = (from + len).min(guest.len() as u64);
            prop_assert_eq!(read(&chain, &image, from..to), Some(guest[from as usize..to as usize].to_vec()));
        }
    }

    /// Whatever is written over a VHD's structures: an error, a loss, or runs that keep the contract and end. Checksums are redone in half
    /// of the cases, so that the fields behind them are reached.
    #[test]
    fn a_mutated_vhd_never_breaks_the_contract(
        (vhd, _) in vhd_and_guest(),
        hits in prop::collection::vec((0usize..2400, any::<u8>()), 1..6),
        cut in prop::option::of(0usize..9000),
        reseal in any::<bool>(),
    ) {
        let mut image = vhd.build();
        for (at, value) in hits {
            let len = image.len();
            image[at % len] = value;
        }
        if reseal {
            seal(&mut image[0..512], 64);
            seal(&mut image[512..1536], 36);
        }
        if let Some(cut) = cut {
            image.truncate(image.len().saturating_sub(cut).max(1));
        }
        if let Ok(disk) = open("a.vhd", image.clone()) {
            let size = disk.facts.virtual_size;
            // A flipped size may be huge; its ends are looked at.
            read(&checked(&disk), &image, 0..size.min(1 << 20));
            read(&checked(&disk), &image, size.saturating_sub(1 << 16)..size);
        }
    }

    #[test]
    fn the_contract_holds_for_raw_disks(len in 1usize..5000, asks in prop::collection::vec((any::<u64>(), 1u64..6000), 1..20)) {
        let image: Vec<u8> = (0..len).map(|n| n as u8 | 1).collect();
        let mut padded = image.clone();
        padded.resize(len.next_multiple_of(512), 0);
        let mut gate = Gate::new();
        gate.lay_over("a.raw", image.clone());
        let raw = format::by_name("raw");
        let disk = format::open(&mut gate, Path::new("a.raw"), &OpenOptions { format: raw, ..Default::default() }).unwrap();
        for (from, len) in asks {
            let from = from % padded.len() as u64;
            let to = (from + len).min(padded.len() as u64);
            prop_assert_eq!(read(&checked(&disk), &image, from..to), Some(padded[from as usize..to as usize].to_vec()));
        }
    }
}

fn facts(size: u64) -> Facts {
    Facts::new("raw", "raw disk", size)
}

/// A kind that can be written.
struct Kind {
    name: String,
    writer: Box<dyn Writer>,
    /// What it says of a stretch that it does not store: zero, or in a delta the same as the base.
    nothing: Verdict,
}

/// Every kind that can be written, for a disk of `size` bytes; those that can be a delta also as one.
fn kinds(size: u64) -> Vec<Kind> {
    let mut kinds = Vec::new();
    for format in FORMATS {
        for subformat in format.subformats {
            let base = || Base {
                name: "base".into(),
                facts: Facts {
                    subformat: subformat.name,
                    uuid: Some(uuid::Uuid::from_u128(7)),
                    cid: Some(7),
                    ..Facts::new(format.name, format.title, size)
                },
                relative: "../sub/base".into(),
                absolute: "/sub/base".into(),
                modified: None,
            };
            for base in [None, subformat.takes.contains(&Takes::Base).then(base)] {
                let nothing = if base.is_some() { Verdict::Same } else { Verdict::Zero };
                let wish = Wish { base, ..Wish::new("o.img".into(), "o.img".into(), Identifiers::random()) };
                // A differencing VHD without a base is refused, a second time without one is nothing new.
                if let Ok(writer) = (subformat.writer)(&facts(size), &wish) {
                    let name = format!("{} {} {nothing:?}", format.name, subformat.name);
                    if kinds.iter().all(|kind: &Kind| kind.name != name) {
                        kinds.push(Kind { name, writer, nothing });
                    }
                }
            }
        }
    }
    assert_eq!(kinds.len(), 12, "{:?}", kinds.iter().map(|kind| &kind.name).collect::<Vec<_>>());
    kinds
}

/// What a placer asked for, taken apart so that it does not depend on how the calls were cut.
#[derive(Default, PartialEq, Debug)]
struct Asked {
    guest: BTreeMap<(usize, u64), u64>,
    meta: BTreeMap<(usize, u64), Vec<u8>>,
    covered: BTreeMap<usize, Vec<Range<u64>>>,
    lens: BTreeMap<usize, u64>,
}

impl Asked {
    /// `first`: the number of the piece's first unit; `sizes`: of its units, encoded.
    fn take(&mut self, writes: &Writes, unit: u64, first: u64, sizes: &[u32]) {
        for write in writes.list() {
            let len = match &write.put {
                Put::Guest(guest) => {
                    for at in (0..guest.end - guest.start).step_by(unit.min(512) as usize) {
                        let old = self.guest.insert((write.file, write.at + at), guest.start + at);
                        assert_eq!(old, None, "two writes to one place");
                    }
                    guest.end - guest.start
                }
                Put::Meta(bytes) => {
                    assert_eq!(self.meta.insert((write.file, write.at), bytes.clone()), None);
                    bytes.len() as u64
                }
                Put::Zero(len) => *len,
                Put::Encoded(index) => {
                    let old = self.guest.insert((write.file, write.at), (first + *index as u64) * unit);
                    assert_eq!(old, None, "two writes to one place");
                    sizes[*index].into()
                }
            };
            if len > 0 {
                self.covered.entry(write.file).or_default().push(write.at..write.at + len);
            }
        }
        self.lens.extend(writes.lens().iter().copied());
    }

    /// Joins what is covered, and asserts that nothing is covered twice.
    fn settle(&mut self) {
        for ranges in self.covered.values_mut() {
            ranges.sort_by_key(|r| r.start);
            let mut joined: Vec<Range<u64>> = Vec::new();
            for range in ranges.drain(..) {
                match joined.last_mut() {
                    Some(last) if last.end == range.start => last.end = range.end,
                    Some(last) => {
                        assert!(last.end < range.start, "{last:?} and {range:?} overlap");
                        joined.push(range);
                    }
                    None => joined.push(range),
                }
            }
            *ranges = joined;
        }
    }
}

/// Gives a placer the verdicts, cut into pieces as `cuts` says; zero pieces go as gaps where `gaps` says.
fn place(writer: &dyn Writer, verdicts: &[Verdict], cuts: &[usize], gaps: bool) -> Asked {
    let (plan, encodes) = (writer.plan(), writer.encoder().is_some());
    let mut placer = writer.placer();
    let (mut asked, mut writes, mut first, mut cuts) = (Asked::default(), Writes::default(), 0, cuts.iter().cycle());
    let unit = plan.test_unit;
    placer.begin(&mut writes).unwrap();
    asked.take(&writes, unit, 0, &[]);
    while first < verdicts.len() {
        // A piece lies within 1 MiB.
        let window = ((first as u64 * unit / (1 << 20) + 1) * (1 << 20) / unit) as usize;
        let end = (first + cuts.next().unwrap()).min(window).min(verdicts.len());
        let guest = first as u64 * unit..(end as u64 * unit).min(plan.virtual_size);
        let part = &verdicts[first..end];
        // What a unit is encoded to depends on the unit alone.
        let size = |n: usize| if encodes && verdicts[n] == Verdict::Data { 512 * (1 + n as u32 % 7) } else { 0 };
        let sizes: Vec<u32> = (first..end).map(size).collect();
        let gap = gaps && part.iter().all(|v| *v != Verdict::Data);
        let seen = if gap { Seen::Gap(part[0]) } else { Seen::Units { verdicts: part, sizes: &sizes } };
        writes.clear();
        placer.place(guest, seen, &mut writes).unwrap();
        asked.take(&writes, unit, first as u64, &sizes);
        first = end;
    }
    writes.clear();
    placer.finish(&mut writes).unwrap();
    asked.take(&writes, unit, 0, &[]);
    asked.settle();
    asked
}

/// Random verdicts in long stretches, over a disk of a few grain tables.
fn verdicts() -> impl Strategy<Value = Vec<(bool, u64)>> {
    prop::collection::vec((any::<bool>(), prop_oneof![1u64..40, 100u64..20_000]), 1..9)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_placer_is_a_function_of_its_plan_and_the_calls(
        stretches in verdicts(),
        tail in 0u64..128,
        cuts in prop::collection::vec(1usize..300, 1..8),
        other_cuts in prop::collection::vec(1usize..300, 1..8),
    ) {
        // Stretches count 4 KiB pages, which every test unit is made of; the disk ends somewhere in the last one.
        let pages: u64 = stretches.iter().map(|(_, n)| n).sum();
        let size = pages * 4096 - tail % 8 * 512;
        for Kind { name, writer, nothing } in kinds(size) {
            let plan = writer.plan();
            let mut units = vec![nothing; size.div_ceil(plan.test_unit) as usize];
            let mut page = 0;
            for (data, count) in &stretches {
                if *data {
                    let of = |page: u64| (page * 4096 / plan.test_unit) as usize;
                    let last = (of(page + count).max(of(page) + 1)).min(units.len());
                    units[of(page)..last].fill(Verdict::Data);
                }
                page += count;
            }
            let one = place(writer.as_ref(), &units, &cuts, true);
            prop_assert_eq!(&one, &place(writer.as_ref(), &units, &cuts, true), "{}: same calls", name);
            prop_assert_eq!(&one, &place(writer.as_ref(), &units, &other_cuts, false), "{}: other cuts", name);
            // Each data unit has exactly its bytes placed.
            let data: u64 = units.iter().enumerate().filter(|(_, v)| **v == Verdict::Data).map(|(n, _)| {
                let start = n as u64 * plan.test_unit;
                if plan.place_unit > 4096 { plan.test_unit } else { plan.test_unit.min(size - start) }
            }).sum();
            match writer.encoder() {
                None => prop_assert_eq!(one.guest.len() as u64 * 512, data, "{}", name),
                Some(_) => prop_assert_eq!(one.guest.len() as u64 * plan.test_unit, data, "{}", name),
            }
            // Everything is either written or said to be zero: an output without holes would be whole too.
            for (file, planned) in plan.files.iter().enumerate() {
                let ranges = one.covered.get(&file).cloned().unwrap_or_default();
                let len = planned.len.or(one.lens.get(&file).copied());
                prop_assert_eq!(ranges.len(), 1, "{}: {:?}", name, ranges);
                prop_assert_eq!(ranges[0].start, 0);
                if let Some(len) = len { prop_assert_eq!(ranges[0].end, len, "{}", name) }
            }
        }
    }
}

/// An output without holes has the same bytes, and takes up all of its length.
#[test]
fn an_output_without_holes_is_the_same_and_has_none() {
    let mut guest = common::pattern(20_000, |n| n % 3000 > 200);
    guest.truncate(19_995 * 512);
    let disk = open("a.vhd", Vhd::dynamic_of(&guest, 1 << 16).build()).unwrap();
    let empty = open("b.vhd", Vhd::dynamic(guest.len() as u64, 1 << 16).build()).unwrap();
    for Kind { name, writer, nothing } in kinds(guest.len() as u64) {
        let base = (nothing == Verdict::Same).then_some(&empty);
        let mut both = Vec::new();
        for holes in [true, false] {
            let folder = common::scratch();
            let files = writer.plan().files.iter().enumerate();
            let wanted: Vec<_> =
                files.map(|(n, file)| OutputFile { path: folder.path().join(n.to_string()), len: file.len }).collect();
            let options = OutputOptions { force: false, sync: false, holes };
            let (lease, _) = Lease::take(&Target::resolve(&wanted[0].path).unwrap(), &[]).unwrap();
            let outputs = Outputs::create(lease, &wanted, Vec::new(), options).unwrap();
            let control = Control { jobs: 3, stop: &false.into(), progress: &|_| (), salvage: None, digest: false };
            let unit = writer.plan().test_unit;
            let mut feed = match base {
                None => MapFeed::new(&disk, unit),
                Some(base) => MapFeed::over(&disk, base, unit),
            };
            engine::convert(Sources { disk: Some(&disk), base }, &mut feed, writer.as_ref(), &outputs, control)
                .unwrap();
            let (len, written) = (outputs.sizes().0, outputs.bytes_written());
            outputs.publish().unwrap();
            both.push(wanted.iter().map(|file| std::fs::read(&file.path).unwrap()).collect::<Vec<_>>());
            // Everything is written exactly once, or what is zero is left out.
            let packed = writer.encoder().is_some();
            if holes && !packed { assert!(written < len, "{name}") } else { assert_eq!(written, len, "{name}") }
        }
        assert!(both[0] == both[1], "{name}");
    }
}
