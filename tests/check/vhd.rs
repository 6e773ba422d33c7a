//! VHDs with one fault each.

use super::case::Case;
use super::common::pattern;
use super::common::vhd::{Vhd, locator, seal};

const NAME: &str = "a.vhd";
/// Bytes of a disk whose geometry is what the builder records.
const SIZE: usize = 1 << 20;
const BLOCK: u32 = 512 << 10;
const TABLE: usize = 1536;

/// A guest of two blocks.
fn full() -> Vec<u8> {
    pattern(SIZE as u64 / 512, |_| false)
}

/// A guest whose second block is all zero.
fn half() -> Vec<u8> {
    pattern(SIZE as u64 / 512, |n| n >= 1024)
}

/// A disk as writers of today lay it out: data on 4 KiB.
fn aligned(guest: &[u8], block_size: u32) -> Vhd {
    Vhd { align: 4096, ..Vhd::dynamic_of(guest, block_size) }
}

fn dynamic(guest: &[u8]) -> Vec<u8> {
    aligned(guest, BLOCK).build()
}

/// Changes both footers alike, and their checksums.
fn footers(mut file: Vec<u8>, change: impl Fn(&mut [u8])) -> Vec<u8> {
    let end = file.len() - 512;
    let copies = if file.starts_with(b"conectix") { vec![0, end] } else { vec![end] };
    for at in copies {
        change(&mut file[at..at + 512]);
        seal(&mut file[at..at + 512], 64);
    }
    file
}

/// Changes the header, and its checksum.
fn header(mut file: Vec<u8>, change: impl Fn(&mut [u8])) -> Vec<u8> {
    change(&mut file[512..1536]);
    seal(&mut file[512..1536], 36);
    file
}

fn changed(mut file: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    file[at..at + bytes.len()].copy_from_slice(bytes);
    file
}

pub fn cases() -> Vec<Case> {
    [footer_cases(), header_cases(), block_cases(), chain_cases()].into_iter().flatten().collect()
}

fn footer_cases() -> Vec<Case> {
    let file = dynamic(&full());
    let end = file.len() - 512;
    let fixed = Vhd::fixed_of(&full()).build();
    let fixed_end = fixed.len() - 512;
    let put = |at: usize, bytes: &'static [u8]| move |f: &mut [u8]| f[at..at + bytes.len()].copy_from_slice(bytes);
    let warning =
        |id, at: usize, bytes: &'static [u8]| Case::warning(id, end + at, NAME, footers(file.clone(), put(at, bytes)));
    let mut smaller = footers(file.clone(), put(48, &[0, 0, 0, 0, 0, 8, 0, 0]));
    smaller[..512].fill(0);
    let mut longer = fixed.clone();
    longer.splice(fixed_end..fixed_end, vec![0; 512]);
    let disabled = [0, end].into_iter().fold(file.clone(), |file, at| changed(file, at, b"v_poison"));
    let mut differ = file.clone();
    differ[end + 27] ^= 1;
    seal(&mut differ[end..], 64);
    vec![
        Case::warning("VHD-FOOTER-MISSING", end, NAME, changed(file.clone(), end, &[0; 512])),
        Case::warning("VHD-FOOTER-MISSING", 0, NAME, changed(file.clone(), 0, &[0; 512])),
        Case::error("VHD-FOOTER-COOKIE", fixed_end, NAME, changed(fixed.clone(), fixed_end + 3, b"X")),
        Case::warning("VHD-FOOTER-CHECKSUM", end + 64, NAME, changed(file.clone(), end + 65, b"X")),
        Case::warning("VHD-FOOTER-CHECKSUM", 64, NAME, changed(file.clone(), 65, b"X")),
        Case::error("VHD-FOOTER-CHECKSUM", fixed_end + 64, NAME, changed(fixed.clone(), fixed_end + 65, b"X")),
        Case::warning("VHD-FOOTERS-DIFFER", 27, NAME, differ),
        Case::error("VHD-FOOTER-DOUBTFUL", end, NAME, smaller),
        Case::warning("VHD-FOOTER-SHORT", end, NAME, file[..file.len() - 1].to_vec()),
        Case::warning("VHD-APPENDED", file.len(), NAME, [&file[..], &[7; 1000]].concat()),
        Case::error("VHD-DISABLED", end, NAME, disabled),
        warning("VHD-FEATURES", 8, &[0, 0, 0, 0]),
        warning("VHD-FEATURES", 8, &[0, 0, 1, 2]),
        Case::error("VHD-VERSION", fixed_end + 12, NAME, footers(fixed.clone(), put(12, &[0, 2]))),
        Case::error("VHD-TYPE", end + 60, NAME, footers(file.clone(), put(60, &[0, 0, 0, 5]))),
        Case::error("VHD-FIXED-SIZE", fixed_end + 512, NAME, longer.clone()),
        Case::warning("VHD-FIXED-SIZE", fixed_end + 512, NAME, longer).args(&["-f", "vhd"]),
        Case::error("VHD-FIXED-SIZE", fixed_end - 512, NAME, fixed[512..].to_vec())
            .args(&["-f", "vhd"])
            .also(&["VHD-FIXED-SIZE warning", "VHD-FIXED-SIZE error"]),
        Case::warning("VHD-DATA-OFFSET", fixed_end + 16, NAME, footers(fixed, put(16, &[0; 8]))),
        Case::error("VHD-DATA-OFFSET", end + 16, NAME, footers(file.clone(), put(16, &[0x10, 0, 0, 0, 0, 0, 0, 0])))
            .also(&["VHD-DATA-OFFSET warning"]),
        Case::warning(
            "VHD-SIZE",
            end + 48,
            NAME,
            footers(file.clone(), |f| {
                f[40..48].copy_from_slice(&(SIZE as u64 - 100).to_be_bytes());
                f[48..56].copy_from_slice(&(SIZE as u64 - 100).to_be_bytes());
            }),
        ),
        warning("VHD-ORIGINAL-SIZE", 40, &[0, 0, 0, 1]),
        warning("VHD-GEOMETRY", 56, &[0, 31]),
        Case::warning(
            "VHD-GEOMETRY",
            end + 56,
            NAME,
            footers(file.clone(), |f| {
                f[28..32].copy_from_slice(b"vpc ");
                f[57] = 29;
            }),
        ),
        Case { severity: "note", ..warning("VHD-GEOMETRY", 56, &[0, 29]) },
        warning("VHD-TIME", 24, &[0xF0]),
        warning("VHD-UNIQUE-ID", 68, &[0; 16]),
        warning("VHD-SAVED-STATE", 84, &[1]),
        warning("VHD-RESERVED", 200, &[1]),
    ]
}

