//! VHDs as products write them and as accidents leave them: right, or refused with file and byte. Tests called `peers_N` are cases in
//! which other converters are known to fail.

mod common;

use std::path::Path;

use common::vhd::{Vhd, seal};
use common::{Ran, names, pattern, run, scratch};

const BLOCK: u32 = 8192;

/// A guest of 40 sectors over blocks of 16: the second block is zero, the last one is cut by the disk's end.
fn guest() -> Vec<u8> {
    pattern(40, |n| (16..32).contains(&n))
}

fn dynamic() -> Vhd {
    Vhd::dynamic_of(&guest(), BLOCK)
}

/// Converts `image`, called `name`, to raw. What came out, if anything; nothing else is left behind.
fn to_raw(name: &str, image: &[u8], options: &[&str]) -> (Ran, Option<Vec<u8>>) {
    let folder = scratch();
    std::fs::write(folder.path().join(name), image).unwrap();
    let ran = run(folder.path(), [&[name, "out.raw"], options].concat());
    let out = std::fs::read(folder.path().join("out.raw")).ok();
    let mut left = names(folder.path());
    left.retain(|n| n != name);
    assert_eq!(left, if out.is_some() { vec!["out.raw"] } else { vec![] }, "R17");
    assert_eq!(std::fs::read(folder.path().join(name)).unwrap(), image, "R1");
    assert_eq!(out.is_some(), ran.status == Some(0), "{}", ran.err);
    (ran, out)
}

#[track_caller]
fn reads(image: &[u8], want: &[u8]) {
    let (ran, out) = to_raw("a.vhd", image, &[]);
    ran.succeeds();
    assert!(out.unwrap() == want);
}

#[track_caller]
fn warns(image: &[u8], want: &[u8], texts: &[&str]) {
    let (ran, out) = to_raw("a.vhd", image, &[]);
    ran.warns(texts);
    assert!(out.unwrap() == want);
}

#[track_caller]
fn refused(image: &[u8], texts: &[&str]) {
    let (ran, _) = to_raw("a.vhd", image, &[]);
    ran.fails(1, texts).fails(1, &["a.vhd: "]);
}

/// The image with a change; structures are not sealed again.
fn changed(change: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let mut image = dynamic().build();
    change(&mut image);
    image
}

/// A 4-byte field of the dynamic header set, its checksum redone.
fn header_field(field: usize, value: u32) -> Vec<u8> {
    changed(|image| {
        image[512 + field..512 + field + 4].copy_from_slice(&value.to_be_bytes());
        seal(&mut image[512..1536], 36);
    })
}

/// A field of both footers set, their checksums redone.
fn footer_field(image: &mut [u8], field: usize, value: &[u8]) {
    for at in [0, image.len() - 512] {
        image[at + field..at + field + value.len()].copy_from_slice(value);
        seal(&mut image[at..at + 512], 64);
    }
}

fn bat(image: &mut [u8], entry: usize, sector: u32) {
    image[1536 + entry * 4..][..4].copy_from_slice(&sector.to_be_bytes());
}

#[test]
fn a_dynamic_disk_with_an_absent_block_and_a_short_last_one_is_read() {
    reads(&dynamic().build(), &guest());
}

#[test]
fn any_legal_block_size_is_read() {
    let guest = pattern(5000, |n| n % 700 > 300);
    for shift in 9..=24 {
        reads(&Vhd::dynamic_of(&guest, 1 << shift).build(), &guest);
    }
}

