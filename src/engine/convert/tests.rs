//! The engine with toy formats: packed runs, encoders, every order, faults, panics, interrupts, for any number of threads.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use super::*;
use crate::engine::{MapFeed, compare, hash};
use crate::fault::Kind;
use crate::image::{Facts, Layer, Ledger, PlannedFile, Unpack};
use crate::io::FileId;
use crate::io::{Gate, InputFile, Lease, OutputFile, OutputOptions, Target};

const UNIT: u64 = 64 << 10;
/// 5 MiB and 3 sectors: the last unit is cut.
const SIZE: u64 = (5 << 20) + 1536;
const THREADS: [usize; 4] = [1, 2, 3, 7];

/// Each number of threads, with a digest and without.
fn crews() -> impl Iterator<Item = (usize, bool)> {
    THREADS.into_iter().flat_map(|jobs| [(jobs, false), (jobs, true)])
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).into()
}

/// The guest: unit 3 of every 8 is zero, the others carry their numbers.
fn guest() -> Vec<u8> {
    (0..SIZE).map(|at| if at / UNIT % 8 == 3 { 0 } else { (at / 512 % 251) as u8 + 1 }).collect()
}

/// The toy's file: the guest as it is, then the guest with every bit turned ("packed").
fn file(bad: &[Range<u64>]) -> Arc<InputFile> {
    let mut bytes = guest();
    bytes.extend(guest().iter().map(|b| !b));
    let mut gate = Gate::new();
    gate.lay_over_unreadable("toy", bytes, bad);
    gate.typed(Path::new("toy")).unwrap()
}

/// Even megabytes are plain, odd ones packed in units; `lost` bytes are lost.
struct Toy {
    file: Arc<InputFile>,
    lost: Vec<u64>,
    panics_at: Option<u64>,
}

impl Layer for Toy {
    fn guest_len(&self) -> u64 {
        SIZE
    }

    fn run_at(&self, from: u64, limit: u64) -> Result<Run, Fault> {
        let start = from - from % UNIT;
        let end = (start + UNIT).min(limit);
        assert_ne!(Some(start), self.panics_at, "planted");
        let here = match () {
            _ if self.lost.iter().any(|at| (from..end).contains(at)) => {
                Here::Lost(Fault::damaged(Path::new("toy"), start, "planted"))
            }
            _ if start / UNIT % 8 == 3 => Here::Zero,
            _ if start >> 20 & 1 == 0 => Here::Plain { file: self.file.id(), at: from },
            _ => Here::Packed { file: self.file.id(), at: SIZE + start, unit: UNIT, skip: from - start },
        };
        Ok(Run::new(from..end, here))
    }

    fn walked(&self) -> Result<(), Fault> {
        Ok(())
    }

    fn unpacker(&self) -> Option<Box<dyn Unpack>> {
        Some(Box::new(Turn(Arc::clone(&self.file))))
    }
}

struct Turn(Arc<InputFile>);

impl Unpack for Turn {
    fn unpack(&mut self, _file: FileId, at: u64, unit_start: u64, out: &mut [u8]) -> Result<(), Fault> {
        assert_eq!(at, SIZE + unit_start);
        let n = (SIZE - unit_start).min(UNIT) as usize;
        self.0.read_exact(at, &mut out[..n])?;
        out.iter_mut().for_each(|b| *b = !*b);
        Ok(())
    }

    fn packed(&self) -> &[u8] {
        &[]
    }
}

fn disk(lost: &[u64]) -> Disk {
    disk_of(lost, None)
}

fn disk_of(lost: &[u64], panics_at: Option<u64>) -> Disk {
    disk_with(lost, panics_at, &[])
}

fn disk_with(lost: &[u64], panics_at: Option<u64>, bad: &[Range<u64>]) -> Disk {
    let file = file(bad);
    let facts = Facts::new("toy", "toy", SIZE);
    let layer = Toy { file: Arc::clone(&file), lost: lost.to_vec(), panics_at };
    Disk::single(Arc::new(layer), facts, vec![file], Arc::new(Ledger::default())).unwrap()
}

/// Stores units one behind the other, each with its guest offset in front, the offset of the index at the end as a seal.
struct Log {
    plan: Plan,
    panics_at: Option<u64>,
}