fn header_cases() -> Vec<Case> {
    let file = dynamic(&full());
    let put = |at: usize, bytes: &'static [u8]| move |h: &mut [u8]| h[at..at + bytes.len()].copy_from_slice(bytes);
    let error =
        |id, at: usize, bytes: &'static [u8]| Case::error(id, 512 + at, NAME, header(file.clone(), put(at, bytes)));
    let warning = |id, at: usize, bytes: &'static [u8]| Case { severity: "warning", ..error(id, at, bytes) };
    let both = header(file.clone(), |h| {
        h[27] = 9;
        h[24] = 1;
    });
    let small = aligned(&full(), 65_536).build();
    vec![
        Case::error("VHD-HEADER-COOKIE", 512, NAME, changed(file.clone(), 515, b"X")),
        Case::error("VHD-HEADER-CHECKSUM", 512 + 36, NAME, changed(file.clone(), 512 + 37, b"X")),
        error("VHD-HEADER-VERSION", 24, &[0, 2]),
        // A reader stops at the first.
        Case::error("VHD-HEADER-CHECKSUM", 512 + 36, NAME, changed(both, 512 + 37, b"X")).also(&["VHD-HEADER-VERSION"]),
        warning("VHD-HEADER-DATA-OFFSET", 8, &[0; 8]),
        warning("VHD-HEADER-RESERVED", 60, &[1]),
        warning("VHD-HEADER-RESERVED", 1000, &[1]),
        warning("VHD-HEADER-PARENT", 40, &[1]),
        warning("VHD-HEADER-PARENT", 64, &[0x41]),
        error("VHD-BLOCK-SIZE", 32, &[0, 0x30, 0, 0]),
        Case::warning("VHD-BLOCK-SIZE", 512 + 32, NAME, small),
        Case::note("VHD-BLOCK-SIZE", 512 + 32, NAME, aligned(&full(), 1 << 20).build()),
        error("VHD-TABLE-ENTRIES", 28, &[0, 0, 0, 1]).also(&["VHD-BAT", "VHD-UNREFERENCED", "VHD-TABLE-PADDING note"]),
        warning("VHD-TABLE-ENTRIES", 28, &[0, 0, 0, 3]),
        error("VHD-TABLE-OFFSET", 16, &[0, 0, 0, 0, 0, 0, 2, 0]),
        error("VHD-TABLE-OFFSET", 16, &[0, 0, 0, 9]).also(&["VHD-UNREFERENCED"]),
    ]
}