#[test]
fn a_block_of_two_gib_is_read_in_bounded_memory() {
    use std::io::{Seek, SeekFrom, Write};
    let folder = scratch();
    let mut vhd = Vhd::dynamic((3 << 30) + 512, 1 << 31);
    let bitmap = (1usize << 31) / 512 / 8;
    let mut file = std::fs::File::create(folder.path().join("a.vhd")).unwrap();
    vhd.max_table_entries = Some(2);
    file.write_all(&vhd.footer()).unwrap();
    file.write_all(&vhd.header()).unwrap();
    let mut table = [0xFF; 512];
    table[0..4].copy_from_slice(&4u32.to_be_bytes());
    file.write_all(&table).unwrap();
    file.write_all(&vec![0xFF; bitmap]).unwrap();
    file.write_all(&pattern(8, |_| false)).unwrap();
    file.seek(SeekFrom::Start(2048 + bitmap as u64 + (1 << 31))).unwrap();
    file.write_all(&vhd.footer()).unwrap();
    run(folder.path(), ["a.vhd", "out.raw"]).succeeds();
    let out = std::fs::File::open(folder.path().join("out.raw")).unwrap();
    assert_eq!(out.metadata().unwrap().len(), (3 << 30) + 512);
    let mut head = vec![0; 4096];
    std::io::Read::read_exact(&mut { &out }, &mut head).unwrap();
    assert!(head == pattern(8, |_| false));
}

#[test]
fn peers_1_a_fixed_vhd_under_any_name_never_gives_its_footer_to_the_guest() {
    for name in ["a.vhd", "a.img", "a.raw", "disk", "a.vmdk"] {
        let (ran, out) = to_raw(name, &Vhd::fixed_of(&guest()).build(), &[]);
        ran.succeeds();
        assert!(out.unwrap() == guest());
    }
}

#[test]
fn peers_3_clear_bits_of_a_dynamic_disk_are_zero_whatever_lies_there() {
    let mut vhd = dynamic();
    // Stale bytes in all of block 1, of which the sectors 0, 7 and 8 are valid.
    vhd.blocks.insert(1, (vec![0xAB; BLOCK as usize], Some(vec![0x81, 0x80])));
    let mut want = guest();
    for sector in [16, 23, 24] {
        want[sector * 512..][..512].fill(0xAB);
    }
    reads(&vhd.build(), &want);
    let (ran, _) = to_raw("a.vhd", &vhd.build(), &["-v"]);
    assert!(ran.err.contains("13 sectors under clear bits"), "{}", ran.err);

    want[16 * 512..32 * 512].fill(0xAB);
    let (ran, out) = to_raw("a.vhd", &vhd.build(), &["--ignore-bitmaps"]);
    ran.succeeds();
    assert!(out.unwrap() == want);
}

#[test]
fn a_bitmap_that_was_never_written_is_a_loss_and_the_hint_names_the_way_round() {
    let mut vhd = dynamic();
    vhd.blocks.insert(1, (vec![0xAB; BLOCK as usize], Some(vec![0; 2])));
    let bitmap_at = vhd.block_at(1);
    refused(&vhd.build(), &[&format!("at byte {bitmap_at}: "), "never written", "block 1", "hint: --ignore-bitmaps"]);
    let mut want = guest();
    want[16 * 512..32 * 512].fill(0xAB);
    let (ran, out) = to_raw("a.vhd", &vhd.build(), &["--ignore-bitmaps"]);
    ran.succeeds();
    assert!(out.unwrap() == want);
    // Over zeroes it is no loss: a block that was allocated and never used.
    vhd.blocks.insert(1, (vec![], Some(vec![0; 2])));
    reads(&vhd.build(), &guest());
    // Bits behind the disk's end say nothing: QEMU sets them.
    vhd.blocks.insert(2, (guest()[32 * 512..].to_vec(), Some(vec![0xFF, 0xFF])));
    reads(&vhd.build(), &guest());
}

#[test]
fn peers_4_the_size_is_the_current_size_whoever_wrote_it() {
    for creator in [b"vpc ", b"qemu", b"win ", b"tap\0", b"\x1b[1m"] {
        let mut vhd = dynamic();
        vhd.creator = *creator;
        reads(&vhd.build(), &guest());
        let mut vhd = Vhd::fixed_of(&guest());
        vhd.creator = *creator;
        reads(&vhd.build(), &guest());
    }
}

#[test]
fn peers_13_shared_and_overlapping_blocks_name_both_entries() {
    let first = (dynamic().block_at(0) / 512) as u32;
    for other in [first, first + 1, first + 16] {
        let image = changed(|image| {
            // Room behind the last block, so that nothing else is wrong with the place.
            let footer = image.split_off(image.len() - 512);
            image.extend([0; 32 * 512]);
            image.extend(footer);
            bat(image, 1, other);
        });
        refused(&image, &["at byte 1540: ", "where another block lies", "block 1 at byte", "block 0", "byte 1536"]);
    }
}