impl Log {
    fn new(order: Order) -> Log {
        let plan = Plan {
            files: vec![PlannedFile { suffix: None, len: None }],
            virtual_size: SIZE,
            place_unit: UNIT,
            test_unit: UNIT,
            order,
            holes: true,
            decisions: Vec::new(),
            notes: Vec::new(),
        };
        Log { plan, panics_at: None }
    }
}

impl Writer for Log {
    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn placer(&self) -> Box<dyn Placer> {
        Box::new(LogPlacer { next: 8 })
    }

    fn encoder(&self) -> Option<Box<dyn Encoder>> {
        Some(Box::new(Offset { panics_at: self.panics_at }))
    }
}

struct Offset {
    panics_at: Option<u64>,
}

impl Encoder for Offset {
    fn encode(&mut self, unit: &[u8], guest: u64, out: &mut Vec<u8>) -> Result<(), Fault> {
        assert_ne!(Some(guest), self.panics_at, "planted");
        assert_eq!(unit.len() as u64, UNIT, "the last unit is padded");
        out.extend(guest.to_le_bytes());
        // Of a length that the content decides, as compressed units are.
        out.extend((unit[0] as u64).to_le_bytes());
        out.extend(unit);
        out.resize(out.len() + usize::from(unit[0]), 0xEE);
        Ok(())
    }

    fn at_most(&mut self, unit: u64) -> u32 {
        unit as u32 + 16 + 255
    }
}

struct LogPlacer {
    next: u64,
}

impl Placer for LogPlacer {
    fn begin(&mut self, out: &mut Writes) -> Result<(), Fault> {
        out.meta(0, 0, b"toy log:".to_vec());
        Ok(())
    }