fn block_cases() -> Vec<Case> {
    let file = dynamic(&half());
    let first = aligned(&half(), BLOCK).block_at(0);
    let entry = |sector: u32| changed(file.clone(), TABLE + 4, &sector.to_be_bytes());
    let end = file.len() - 512;
    let mut cut = entry((end as u32 + 3584) / 512);
    cut.splice(end..end, vec![0; 16_384]);
    // Three sectors of the disk are in the second block.
    let short = aligned(&full()[..BLOCK as usize + 3 * 512], BLOCK);
    let (last_bits, short) = (short.block_at(1), short.build());
    let mut cut_behind = short.clone();
    let cut_end = cut_behind.len() - 512;
    cut_behind.drain(cut_end - 4096..cut_end);
    let cut_behind = changed(cut_behind, last_bits, &[0xE0, 0, 0]);
    let exact = |bit: u8| changed(changed(short.clone(), last_bits, &[0; 128]), last_bits, &[bit]);
    let mut with_gap = entry(u32::MAX);
    with_gap.splice(end..end, vec![0; 4096]);
    let data_in_gap = changed(file.clone(), first - 100, &[7]);
    let surplus = header(changed(file.clone(), TABLE + 8, &4u32.to_be_bytes()), |h| h[31] = 3);
    let mut stale = aligned(&half(), BLOCK);
    let mut bits = vec![0xFF; 128];
    bits[5] = 0xF7;
    stale.blocks.get_mut(&0).unwrap().1 = Some(bits);
    let mut unwritten = aligned(&half(), BLOCK);
    unwritten.blocks.get_mut(&0).unwrap().1 = Some(vec![0; 128]);
    let whole = dynamic(&full());
    let second = aligned(&full(), BLOCK).block_at(1);
    let lost = changed(whole, TABLE + 4, &[0xFF; 4]);
    let tap = Vhd { creator: *b"tap\0", creator_version: 0x0001_0003, ..aligned(&half(), BLOCK) };
    vec![
        Case::error("VHD-BAT-MISPLACED", TABLE + 4, NAME, entry(1)),
        Case::error("VHD-BAT-MISPLACED", TABLE + 4, NAME, entry(3)),
        Case::error("VHD-BAT-OUTSIDE", TABLE + 4, NAME, entry(0x00FF_FFFF)),
        Case::error("VHD-BLOCK-CUT", TABLE + 4, NAME, cut),
        Case::warning("VHD-BLOCK-CUT", TABLE + 4, NAME, cut_behind).also(&["VHD-BITMAP-BEHIND-END note"]),
        Case::note("VHD-BITMAP-BEHIND-END", last_bits + 1, NAME, changed(exact(0xE0), last_bits + 1, &[1])),
        Case::note("VHD-BITMAP-BEHIND-END", last_bits, NAME, exact(0xF0)),
        Case::note("VHD-ALIGNMENT", TABLE, NAME, Vhd::dynamic_of(&half(), BLOCK).build()),
        Case::note("VHD-TABLE-PADDING", TABLE + 8, NAME, changed(file.clone(), TABLE + 8, &[0x7F])),
        Case::note("VHD-TABLE-PADDING", TABLE + 80, NAME, changed(file.clone(), TABLE + 80, &[0; 100])),
        Case::note("VHD-UNREFERENCED", 3072, NAME, data_in_gap),
        Case::note("VHD-UNREFERENCED", end, NAME, with_gap),
        Case::error("VHD-BAT-OVERLAP", TABLE + 4, NAME, entry(first as u32 / 512)),
        Case::error("VHD-BAT-SURPLUS", TABLE + 8, NAME, surplus).also(&["VHD-TABLE-ENTRIES warning"]),
        Case::error("VHD-BITMAP-STALE", first + 512 + 44 * 512, NAME, stale.build()),
        Case::error("VHD-BITMAP-UNWRITTEN", first, NAME, unwritten.build()),
        Case::warning("VHD-UNREFERENCED", second, NAME, lost),
        Case::error("VHD-BATMAP", 2048, NAME, tap.build()),
        Case::error("VHD-BATMAP", 2560, NAME, with_batmap(&tap, 0xC0)),
        Case::error("VHD-BATMAP", 2048 + 24, NAME, changed(with_batmap(&tap, 0x80), 2048 + 24, b"X")),
        Case::error("VHD-BATMAP", 2048 + 8, NAME, changed(with_batmap(&tap, 0x80), 2048 + 8, b"X"))
            .also(&["VHD-UNREFERENCED note"]),
    ]
}