#[test]
fn r6_wrong_checksums_of_header_and_both_footers_are_refused_at_their_bytes() {
    let image = changed(|image| image[512 + 700] ^= 1);
    refused(&image, &["at byte 548: ", "dynamic header checksum", "found 0x", "expected 0x"]);
    let image = changed(|image| {
        image[100] ^= 1;
        let end = image.len() - 512;
        image[end + 100] ^= 1;
    });
    refused(&image, &["footer checksum", &format!("at byte {}: ", image.len() - 512 + 64), "hint: "]);
    let mut image = Vhd::fixed_of(&guest()).build();
    image[40 * 512 + 90] ^= 1;
    refused(&image, &["at byte 20544: ", "footer checksum"]);
}

#[test]
fn r7_a_vhd_cut_at_any_sector_is_refused_or_whole() {
    for (what, image) in [("dynamic", dynamic().build()), ("fixed", Vhd::fixed_of(&guest()).build())] {
        let sectors = (512..=image.len()).step_by(512);
        // The last cut of one byte makes a footer of 511 bytes, which is none (peers_28).
        for cut in sectors.flat_map(|at| [at - 511, at - 1, at]).filter(|cut| *cut < image.len() - 1) {
            let (ran, out) = to_raw("a.vhd", &image[..cut], &[]);
            match ran.status {
                Some(0) => {
                    ran.warns(&["footer"]);
                    assert!(what == "dynamic" && out.unwrap() == guest(), "cut at {cut}");
                }
                Some(1) => assert!(ran.err.contains("a.vhd: "), "{}", ran.err),
                other => panic!("{other:?} at {cut}: {}", ran.err),
            }
        }
    }
    // The download that stopped, named.
    let image = dynamic().build();
    let cut = dynamic().block_at(1) + 512 + 3 * 512;
    refused(&image[..cut], &["block is cut", "at byte 1544: ", "1536 of 4096 bytes of block 2"]);
}

#[test]
fn peers_25_and_26_one_footer_is_enough_and_the_warning_says_which_is_bad() {
    let end = dynamic().build().len() - 512;
    let bad_sum = |at: usize| changed(|image| image[at + 300] ^= 1);
    let wiped = |at: usize| changed(|image| image[at..at + 512].fill(0));
    warns(&bad_sum(0), &guest(), &["at byte 64: ", "checksum"]);
    warns(&wiped(0), &guest(), &["at byte 0: ", "copy"]);
    warns(&bad_sum(end), &guest(), &[&format!("at byte {}: ", end + 64), "checksum"]);
    warns(&wiped(end), &guest(), &[&format!("at byte {end}: "), "missing"]);
    warns(&changed(|image| image.truncate(end)), &guest(), &["missing"]);
    let differ = changed(|image| {
        image[24] = 1;
        seal(&mut image[0..512], 64);
    });
    warns(&differ, &guest(), &["differ", "time stamp"]);
}

#[test]
fn peers_27_what_was_appended_behind_the_footer_is_told_and_left_out() {
    for junk in [vec![0; 512], vec![0x5A; 700], vec![0; 300_000]] {
        for image in [dynamic().build(), Vhd::fixed_of(&guest()).build()] {
            let text = format!("{} bytes behind the footer", junk.len());
            warns(&[image, junk.clone()].concat(), &guest(), &["appended", &text]);
        }
    }
}

#[test]
fn peers_28_footers_of_511_bytes_are_read() {
    for image in [dynamic().build(), Vhd::fixed_of(&guest()).build()] {
        reads(&image[..image.len() - 1], &guest());
    }
}

#[test]
fn peers_37_a_saved_state_is_warned_about() {
    let mut image = dynamic().build();
    footer_field(&mut image, 84, &[1]);
    warns(&image, &guest(), &["saved machine state"]);
}