    fn place(&mut self, _guest: Range<u64>, seen: Seen<'_>, out: &mut Writes) -> Result<(), Fault> {
        let Seen::Units { verdicts, sizes } = seen else { return Ok(()) };
        for (index, size) in sizes.iter().enumerate().filter(|(n, _)| verdicts[*n] == Verdict::Data) {
            out.encoded(0, self.next, index);
            self.next += u64::from(*size);
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut Writes) -> Result<(), Fault> {
        out.seal(0, self.next, b"end".to_vec());
        Ok(())
    }
}

fn decode(log: &[u8]) -> Vec<u8> {
    let mut guest = vec![0; SIZE.next_multiple_of(UNIT) as usize];
    let mut rest = log.strip_prefix(b"toy log:").unwrap().strip_suffix(b"end").unwrap();
    while !rest.is_empty() {
        let number = |at: usize| u64::from_le_bytes(rest[at..at + 8].try_into().unwrap()) as usize;
        let (at, extra) = (number(0), number(8));
        guest[at..at + UNIT as usize].copy_from_slice(&rest[16..16 + UNIT as usize]);
        rest = &rest[16 + UNIT as usize + extra..];
    }
    guest.truncate(SIZE as usize);
    guest
}

struct Setup {
    folder: tempfile::TempDir,
    outputs: Outputs,
}

fn outputs() -> Setup {
    let folder = tempfile::tempdir().unwrap();
    let wanted = [OutputFile { path: folder.path().join("out"), len: None }];
    let options = OutputOptions { force: false, sync: false, holes: true };
    let (lease, _) = Lease::take(&Target::resolve(&wanted[0].path).unwrap(), &[]).unwrap();
    let outputs = Outputs::create(lease, &wanted, Vec::new(), options).unwrap();
    Setup { folder, outputs }
}

fn go(disk: &Disk, writer: &dyn Writer, (jobs, digest): (usize, bool), outputs: &Outputs) -> Result<Tally, Fault> {
    let control = Control { jobs, stop: &AtomicBool::new(false), progress: &|_| (), salvage: None, digest };
    convert(Sources::whole(disk), &mut MapFeed::new(disk, UNIT), writer, outputs, control)
}

#[test]
fn r23_packed_and_plain_runs_arrive_in_order_whatever_the_number_of_threads() {
    for order in [Order::Ordered, Order::Stream] {
        let mut first = None;
        for (jobs, digest) in crews() {
            let (disk, setup) = (disk(&[]), outputs());
            let tally = go(&disk, &Log::new(order), (jobs, digest), &setup.outputs).unwrap();
            assert_eq!(tally.digest.map(|digest| digest.value), digest.then(|| sha256(&guest())));
            setup.outputs.publish().unwrap();
            let log = std::fs::read(setup.folder.path().join("out")).unwrap();
            assert!(decode(&log) == guest(), "{order:?} -j {jobs}");
            assert_eq!(*first.get_or_insert(log.clone()), log);
            let zero = guest().chunks(UNIT as usize).filter(|u| u.iter().all(|b| *b == 0)).count() as u64 * UNIT;
            assert_eq!((tally.stored, tally.data), (SIZE - zero, SIZE - zero));
            assert_eq!(disk.files()[0].bytes_read(), SIZE - zero, "each stored byte is read once, zeroes never");
        }
    }
}

#[test]
fn the_loss_at_the_lowest_guest_offset_is_the_one_reported() {
    for order in [Order::Ordered, Order::Stream, Order::Free] {
        for (jobs, digest) in crews() {
            let setup = outputs();
            let lost = [4 << 20, (2 << 20) + 9 * UNIT, (1 << 20) + 5 * UNIT];
            let fault = go(&disk(&lost), &Log::new(order), (jobs, digest), &setup.outputs).unwrap_err();
            assert_eq!(fault.byte(), Some((1 << 20) + 5 * UNIT), "{order:?} -j {jobs}");
            drop(setup.outputs);
            assert_eq!(std::fs::read_dir(setup.folder.path()).unwrap().count(), 0, "R17: nothing is left");
        }
    }
}

/// Some of the packed units' files are bad, some units are lost by the map: listed once each, whatever the number of threads, and zero.
#[test]
fn r23_what_is_lost_is_listed_and_zero_whatever_the_number_of_threads() {
    // Lost by the map: neighbours in a plain and in a packed megabyte, and the disk's end. Bad: plain bytes, and bytes of packed units.
    let lost = [5 * UNIT, 6 * UNIT, 7 * UNIT, 16 * UNIT, SIZE - 1];
    let bad = [2 * UNIT + 700..2 * UNIT + 1600, SIZE + 20 * UNIT..SIZE + 21 * UNIT + 1];
    let want = [
        // What the medium gave up is told by sectors of the file.
        (2 * UNIT + 512..2 * UNIT + 2048, "cannot read"),
        (5 * UNIT..8 * UNIT, "planted"),
        (16 * UNIT..17 * UNIT, "planted"),
        (20 * UNIT..22 * UNIT, "cannot read"),
        (SIZE - SIZE % UNIT..SIZE, "planted"),
    ];
    let mut guest = guest();
    want.iter().for_each(|(lost, _)| guest[lost.start as usize..lost.end as usize].fill(0));
    for order in [Order::Ordered, Order::Stream] {
        for (jobs, digest) in crews() {
            let (disk, setup, losses) = (disk_with(&lost, None, &bad), outputs(), Losses::default());
            let stop = AtomicBool::new(false);
            let control = Control { jobs, stop: &stop, progress: &|_| (), salvage: Some(&losses), digest };
            let mut feed = MapFeed::new(&disk, UNIT);
            let tally = convert(Sources::whole(&disk), &mut feed, &Log::new(order), &setup.outputs, control).unwrap();
            assert_eq!(tally.digest.map(|digest| digest.value), digest.then(|| sha256(&guest)));
            setup.outputs.publish().unwrap();
            let log = std::fs::read(setup.folder.path().join("out")).unwrap();
            assert!(decode(&log) == guest, "{order:?} -j {jobs}");
            let listed: Vec<_> = losses.iter().map(|lost| (lost.guest, lost.fault.field().to_string())).collect();
            assert_eq!(listed, want.clone().map(|(guest, field)| (guest, field.to_string())), "{order:?} -j {jobs}");
        }
    }
}

/// What is no loss of bytes ends a run that goes on over losses: a source that changes, and our own faults.
#[test]
fn what_is_no_loss_ends_a_salvaging_run_too() {
    for kind in [Kind::Changed, Kind::Interrupted, Kind::NotFound, Kind::NoSpace, Kind::Io] {
        let losses = Losses::default();
        let salvage = Salvage::of(Some(&losses));
        assert_eq!(salvage.lose_bytes(0..512, &Fault::new(kind, "x", "planted")).unwrap_err().kind(), kind);
        assert_eq!(losses.count(), 0);
    }
    let losses = Losses::default();
    Salvage::of(Some(&losses)).lose_bytes(0..512, &Fault::damaged(Path::new("x"), 7, "planted")).unwrap();
    assert_eq!(losses.count(), 1);
    // Where losses end the run the way on is told, unless there is a better one, or none.
    let fault = |salvage: Salvage<'_>, fault: Fault| salvage.lose(0..512, &fault).unwrap_err().hint().to_string();
    let damaged = || Fault::damaged(Path::new("x"), 7, "planted");
    assert!(fault(Salvage::of(None), damaged()).starts_with("--salvage goes on"));
    assert_eq!(fault(Salvage::of(None), damaged().advice("better")), "better");
    assert_eq!(fault(Salvage::Never, damaged()), "");
}

#[test]
fn r17_a_panic_in_a_worker_hangs_nobody_and_leaves_nothing() {
    for (jobs, digest) in crews() {
        // In an encoder, which works beside others, and in a reader, while a ticket is drawn.
        for (encoder, reader) in [(Some((2 << 20) + 4 * UNIT), None), (None, Some((2 << 20) + 4 * UNIT))] {
            let setup = outputs();
            let mut writer = Log::new(Order::Ordered);
            writer.panics_at = encoder;
            let disk = disk_of(&[], reader);
            let ended = catch_unwind(AssertUnwindSafe(|| go(&disk, &writer, (jobs, digest), &setup.outputs)));
            assert!(ended.is_err());
            drop(setup.outputs);
            assert_eq!(std::fs::read_dir(setup.folder.path()).unwrap().count(), 0);
        }
    }
}

#[test]
fn r17_an_interrupt_ends_the_run_at_any_moment() {
    for (jobs, digest) in crews() {
        for after in [0, 1, 3, 5] {
            let (setup, disk) = (outputs(), disk(&[]));
            let (stop, seen) = (AtomicBool::new(after == 0), AtomicU64::new(0));
            let progress = |_| {
                if seen.fetch_add(1, Ordering::SeqCst) + 1 == after {
                    stop.store(true, Ordering::SeqCst);
                }
            };
            let control = Control { jobs, stop: &stop, progress: &progress, salvage: None, digest };
            let mut feed = MapFeed::new(&disk, UNIT);
            let fault = convert(Sources::whole(&disk), &mut feed, &Log::new(Order::Ordered), &setup.outputs, control)
                .unwrap_err();
            assert_eq!(fault.kind(), Kind::Interrupted);
        }
    }
}

type ReadAll = fn(&Disk, Control<'_>) -> Result<(), Fault>;

/// What only reads: a digest of either sort, and a comparison with itself.
const READERS: [ReadAll; 3] = [
    |disk, control| hash(disk, Algorithm::Sha256, control).map(drop),
    |disk, control| hash(disk, Algorithm::Blake3, control).map(drop),
    |disk, control| compare(disk, disk, control).map(drop),
];

#[test]
fn readers_report_the_loss_at_the_lowest_guest_offset_and_a_panic_or_an_interrupt_hangs_none() {
    for reader in READERS {
        for jobs in THREADS {
            let stop = AtomicBool::new(false);
            let control = Control { jobs, stop: &stop, progress: &|_| (), salvage: None, digest: false };
            reader(&disk(&[]), control).unwrap();
            let lost = [4 << 20, (2 << 20) + 9 * UNIT, (1 << 20) + 5 * UNIT];
            assert_eq!(reader(&disk(&lost), control).unwrap_err().byte(), Some((1 << 20) + 5 * UNIT), "-j {jobs}");
            let panics = disk_of(&[], Some((2 << 20) + 4 * UNIT));
            assert!(catch_unwind(AssertUnwindSafe(|| reader(&panics, control))).is_err());
            for after in 0..3 {
                let (stop, seen) = (AtomicBool::new(after == 0), AtomicU64::new(0));
                let progress = |_| {
                    if seen.fetch_add(1, Ordering::SeqCst) + 1 == after {
                        stop.store(true, Ordering::SeqCst);
                    }
                };
                let control = Control { stop: &stop, progress: &progress, ..control };
                assert_eq!(reader(&disk(&[]), control).unwrap_err().kind(), Kind::Interrupted, "-j {jobs}");
            }
        }
    }
}

#[test]
fn readers_find_what_is_there() {
    for jobs in THREADS {
        let (told, stop) = (AtomicU64::new(0), AtomicBool::new(false));
        let progress = |bytes| {
            told.fetch_add(bytes, Ordering::SeqCst);
        };
        let control = Control { jobs, stop: &stop, progress: &progress, salvage: None, digest: false };
        let zero = guest().chunks(UNIT as usize).filter(|u| u.iter().all(|b| *b == 0)).count() as u64 * UNIT;
        let hashed = hash(&disk(&[]), Algorithm::Sha256, control).unwrap();
        assert_eq!((hashed.digest.value, hashed.stored), (sha256(&guest()), SIZE - zero));
        let hashed = hash(&disk(&[]), Algorithm::Blake3, control).unwrap();
        assert_eq!(hashed.digest.to_string(), blake3::hash(&guest()).to_string());
        let compared = compare(&disk(&[]), &disk(&[]), control).unwrap();
        assert_eq!((compared.first, compared.sectors, compared.stored), (None, 0, 2 * (SIZE - zero)));
        assert_eq!(told.load(Ordering::SeqCst), 3 * SIZE, "progress tells each byte once");
    }
}

#[test]
fn a_placer_that_seals_too_early_is_stopped() {
    struct Early(Log);
    struct EarlyPlacer;
    impl Writer for Early {
        fn plan(&self) -> &Plan {
            self.0.plan()
        }
        fn placer(&self) -> Box<dyn Placer> {
            Box::new(EarlyPlacer)
        }
        fn encoder(&self) -> Option<Box<dyn Encoder>> {
            None
        }
    }
    impl Placer for EarlyPlacer {
        fn begin(&mut self, _out: &mut Writes) -> Result<(), Fault> {
            Ok(())
        }
        fn place(&mut self, _guest: Range<u64>, _seen: Seen<'_>, out: &mut Writes) -> Result<(), Fault> {
            out.seal(0, 0, b"KDMV".to_vec());
            Ok(())
        }
        fn finish(&mut self, _out: &mut Writes) -> Result<(), Fault> {
            Ok(())
        }
    }
    let setup = outputs();
    let fault = go(&disk(&[]), &Early(Log::new(Order::Ordered)), (2, false), &setup.outputs).unwrap_err();
    assert!(fault.to_string().contains("sealed"));
    assert_eq!(setup.outputs.bytes_written(), 0);
}

/// A feed that breaks its contract at the third draw.
struct Broken<'a> {
    feed: MapFeed,
    draws: usize,
    how: &'a (dyn Fn(Drawn) -> Option<Drawn> + Sync),
}

impl Feed for Broken<'_> {
    fn next(&mut self) -> Result<Option<Drawn>, Fault> {
        self.draws += 1;
        let drawn = self.feed.next()?;
        Ok(if self.draws == 3 { drawn.and_then(self.how) } else { drawn })
    }