/// As tapdisk writes it, with a map that says which blocks are whole.
pub fn with_batmap(vhd: &Vhd, map: u8) -> Vec<u8> {
    let mut file = vhd.build();
    let mut batmap = vec![0; 1024];
    batmap[..8].copy_from_slice(b"tdbatmap");
    batmap[8..16].copy_from_slice(&2560u64.to_be_bytes());
    batmap[16..20].copy_from_slice(&1u32.to_be_bytes());
    batmap[20..24].copy_from_slice(&0x0001_0002u32.to_be_bytes());
    batmap[24..28].copy_from_slice(&(!u32::from(map)).to_be_bytes());
    batmap[512] = map;
    assert!(vhd.first_block() >= 2048 + batmap.len(), "no room in front of the blocks");
    file[2048..2048 + batmap.len()].copy_from_slice(&batmap);
    file
}

fn chain_cases() -> Vec<Case> {
    let base = Vhd { unique_id: *b"the base of them", ..aligned(&full(), BLOCK) };
    let mut child = Vhd { align: 4096, ..Vhd::child_of(&base, &full(), BLOCK, |n| n % 7 == 3) };
    child.locators = vec![locator(b"W2ru", ".\\base.vhd"), locator(b"W2ku", "C:\\disks\\base.vhd")];
    child.parent_name = "base.vhd".into();
    let case = |case: Case| case.with("base.vhd", base.build());
    let file = child.build();
    let locators = 512 + 576;
    let base_end = base.build().len() - 512;
    let of_base = |at: usize, value: u8| footers(base.build(), |f| f[at] = value);
    let first_of_base = ((base.first_block() / 512) as u32).to_be_bytes();
    let other = Vhd { unique_id: *b"another disk whr", ..base.clone() };
    let larger = Vhd { unique_id: base.unique_id, ..aligned(&[full(), full()].concat(), BLOCK) };
    let own = Vhd {
        unique_id: child.parent_id,
        locators: vec![locator(b"W2ru", ".\\a.vhd")],
        parent_name: "a.vhd".into(),
        ..child.clone()
    };
    let misnamed = Vhd { parent_name: "other.vhd".into(), ..child.clone() };
    vec![
        case(Case::error(
            "VHD-LOCATOR",
            locators,
            NAME,
            header(file.clone(), |h| h[576..580].copy_from_slice(b"XXXX")),
        )),
        case(Case::error(
            "VHD-LOCATOR",
            locators + 24,
            NAME,
            header(file.clone(), |h| h[600..604].copy_from_slice(b"W2ru")),
        )),
        case(Case::error("VHD-LOCATOR", locators, NAME, header(file.clone(), |h| h[584..588].fill(0)))),
        case(Case::error("VHD-LOCATOR", locators, NAME, header(file.clone(), |h| h[588] = 1))),
        case(Case::error("VHD-LOCATOR", locators + 24, NAME, header(file.clone(), |h| h[616] = 1)))
            .also(&["VHD-UNREFERENCED note"]),
        case(Case::error(
            "VHD-LOCATOR",
            locators + 24,
            NAME,
            header(file.clone(), |h| {
                h[600..604].copy_from_slice(b"Mac ");
                h[616] = 1;
            }),
        ))
        .also(&["VHD-UNREFERENCED note"]),
        case(Case::error("VHD-LOCATOR", locators + 72, NAME, header(file.clone(), |h| h[576 + 72 + 9] = 1))),
        // What is wrong with a parent is told of the parent, though the child can be read, and though it cannot.
        Case::warning("VHD-FEATURES", base_end + 8, NAME, file.clone()).with("base.vhd", of_base(11, 0)).in_file(1),
        Case::error("VHD-BAT-OVERLAP", TABLE + 4, NAME, file.clone())
            .with("base.vhd", changed(base.build(), TABLE + 4, &first_of_base))
            .in_file(1)
            .also(&["VHD-BAT-OVERLAP error", "VHD-UNREFERENCED warning"]),
        Case::error("VHD-HEADER-COOKIE", 512, NAME, file.clone())
            .with("base.vhd", changed(of_base(11, 0), 515, b"X"))
            .in_file(1)
            .also(&["VHD-FEATURES warning"]),
        Case::error("VHD-PARENT-MISSING", 512 + 64, NAME, file.clone()),
        Case::error("VHD-PARENT-ID", 512 + 40, NAME, file.clone()).with("base.vhd", other.build()),
        case(Case::warning("VHD-PARENT-TIME", 512 + 56, NAME, header(file.clone(), |h| h[59] = 9))),
        Case::warning("VHD-PARENT-SIZE", 0, NAME, file).nowhere().with("base.vhd", larger.build()),
        case(Case::warning("VHD-PARENT-NAMES", locators, NAME, misnamed.build())).also(&["VHD-PARENT-NAMES warning"]),
        Case::error("VHD-CHAIN", 0, NAME, own.build()).nowhere(),
    ]
}