#[test]
fn r8_tables_and_blocks_outside_the_file_or_over_other_structures_are_refused() {
    let sectors = dynamic().build().len() as u32 / 512;
    for (sector, texts) in [
        (sectors - 1, ["at byte 1540: ", "outside the file", "data ends at"]),
        (sectors + 5, ["at byte 1540: ", "outside the file", "data ends at"]),
        (0x00FF_FFFF, ["at byte 1540: ", "outside the file", "data ends at"]),
        (0xFFFF_FFFE, ["at byte 1540: ", "outside the file", "data ends at"]),
        (0, ["at byte 1540: ", "over another structure", "footer copy"]),
        (2, ["at byte 1540: ", "over another structure", "dynamic header"]),
        (3, ["at byte 1540: ", "over another structure", "block allocation table"]),
    ] {
        refused(&changed(|image| bat(image, 1, sector)), &texts);
    }
    let table = |at: u64| {
        changed(|image| {
            image[512 + 16..512 + 24].copy_from_slice(&at.to_be_bytes());
            seal(&mut image[512..1536], 36);
        })
    };
    for at in [1 << 20, u64::MAX, u64::MAX - 11, (sectors * 512 - 512 - 11).into()] {
        refused(&table(at), &["at byte 528: ", "block allocation table lies outside"]);
    }
    for at in [0, 511, 512, 1535] {
        refused(&table(at), &["at byte 528: ", "overlaps another structure"]);
    }
    let image = changed(|image| footer_field(image, 16, &u64::MAX.to_be_bytes()));
    refused(&image, &["dynamic header lies outside the file"]);
}

#[test]
fn r10_absurd_numbers_are_refused_at_once() {
    for size in [0u64, 511, 1 << 40, i64::MAX as u64, u64::MAX] {
        let image = changed(|image| footer_field(image, 48, &size.to_be_bytes()));
        refused(&image, &["VHD"]);
        let mut image = Vhd::fixed_of(&guest()).build();
        let at = image.len() - 512;
        image[at + 48..at + 56].copy_from_slice(&size.to_be_bytes());
        seal(&mut image[at..], 64);
        let (ran, _) = to_raw("a.vhd", &image, &["-f", "vhd"]);
        ran.fails(1, &["a.vhd: "]);
    }
    for entries in [0, 1, 2] {
        refused(&header_field(28, entries), &["at byte 540: ", "max table entries", "at least 3"]);
    }
    refused(&header_field(32, 3), &["at byte 544: ", "block size"]);
    refused(&header_field(32, 0x8000_0001), &["at byte 544: ", "block size"]);
}

#[cfg(unix)]
#[test]
fn r10_hostile_files_are_refused_in_bounded_memory_and_time() {
    use common::process::measured;
    let folder = scratch();
    let mut cases = Vec::new();
    // 24 million entries that all lead to one block; the last of them is met only at the end of a sparse walk.
    let blocks = 24_000_000u32;
    let mut vhd = Vhd::dynamic(u64::from(blocks) * 512, 512);
    let image = |vhd: &Vhd, table: &dyn Fn(u32) -> u32| {
        let mut image = [vhd.footer().as_slice(), &vhd.header()].concat();
        image.extend((0..blocks).flat_map(|n| table(n).to_be_bytes()));
        image.resize(image.len().next_multiple_of(512) + 4096, 7);
        image.extend(vhd.footer());
        image
    };
    let after_table = (1536 + blocks * 4).div_ceil(512);
    cases.push(image(&vhd, &|_| after_table));
    cases.push(image(&vhd, &|n| if n + 2 < blocks { u32::MAX } else { after_table }));
    cases.push(image(&vhd, &|n| n));
    // A MiB of sound footers without a copy at the head, each to be held against the whole table.
    let mut many = image(&vhd, &|n| if n + 1 < blocks { u32::MAX } else { 1 });
    many[..512].fill(0);
    let end = many.len();
    for at in (end - (1 << 20)..end).step_by(512) {
        many[at..at + 512].copy_from_slice(&vhd.footer());
    }
    many.extend([9; 512]);
    cases.push(many);
    // Blocks of 2 GiB, all in one place.
    vhd.block_size = 1 << 31;
    vhd.size = 1 << 50;
    cases.push(image(&vhd, &|_| after_table));
    for (n, image) in cases.into_iter().enumerate() {
        assert!(image.len() < 100 << 20);
        fs_write(&folder, "a.vhd", &image);
        let (status, peak, time) = measured(common::vdconv().current_dir(folder.path()).args(["a.vhd", "o.vmdk"]));
        assert_eq!(status.code(), Some(1), "case {n}");
        assert!(peak < 256 && time.as_secs() < 10, "case {n}: {peak} MiB, {time:?}");
        assert_eq!(names(folder.path()), ["a.vhd"]);
    }
}