    fn finish(&mut self) -> Result<Option<Fault>, Fault> {
        Ok(None)
    }
}

#[test]
fn a_feed_that_leaves_something_out_is_found() {
    let shorter = |guest: Range<u64>| guest.start..guest.end - 512;
    let breaks: [&(dyn Fn(Drawn) -> Option<Drawn> + Sync); 4] = [
        &|_| None,
        &|drawn| match drawn {
            Drawn::Gap(guest, verdict) => Some(Drawn::Gap(shorter(guest), verdict)),
            Drawn::Lost(lost) => Some(Drawn::Lost(lost)),
            Drawn::Piece(piece) => Some(Drawn::Piece(Piece { guest: shorter(piece.guest), ..piece })),
        },
        &|drawn| match drawn {
            Drawn::Piece(mut piece) => {
                runs_of(&mut piece).remove(0);
                Some(Drawn::Piece(piece))
            }
            gap => Some(gap),
        },
        &|drawn| match drawn {
            Drawn::Piece(mut piece) => {
                runs_of(&mut piece).pop();
                Some(Drawn::Piece(piece))
            }
            gap => Some(gap),
        },
    ];
    for how in breaks {
        let (disk, setup) = (disk(&[]), outputs());
        let control =
            Control { jobs: 2, stop: &AtomicBool::new(false), progress: &|_| (), salvage: None, digest: false };
        let mut feed = Broken { feed: MapFeed::new(&disk, UNIT), draws: 0, how };
        let fault =
            convert(Sources::whole(&disk), &mut feed, &Log::new(Order::Ordered), &setup.outputs, control).unwrap_err();
        assert!(fault.hint().contains("fault of vdconv itself"), "{fault}");
    }
}

fn runs_of(piece: &mut Piece) -> &mut Vec<(usize, Run)> {
    match &mut piece.content {
        Content::Runs(runs) => runs,
        other => panic!("{other:?}"),
    }
}
