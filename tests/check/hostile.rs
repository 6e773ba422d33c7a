//! Tables made to cost memory or time: within 256 MiB and 10 s (R10).

use std::fs;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use super::common::scratch;
use super::common::vhd::{Vhd, seal};
use super::common::vmdk::{Sparse, descriptor};
use super::law::{check, check_within};

/// A VHD of 90 MiB of table, each entry this one.
fn vhd(entry: [u8; 4]) -> Vec<u8> {
    let entries: u32 = 23 << 20;
    let vhd = Vhd::dynamic(u64::from(entries) * 512, 512);
    let mut file = vhd.build();
    let table = file.len() - 512 - 1536;
    assert_eq!(table, entries as usize * 4);
    file[1536..1536 + table].copy_from_slice(&entry.repeat(entries as usize));
    // Room for the block that all entries name.
    let end = file.len() - 512;
    file.splice(end..end, [vec![0xFF; 512], vec![7; 512]].concat());
    seal(&mut file[512..1536], 36);
    file
}

#[test]
fn tables_that_name_one_place_or_none_that_can_be_cost_neither_memory_nor_time() {
    let folder = scratch();
    let sector = ((1536 + (23 << 22)) / 512) as u32;
    for (name, entry) in [("zero.vhd", [0; 4]), ("same.vhd", sector.to_be_bytes()), ("out.vhd", [0xF0; 4])] {
        fs::write(folder.path().join(name), vhd(entry)).unwrap();
        let ran = check(folder.path(), name);
        assert_eq!(ran.status, Some(1), "{name}: {}{}", ran.out, ran.err);
        assert!(ran.out.contains(" more\n") && ran.out.lines().count() < 60, "{}", ran.out);
        fs::remove_file(folder.path().join(name)).unwrap();
    }
    // A VMDK whose tables all lie at one place; one whose entries all name one grain.
    let sectors: u64 = 11 << 20 << 7;
    let text = descriptor("monolithicSparse", 7, None, &format!("RW {sectors} SPARSE \"x\""));
    let mut sparse =
        Sparse { capacity: sectors, flags: 1, descriptor: text, grains: Vec::new(), ..Sparse::of(&[1; 512]) };
    sparse.grains.clear();
    let mut file = sparse.build();
    let (tables, first) = (sparse.gd() as usize * 512, sparse.overhead());
    let entry = sparse.entry_at(sparse.gd(), 0);
    let all = sparse.tables() as usize * 2048;
    file[entry..entry + all].copy_from_slice(&(first as u32).to_le_bytes().repeat(all / 4));
    file.extend(vec![7; 65_536]);
    fs::write(folder.path().join("same.vmdk"), &file).unwrap();
    let ran = check(folder.path(), "same.vmdk");
    assert!(ran.status == Some(1) && ran.out.contains("VMDK-GTE-OVERLAP error"), "{}{}", ran.out, ran.err);
    let one: Vec<u8> = file[tables..tables + 4].repeat(sparse.tables() as usize);
    file[tables..tables + one.len()].copy_from_slice(&one);
    fs::write(folder.path().join("one.vmdk"), &file).unwrap();
    let ran = check(folder.path(), "one.vmdk");
    assert!(ran.status == Some(1) && ran.out.contains("VMDK-GDE error"), "{}{}", ran.out, ran.err);
}

/// A block of 2 GiB has a bitmap of half a MiB. Twenty thousand that lie on each other, each a sector behind the one before, would be
/// read again and again; the first thousands of them are kept by their places.
#[test]
fn bitmaps_of_blocks_that_all_lie_on_each_other_are_not_read_for_each_of_them() {
    let folder = scratch();
    let (entries, block) = (20_000u32, 1 << 31);
    let vhd = Vhd::dynamic(u64::from(entries) * u64::from(block), block);
    let mut file = vhd.build();
    let first = (file.len() / 512) as u32;
    for n in 0..entries {
        file[1536 + n as usize * 4..][..4].copy_from_slice(&(first + n).to_be_bytes());
    }
    let (end, footer) = (file.len() - 512, file[..512].to_vec());
    file.truncate(end);
    file.resize(end + (entries as usize + 2048) * 512, 0);
    file.extend(footer);
    fs::write(folder.path().join("a.vhd"), file).unwrap();
    let ran = check(folder.path(), "a.vhd");
    assert!(ran.status == Some(1) && ran.out.contains("VHD-BAT-OVERLAP error"), "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("too many to look at sector bitmaps"), "{}", ran.out);
}

#[test]
fn a_line_of_megabytes_in_a_descriptor_costs_no_message_of_megabytes() {
    let folder = scratch();
    let long = |piece: &str| piece.repeat((15 << 20) / piece.len());
    let lines = [
        format!("RW 8 FLAT \"{}\" 0", long("y")),
        format!("RW 8 FLAT {}", long("\u{1b}")),
        format!("RW {} FLAT \"a\" 0", long("9")),
        format!("R 8 FLAT {}", long("a=")),
    ];
    for line in lines {
        fs::write(folder.path().join("a.vmdk"), descriptor("custom", 7, None, &line)).unwrap();
        let ran = check(folder.path(), "a.vmdk");
        assert_eq!(ran.status, Some(1), "{:.200}", ran.err);
        let told = ran.out.len() + ran.err.len();
        assert!((50..64 << 10).contains(&told), "{told} bytes: {:.200}", ran.out);
    }
}

#[test]
#[ignore = "writes tables of 128 MiB"]
fn thirty_two_million_grains_are_held_against_each_other_in_256_mib() {
    let folder = scratch();
    let grains: u64 = 32_000_000;
    let sectors = grains * 128;
    let text = descriptor("monolithicSparse", 7, None, &format!("RW {sectors} SPARSE \"x\""));
    let sparse = Sparse { capacity: sectors, flags: 1, descriptor: text, grains: Vec::new(), ..Sparse::of(&[1; 512]) };
    let mut head = sparse.build();
    let (entry, overhead) = (sparse.entry_at(sparse.gd(), 0), sparse.overhead());
    for n in 0..grains {
        let place = (overhead + n * 128) as u32;
        head[entry + n as usize * 4..][..4].copy_from_slice(&place.to_le_bytes());
    }
    let mut file = fs::File::create(folder.path().join("a.vmdk")).unwrap();
    file.write_all(&head).unwrap();
    file.set_len((overhead + sectors) * 512).unwrap();
    let ran = check_within(folder.path(), "a.vmdk", Duration::from_secs(120));
    assert_eq!((ran.status, ran.out.as_str()), (Some(0), "a.vmdk: sound (VMDK)\n"), "{}", ran.err);
    // The last one at the place of the first.
    file.write_all_at(&(overhead as u32).to_le_bytes(), entry as u64 + (grains - 1) * 4).unwrap();
    let ran = check_within(folder.path(), "a.vmdk", Duration::from_secs(120));
    assert!(ran.status == Some(1) && ran.out.contains("VMDK-GTE-OVERLAP error"), "{}{}", ran.out, ran.err);
}