#[cfg(unix)]
fn fs_write(folder: &tempfile::TempDir, name: &str, bytes: &[u8]) {
    std::fs::write(folder.path().join(name), bytes).unwrap();
}

#[test]
fn surplus_table_entries_are_ignored_whatever_they_say() {
    reads(&header_field(28, u32::MAX), &guest());
    let mut vhd = dynamic();
    vhd.max_table_entries = Some(9);
    let mut image = vhd.build();
    bat(&mut image, 5, 1);
    bat(&mut image, 8, 0x7777_7777);
    reads(&image, &guest());
}

#[test]
fn a_last_block_cut_behind_the_disks_end_is_read_with_a_warning() {
    let image = dynamic().build();
    // Block 2 holds 8 sectors of the disk; of the 16 that are stored, the last four go.
    let cut = [&image[..image.len() - 512 - 2048], &image[image.len() - 512..]].concat();
    warns(&cut, &guest(), &["cut behind the disk's end", "at byte 1544: "]);
}

#[test]
fn a_size_that_is_no_whole_number_of_sectors_is_rounded_down_and_said() {
    let image = changed(|image| footer_field(image, 48, &(39 * 512 + 100u64).to_be_bytes()));
    warns(&image, &guest()[..39 * 512], &["no whole number of sectors"]);
}

#[test]
fn a_vhd_stored_in_a_guest_never_turns_a_raw_disk_into_a_vhd() {
    // 2 MiB of raw disk, with VHDs in its file system at every place that could matter.
    let mut disk = pattern(4096, |n| n % 3 == 0);
    let (fixed, dynamic) = (Vhd::fixed_of(&guest()).build(), dynamic().build());
    for at in [512, 4096, (1 << 20) + 1024, (2 << 20) - 60_000] {
        disk[at..at + fixed.len()].copy_from_slice(&fixed);
        disk[at + 24_576..at + 24_576 + dynamic.len()].copy_from_slice(&dynamic);
    }
    for name in ["a.img", "a.raw", "a.dd", "a.bin"] {
        let (ran, out) = to_raw(name, &disk, &[]);
        ran.succeeds();
        assert!(out.unwrap() == disk);
    }
    // In the very last sectors nobody can know: the user is asked.
    for nested in [&fixed, &dynamic] {
        let mut disk = disk.clone();
        let at = disk.len() - nested.len();
        disk[at..].copy_from_slice(nested);
        let (ran, _) = to_raw("a.img", &disk, &[]);
        ran.fails(1, &[&format!("at byte {}: ", disk.len() - 512), "-f vhd", "-f raw"]);
        let (ran, out) = to_raw("a.img", &disk, &["-f", "raw"]);
        ran.succeeds();
        assert!(out.unwrap() == disk);
    }
}

/// A dynamic disk of 4 blocks of 64 KiB, three of them stored; the last one stored holds a small dynamic VHD, whose footer is at this
/// byte of the file.
fn with_a_vhd_inside() -> (Vec<u8>, Vec<u8>, usize) {
    let mut inner = Vhd::dynamic_of(&pattern(16, |_| false), 4096);
    inner.unique_id = *b"another disk's..";
    let inner = inner.build();
    let mut guest = pattern(512, |n| n >= 384);
    let at = 2 * 65_536 + 4096;
    guest[at..at + inner.len()].copy_from_slice(&inner);
    let outer = Vhd::dynamic_of(&guest, 65_536);
    let footer = outer.block_at(2) + 512 + 4096 + inner.len() - 512;
    let image = outer.build();
    assert!(image[footer..].starts_with(b"conectix"));
    (image, guest, footer)
}

#[test]
fn a_footer_inside_a_block_is_the_guests_whatever_happened_to_the_others() {
    let (image, guest, inside) = with_a_vhd_inside();
    let end = image.len() - 512;
    reads(&image, &guest);
    let spoilt = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut image = image.clone();
        change(&mut image);
        image
    };
    // The download stopped right behind the inner footer.
    refused(&image[..inside + 512], &["block is cut"]);
    // The outer footers are lost, one or both.
    warns(&image[..end], &guest, &["footer at the end is missing"]);
    warns(&spoilt(&|i| i[end..].fill(0)), &guest, &["footer at the end is missing"]);
    refused(&spoilt(&|i| (i[end..].fill(0), i[..512].fill(0)).0), &["lost both its footers"]);
    refused(&spoilt(&|i| (i[end + 40] ^= 1, i[40] ^= 1).0), &["footer checksum"]);
    let headless = [&[0; 512], &image[512..inside + 512]].concat();
    refused(&headless, &[&format!("at byte {inside}: "), "less than the blocks that are there", "-f vhd", "-f raw"]);
}

#[test]
fn a_footer_where_data_should_be_is_no_data() {
    let vhd = dynamic();
    let image = vhd.build();
    let end = image.len() - 512;
    let footer = image[end..].to_vec();
    let mut other = Vhd { unique_id: *b"another disk's..", ..vhd.clone() }.footer().to_vec();
    // The last block is short, a footer follows at once; behind it nothing, or something.
    for short in [4608, 5120, 8192] {
        for junk in [0, 100, 512, 4096] {
            for footer in [&footer, &other] {
                if footer == &other && short == 4608 && junk == 4096 {
                    continue; // as long as the block: nobody can tell that from a guest that holds another disk
                }
                let cut = [&image[..end - short], footer, &vec![b'J'; junk]].concat();
                refused(&cut, &["VHD block"]);
            }
        }
    }
    // An old footer in front of the last block is no end.
    let at = vhd.block_at(1);
    let mut moved = [&image[..at], &footer, &image[at..end]].concat();
    bat(&mut moved, 2, (at / 512) as u32 + 1);
    warns(&moved, &guest(), &["footer at the end is missing"]);
    // Footers that differ: never the smaller size, never another kind.
    other = footer.clone();
    other[48..56].copy_from_slice(&8192u64.to_be_bytes());
    seal(&mut other, 64);
    warns(&[&image[..end], &other].concat(), &guest(), &["differ", "current size"]);
    other = footer.clone();
    other[63] = 2;
    seal(&mut other, 64);
    warns(&[&image[..end], &other].concat(), &guest(), &["differ", "disk type"]);
}

#[test]
fn what_is_left_of_a_vhd_never_becomes_a_raw_disk() {
    let image = dynamic().build();
    let end = image.len() - 512;
    let mut headless = image.clone();
    headless[0] = b'X';
    headless[end] = b'X';
    let fixed = Vhd::fixed_of(&guest()).build();
    for (image, text) in
        [(&headless[..], "lost both its footers"), (&fixed[..fixed.len() - 100], "footer is cut short")]
    {
        let (ran, _) = to_raw("a.img", image, &[]);
        ran.fails(1, &["at byte ", text, "-f raw"]);
    }
    // A fixed disk whose guest begins with a fixed one, and whose own footer is damaged.
    let inner = [Vhd::fixed_of(&guest()).build(), pattern(20, |_| false)].concat();
    let mut outer = Vhd::fixed_of(&inner).build();
    outer[inner.len() + 300] ^= 1;
    refused(&outer, &["footer checksum"]);
}

#[test]
fn a_disk_that_xenserver_disabled_is_refused_wherever_it_says_so() {
    let end = dynamic().build().len() - 512;
    for places in [vec![0], vec![end], vec![0, end]] {
        let image = changed(|image| places.iter().for_each(|at| image[*at..at + 8].copy_from_slice(b"v_poison")));
        let (ran, _) = to_raw("a.vhd", &image, &[]);
        assert!(!ran.fails(1, &["XenServer", "v_poison"]).err.contains("hint"));
    }
}

#[test]
fn an_all_clear_bitmap_over_bytes_that_the_file_does_not_have_is_a_loss() {
    let mut vhd = dynamic();
    vhd.blocks.insert(2, (guest()[32 * 512..].to_vec(), Some(vec![0; 2])));
    let image = vhd.build();
    let cut = [&image[..vhd.block_at(1) + 512 + 1024], &image[image.len() - 512..]].concat();
    refused(&cut, &["block is cut", "1024 of 4096 bytes of block 2", "at byte 1544: "]);
}

#[test]
fn blocks_over_the_unneeded_part_of_the_table_are_told_and_a_batmap_is_passed_over() {
    let mut vhd = dynamic();
    vhd.max_table_entries = Some(9000);
    let mut image = vhd.build();
    bat(&mut image, 1, 5);
    let (ran, out) = to_raw("a.vhd", &image, &[]);
    ran.warns(&["at byte 1540: ", "block allocation table lies there"]);
    assert!(out.unwrap() != guest());

    vhd.max_table_entries = Some(200);
    (vhd.creator, vhd.creator_version) = (*b"tap\0", 0x0001_0003);
    let mut image = vhd.build();
    // A batmap between table and blocks: all that follows moves by two sectors.
    let at = vhd.first_block();
    let mut header = [0; 1024];
    header[..8].copy_from_slice(b"tdbatmap");
    header[8..16].copy_from_slice(&(at as u64 + 512).to_be_bytes());
    header[16..20].copy_from_slice(&1u32.to_be_bytes());
    image.splice(at..at, header);
    for (entry, nth) in [(0, 0), (2, 1)] {
        bat(&mut image, entry, (vhd.block_at(nth) / 512) as u32 + 2);
    }
    reads(&image, &guest());
    image[at + 29] = 1;
    refused(&image, &["encrypted"]);
}

#[test]
fn a_fixed_disk_whose_guest_begins_with_a_vhd_never_becomes_that_vhd() {
    let mut inner = dynamic().build();
    inner.extend(pattern(30, |_| false));
    let image = Vhd::fixed_of(&inner).build();
    let mut bad_sum = image.clone();
    bad_sum[inner.len() + 300] ^= 1;
    refused(&bad_sum, &["footer checksum", "-f vhd", "-f raw"]);
    warns(&[image, vec![b'J'; 4096]].concat(), &inner, &["4096 bytes behind the footer"]);
}

#[test]
fn a_fixed_disk_with_a_damaged_cookie_never_becomes_a_raw_disk() {
    for name in ["a.img", "a.vhd"] {
        let mut image = Vhd::fixed_of(&guest()).build();
        image[guest().len() + 3] ^= 0x40;
        let (ran, _) = to_raw(name, &image, &[]);
        ran.fails(1, &["at byte 20480: ", "footer cookie", "expected conectix"]);
    }
}

#[test]
fn a_fixed_disk_whose_guest_begins_with_a_vhd_is_read_whole() {
    for nested in [Vhd::fixed_of(&guest()).build(), dynamic().build()] {
        let mut inner = nested.clone();
        inner.extend(pattern(30, |_| false));
        reads(&Vhd::fixed_of(&inner).build(), &inner);
    }
}

#[test]
fn with_f_vhd_a_fixed_disk_takes_its_data_from_byte_0() {
    let mut image = guest();
    image.extend([0x77; 1024]);
    image.extend(Vhd::fixed_of(&guest()).footer());
    let (ran, _) = to_raw("a.vhd", &image, &[]);
    ran.fails(1, &["-f vhd"]);
    let (ran, out) = to_raw("a.vhd", &image, &["-f", "vhd"]);
    ran.warns(&["size", "data is taken from byte 0"]);
    assert!(out.unwrap() == guest());
    // Cut short: never a short disk.
    let cut = [&guest()[..5120], &Vhd::fixed_of(&guest()).footer()].concat();
    let (ran, _) = to_raw("a.vhd", &cut, &["-f", "vhd"]);
    ran.fails(1, &["cut short", "at byte 5120: ", "expected 20480"]);
    let (ran, _) = to_raw("a.vhd", &guest(), &["-f", "vhd"]);
    ran.fails(1, &["no VHD footer"]);
}

#[test]
fn what_this_version_does_not_read_is_refused_by_name() {
    let mut vhd = dynamic();
    vhd.disk_type = 4;
    vhd.parent_name = "C:\\vm\\base \u{1b}[31m.vhd".into();
    refused(&vhd.build(), &["differencing", "C:\\vm\\base \\u{1b}[31m.vhd", "hint: "]);
    for (field, value, text) in [(12, [0, 2, 0, 0], "file format version"), (60, [0, 0, 0, 6], "disk type")] {
        let image = changed(|image| footer_field(image, field, &value));
        refused(&image, &[text]);
    }
    let image = changed(|image| footer_field(image, 0, b"v_poison"));
    refused(&image, &["XenServer"]);
    let mut vhd = dynamic();
    (vhd.creator, vhd.creator_version) = (*b"tap\0", 1);
    refused(&vhd.build(), &["tapdisk 0.1"]);
    vhd.creator_version = 0x0001_0003;
    reads(&vhd.build(), &guest());
    let mut image = vhd.build();
    // The batmap's header goes where the first block was; the block's entry says "not allocated" now.
    let at = vhd.first_block();
    image[at..at + 8].copy_from_slice(b"tdbatmap");
    image[at + 29] = 1;
    refused(&image, &["encrypted"]);
}

#[test]
fn a_hidden_xen_disk_is_read() {
    let image = changed(|image| {
        let end = image.len() - 512;
        (image[85], image[end + 85]) = (1, 1);
    });
    reads(&image, &guest());
}

#[test]
fn f_vhd_does_not_open_what_is_none() {
    let folder = scratch();
    std::fs::write(folder.path().join("x.vhd"), pattern(8, |_| false)).unwrap();
    run(folder.path(), ["-f", "vhd", "x.vhd", "o.raw"]).fails(1, &["x.vhd: no VHD footer"]);
    assert!(!Path::new(&folder.path().join("o.raw")).exists());
}

#[test]
fn a_block_whose_entry_was_lost_is_told_and_room_without_data_is_not() {
    let vhd = dynamic();
    let want = guest();
    for (entry, nth) in [(0usize, 0), (2, 1)] {
        // The entry becomes that of a block that is not there; the block still is.
        let image = changed(|i| i[1536 + entry * 4..][..4].fill(0xFF));
        let mut want = want.clone();
        want[entry * 8192..((entry + 1) * 8192).min(40 * 512)].fill(0);
        let at = format!("at byte {}: ", vhd.block_at(nth));
        warns(&image, &want, &[&at, "no entry of its table leads", "found 8704 bytes"]);
    }
    // Room for three blocks in front of the footer: of zeroes, then with one byte in the last.
    let image = changed(|i| {
        let footer = i.len() - 512;
        i.splice(footer..footer, vec![0; 3 * 8704]);
    });
    reads(&image, &want);
    let mut image = image;
    let at = image.len() - 512 - 8000;
    image[at] = 7;
    warns(&image, &want, &["no entry of its table leads", "found 26112 bytes"]);
    // Every walk over the whole disk tells it; a look at single places does not search for it.
    let folder = scratch();
    std::fs::write(folder.path().join("a.vhd"), &image).unwrap();
    for args in [
        &["hash", "a.vhd"][..],
        &["map", "a.vhd"],
        &["check", "a.vhd"],
        &["compare", "a.vhd", "a.vhd"],
        &["--dry-run", "a.vhd", "o.vmdk"],
    ] {
        let ran = run(folder.path(), args);
        assert!(format!("{}{}", ran.out, ran.err).contains("no entry of its table leads"), "{args:?}: {}", ran.err);
    }
    run(folder.path(), ["info", "a.vhd"]).succeeds();
    // Less than a block is nobody's block.
    let image = changed(|i| {
        let footer = i.len() - 512;
        i.splice(footer..footer, vec![7; 8704 - 512]);
    });
    reads(&image, &want);
}
