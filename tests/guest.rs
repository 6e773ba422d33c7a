//! What `info` tells of the guest: its partitions, file systems and boot; and that it reads little, whatever the tables say.

mod common;

use std::fs;
use std::path::Path;

use common::vhd::Vhd;
use common::{fixture, run, scratch};
use serde_json::Value;

/// An MBR with an active partition from sector 64 on, and boot code.
fn mbr(sectors: u32) -> Vec<u8> {
    let mut disk = vec![0; sectors as usize * 512];
    disk[..3].copy_from_slice(&[0xFA, 0x33, 0xC0]);
    disk[440..444].copy_from_slice(&[0x78, 0x56, 0x34, 0x12]);
    disk[446] = 0x80;
    disk[450] = 7;
    disk[454..458].copy_from_slice(&64u32.to_le_bytes());
    disk[458..462].copy_from_slice(&(sectors - 64).to_le_bytes());
    disk[510..512].copy_from_slice(&[0x55, 0xAA]);
    let boot = &mut disk[64 * 512..65 * 512];
    boot[..11].copy_from_slice(b"\xEB\x52\x90NTFS    ");
    boot[11..13].copy_from_slice(&512u16.to_le_bytes());
    boot[40..48].copy_from_slice(&u64::from(sectors - 65).to_le_bytes());
    disk
}

fn info(folder: &Path, name: &str) -> Value {
    let ran = run(folder, ["info", "--json", name]);
    let report: Value = serde_json::from_str(&ran.out).unwrap();
    report["images"][0].clone()
}

#[test]
fn info_tells_partitions_file_systems_boot_and_the_adapter_of_a_vhd() {
    let folder = scratch();
    fs::write(folder.path().join("a.vhd"), Vhd::dynamic_of(&mbr(20_000), 2 << 20).build()).unwrap();
    let ran = run(folder.path(), ["info", "a.vhd"]).succeeds();
    for line in [
        "  partitions    MBR, disk id 12345678\n",
        "                1  at 32.0 KiB, 9.7 MiB  NTFS or exFAT, active: NTFS\n",
        "  boot          BIOS: boot code in the MBR, partition 1 is active\n",
        "  advice        Windows boots from the controller",
    ] {
        assert!(ran.out.contains(line), "no {line:?} in\n{}", ran.out);
    }
    let image = info(folder.path(), "a.vhd");
    assert_eq!(image["partition_table"]["kind"], "mbr");
    let partition = &image["partitions"][0];
    assert_eq!((&partition["start"], &partition["length"]), (&32_768.into(), &((20_000u64 - 64) * 512).into()));
    assert_eq!((&partition["type"], &partition["file_system"]), (&"07".into(), &"ntfs".into()));
    assert_eq!(image["boot"]["kind"], "bios");
    assert!(image["advice"][0].as_str().unwrap().contains("--adapter ide"));
}

#[test]
fn file_systems_without_a_table_are_named_in_what_others_wrote() {
    for (name, word) in [("ext2-dynamic.vhd", "ext2"), ("ntfs-fixed.vhd", "ntfs")] {
        let image = info(&fixture("vhd"), name);
        let found = (&image["file_system"], &image["partition_table"]["kind"]);
        let partition = &image["partitions"][0]["file_system"];
        assert!(found == (&word.into(), &"none".into()) || partition == word, "{name}: {image}");
    }
    let image = info(&fixture("iso"), "xorriso-hybrid.iso");
    assert_eq!((&image["file_system"], &image["label"]), (&"iso9660".into(), &"FIXTURE".into()));
    assert_eq!(image["boot"]["kind"], "bios");
}

#[test]
fn a_partition_that_the_image_lost_the_end_of_is_told() {
    let folder = scratch();
    fs::write(folder.path().join("a.raw"), &mbr(20_000)[..19_000 * 512]).unwrap();
    let image = info(folder.path(), "a.raw");
    let advice = image["advice"].to_string();
    assert!(advice.contains("partition 1 ends 512000 bytes behind the disk's end"), "{advice}");
}

#[test]
fn a_guest_that_cannot_be_read_is_told_and_info_goes_on() {
    let folder = scratch();
    // A block that lies outside the file: what the guest has in its first 2 MiB is lost.
    let mut image = Vhd::dynamic_of(&mbr(20_000), 2 << 20).build();
    image[1536..1540].copy_from_slice(&0x00FF_FFFFu32.to_be_bytes());
    fs::write(folder.path().join("a.vhd"), image).unwrap();
    let ran = run(folder.path(), ["info", "a.vhd"]);
    assert_eq!(ran.status, Some(0), "{}", ran.err);
    assert!(ran.out.contains("  not read      a.vhd: at byte 1536: "), "{}", ran.out);
    let image = info(folder.path(), "a.vhd");
    assert_eq!((&image["unread"][0]["offset"], &image["partition_table"]["kind"]), (&1536.into(), &"unread".into()));
}

#[test]
fn labels_cannot_talk_to_the_terminal() {
    let folder = scratch();
    let mut disk = vec![0; 1 << 20];
    disk[1080..1082].copy_from_slice(&[0x53, 0xEF]);
    disk[1024 + 0x78..1024 + 0x78 + 8].copy_from_slice(b"a\x1b[31mb\n");
    fs::write(folder.path().join("a.raw"), disk).unwrap();
    let ran = run(folder.path(), ["info", "a.raw"]).succeeds();
    assert!(ran.out.contains("ext2 \"a\\u{1b}[31mb\"") && !ran.out.contains('\x1b'), "{}", ran.out);
    assert!(!run(folder.path(), ["info", "--json", "a.raw"]).out.contains('\x1b'));
}

/// Sparse files of two tebibytes.
#[cfg(unix)]
mod large {
    use std::os::unix::fs::FileExt;

    use vdconv::format::{self, OpenOptions};
    use vdconv::guest;
    use vdconv::io::Gate;

    use super::*;

    /// Bytes of an image's files that are read to look into its guest.
    fn looked_at(path: &Path) -> (u64, usize) {
        let disk = format::open(&mut Gate::new(), path, &OpenOptions::default()).unwrap();
        let read = || disk.files().iter().map(|file| file.bytes_read()).sum::<u64>();
        let before = read();
        let guest = guest::look(&disk);
        (read() - before, guest.partitions.len())
    }

    #[test]
    fn looking_into_two_tebibytes_reads_little() {
        let folder = scratch();
        let raw = folder.path().join("a.raw");
        let file = fs::File::create(&raw).unwrap();
        file.set_len(2040 << 30).unwrap();
        // As full of partitions as a table can be, all over the disk.
        let mut table = mbr(20_000);
        table[462..478].copy_from_slice(&[0, 0, 0, 0, 0xF, 0, 0, 0, 100, 0, 0, 0, 0, 0, 0, 0xFF]);
        FileExt::write_all_at(&file, &table[..512], 0).unwrap();
        for n in 0..200u64 {
            let mut link = vec![0u8; 512];
            (link[450], link[458], link[454]) = (0x83, 200, 1);
            link[466] = 5;
            link[470..474].copy_from_slice(&((n as u32 + 1) * 20_000_000).to_le_bytes());
            link[474] = 1;
            link[510..512].copy_from_slice(&[0x55, 0xAA]);
            FileExt::write_all_at(&file, &link, (100 + n * 20_000_000) * 512).unwrap();
        }
        for name in ["a.raw", "a.vhd", "a.vmdk", "s.vmdk"] {
            if name != "a.raw" {
                let kind = if name == "s.vmdk" {
                    "stream"
                } else if name == "a.vhd" {
                    "dynamic"
                } else {
                    "sparse"
                };
                run(folder.path(), ["a.raw", name, "--no-sync", "-s", kind]).succeeds();
            }
            let (read, partitions) = looked_at(&folder.path().join(name));
            println!("{name}: {read} bytes, {partitions} partitions");
            // What is packed is unpacked up to a limit; a table of 4 MiB is looked through once.
            assert!(partitions > if name == "s.vmdk" { 60 } else { 120 }, "{name}: {partitions}");
            assert!(read < 8 << 20, "{name}: {read} bytes read");
        }
    }
}

/// EFI system partitions that mkfs.fat made and mtools filled.
#[cfg(unix)]
mod efi_system {
    use std::process::Command;

    use common::has_programs;
    use common::judge::tool;

    use super::*;

    /// A disk with one EFI system partition, from byte 1 MiB to its end, of FAT with entries of `bits` bits and these files.
    fn disk(folder: &Path, bits: u32, mebibytes: u64, files: &[&str]) -> Value {
        let (part, loader) = (folder.join("part"), folder.join("loader"));
        fs::File::create(&part).unwrap().set_len(mebibytes << 20).unwrap();
        fs::write(&loader, vec![0x4D; 70_000]).unwrap();
        tool(Command::new("mkfs.fat").args(["-F", &bits.to_string()]).arg(&part));
        let mut made: Vec<String> = Vec::new();
        for file in files {
            for (at, _) in file.match_indices('/') {
                if !made.iter().any(|folder| *folder == file[..at]) {
                    made.push(file[..at].to_string());
                    tool(Command::new("mmd").arg("-i").arg(&part).arg(format!("::{}", &file[..at])));
                }
            }
            tool(Command::new("mcopy").arg("-i").arg(&part).arg(&loader).arg(format!("::{file}")));
        }
        let mut bytes = vec![0; 1 << 20];
        bytes[450] = 0xEF;
        bytes[454..458].copy_from_slice(&2048u32.to_le_bytes());
        bytes[458..462].copy_from_slice(&((mebibytes << 11) as u32).to_le_bytes());
        bytes[510..512].copy_from_slice(&[0x55, 0xAA]);
        bytes.extend(fs::read(&part).unwrap());
        fs::write(folder.join("a.raw"), bytes).unwrap();
        info(folder, "a.raw")
    }

    #[test]
    #[ignore = "needs mkfs.fat and mtools"]
    fn loaders_in_what_mkfs_fat_and_mtools_wrote_are_found() {
        if !has_programs(&["mkfs.fat", "mcopy"]) {
            return;
        }
        let folder = scratch();
        // More in the folder than a cluster has room for, long names in front.
        let crowd: Vec<String> = (0..60).map(|n| format!("EFI/BOOT/another long name of a file {n}")).collect();
        let mut many: Vec<&str> = crowd.iter().map(String::as_str).collect();
        many.extend(["EFI/BOOT/bootx64.efi", "EFI/Microsoft/Boot/bootmgfw.efi"]);
        for (bits, size, word) in [(12, 12, "fat12"), (16, 40, "fat16"), (32, 48, "fat32")] {
            for (files, fallback, windows) in [
                (&["EFI/BOOT/BOOTX64.EFI", "EFI/debian/grubx64.efi"][..], &["x64"][..], false),
                (&many, &["x64"], true),
                (&["EFI/debian/grubx64.efi"], &[], false),
                (&[], &[], false),
                (&["efi/boot/BootAA64.efi"], &["ARM64"], false),
            ] {
                let image = disk(folder.path(), bits, size, files);
                let partition = &image["partitions"][0];
                assert_eq!(partition["file_system"], word);
                let want = serde_json::json!({ "fallback": fallback, "windows": windows });
                assert_eq!(partition["loaders"], want, "{word} {files:?}");
                let told = image["advice"].to_string().contains("partition 1: no EFI/BOOT/BOOT*.EFI");
                assert_eq!((told, &image["boot"]["kind"]), (fallback.is_empty(), &"efi".into()), "{image}");
            }
        }
    }
}

/// Disks that the tools of Linux partition, held against what sfdisk reads.
#[cfg(unix)]
mod recipes {
    use std::process::{Command, Stdio};

    use common::has_programs;
    use common::judge::tool;

    use super::*;

    const SIZE: u64 = 64 << 20;

    /// Runs a program on the disk, with these answers on its standard input.
    fn make(disk: &Path, program: &str, args: &[&str], answers: &str) {
        let mut command = Command::new(program);
        let child = command.args(args).arg(disk).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = child.spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), answers.as_bytes()).unwrap();
        // It fails to tell the kernel of what is no device.
        child.wait().unwrap();
    }

    fn fresh(disk: &Path) {
        fs::File::create(disk).unwrap().set_len(SIZE).unwrap();
    }

    /// Start, length and type of each partition, as sfdisk reads them.
    fn judged(disk: &Path) -> Vec<(u64, u64, String)> {
        let report: Value = serde_json::from_str(&tool(Command::new("sfdisk").arg("--json").arg(disk))).unwrap();
        let number = |value: &Value| value.as_u64().unwrap() * 512;
        let partitions = report["partitiontable"]["partitions"].as_array().unwrap().iter();
        partitions.map(|p| (number(&p["start"]), number(&p["size"]), kind(p["type"].as_str().unwrap()))).collect()
    }

    fn ours(image: &Value) -> Vec<(u64, u64, String)> {
        let number = |value: &Value| value.as_u64().unwrap();
        let partitions = image["partitions"].as_array().unwrap().iter();
        partitions.map(|p| (number(&p["start"]), number(&p["length"]), kind(p["type"].as_str().unwrap()))).collect()
    }

    fn kind(text: &str) -> String {
        text.trim_start_matches('0').to_ascii_lowercase()
    }

    /// What info says of the disk, whose table and boot must be these.
    #[track_caller]
    fn looked_at(disk: &Path, table: &str, boot: &str, advice: &[&str]) -> Value {
        let image = info(disk.parent().unwrap(), "a.raw");
        assert_eq!(
            (&image["partition_table"]["kind"], &image["boot"]["kind"]),
            (&table.into(), &boot.into()),
            "{image}"
        );
        let told = image["advice"].as_array().unwrap();
        assert_eq!(told.len(), advice.len(), "{told:?}");
        for (told, text) in told.iter().zip(advice) {
            assert!(told.as_str().unwrap().contains(text), "{told}");
        }
        image
    }

    #[test]
    #[ignore = "needs sgdisk and sfdisk"]
    fn gpts_of_sgdisk_whole_grown_and_cut_are_told() {
        if !has_programs(&["sgdisk", "sfdisk"]) {
            return;
        }
        let folder = scratch();
        let disk = folder.path().join("a.raw");
        let resize = |len: u64| fs::File::options().write(true).open(&disk).unwrap().set_len(len).unwrap();
        fresh(&disk);
        make(&disk, "sgdisk", &["-o", "-n", "1:2048:+8M", "-t", "1:EF00", "-n", "2:0:0"], "");
        let want = judged(&disk);
        assert_eq!(want.len(), 2);
        assert_eq!(ours(&looked_at(&disk, "gpt", "efi", &[])), want);
        resize(SIZE + (16 << 20));
        assert_eq!(ours(&looked_at(&disk, "gpt", "efi", &["16777216 bytes smaller"])), want);
        resize(SIZE - 8192);
        assert_eq!(ours(&looked_at(&disk, "gpt", "efi", &["8192 bytes are missing"])), want);
        resize(SIZE - (1 << 20));
        let behind = want[1].0 + want[1].1 - (SIZE - (1 << 20));
        let behind = format!("partition 2 ends {behind} bytes behind");
        assert_eq!(ours(&looked_at(&disk, "gpt", "efi", &["1048576 bytes are missing", &behind])), want);
        fresh(&disk);
        make(
            &disk,
            "sgdisk",
            &["-o", "-n", "1:2048:+1M", "-t", "1:EF02", "-n", "2:0:+8M", "-t", "2:EF00", "-n", "3:0:0"],
            "",
        );
        let want = judged(&disk);
        assert_eq!((want.len(), ours(&looked_at(&disk, "gpt", "either", &[]))), (3, want.clone()));
        make(&disk, "sgdisk", &["-h", "1:2"], "");
        let image = looked_at(&disk, "gpt", "either", &[]);
        assert_eq!((&image["partition_table"]["hybrid_mbr"], ours(&image)), (&true.into(), want));
    }

    #[test]
    #[ignore = "needs fdisk and sfdisk"]
    fn tables_of_fdisk_for_large_sectors_and_with_logical_partitions_are_told() {
        if !has_programs(&["fdisk", "sfdisk"]) {
            return;
        }
        let folder = scratch();
        let disk = folder.path().join("a.raw");
        fresh(&disk);
        make(&disk, "fdisk", &["-b", "4096"], "g\nn\n1\n256\n1279\nt\n1\nn\n2\n1280\n3327\nw\n");
        let image = looked_at(&disk, "gpt", "efi", &["made for sectors of 4096 bytes"]);
        let places: Vec<_> = ours(&image).into_iter().map(|(start, len, _)| (start, len)).collect();
        assert_eq!(places, [(1 << 20, 4 << 20), (5 << 20, 8 << 20)]);
        fresh(&disk);
        let script = "label: dos\nstart=2048,size=16384,type=83,bootable\nstart=18432,size=112640,type=f\n\
                      start=20480,size=20480,type=83\nstart=43008,size=10240,type=82\n";
        make(&disk, "sfdisk", &["-q"], script);
        let want = judged(&disk);
        assert_eq!((want.len(), ours(&looked_at(&disk, "mbr", "unknown", &[]))), (4, want));
    }

    /// What blkid names the content of the whole disk.
    fn named(disk: &Path) -> String {
        tool(Command::new("blkid").args(["-p", "-o", "value", "-s", "TYPE"]).arg(disk)).trim().to_string()
    }

    /// A GPT with an EFI system partition, whose end outlives what is written over its beginning.
    fn old_gpt(disk: &Path) {
        fresh(disk);
        make(disk, "sgdisk", &["-n", "1:2048:+20M", "-t", "1:EF00", "-n", "2:0:0"], "");
    }

    const NO_REPAIR: &str = "do not let a partitioning program repair that GPT";

    #[test]
    #[ignore = "needs sgdisk, sfdisk, blkid, mkswap, mkfs.fat and mkfs.ext4"]
    fn what_was_written_over_a_gpt_is_what_sfdisk_and_blkid_say() {
        if !has_programs(&["sgdisk", "sfdisk", "blkid", "mkswap", "mkfs.fat", "mkfs.ext4"]) {
            return;
        }
        let folder = scratch();
        let (disk, other) = (folder.path().join("a.raw"), folder.path().join("b.raw"));
        let script = "label: dos\nstart=2048,size=40960,type=7,bootable\nstart=43008,size=20480,type=83\n";
        // The image of another disk over its beginning.
        old_gpt(&disk);
        fresh(&other);
        make(&other, "sfdisk", &["-q"], script);
        let file = fs::File::options().write(true).open(&disk).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &fs::read(&other).unwrap()[..2 << 20], 0).unwrap();
        let image = looked_at(&disk, "mbr", "unknown", &[NO_REPAIR]);
        assert_eq!((ours(&image), &image["partition_table"]["hybrid_mbr"]), (judged(&disk), &false.into()));
        let map = run(folder.path(), ["map", "--picture", "a.raw"]).succeeds();
        assert!(map.out.contains("1 NTFS or exFAT, active, 20.0 MiB") && !map.out.contains("EFI"), "{}", map.out);
        // An MBR beside both copies.
        old_gpt(&disk);
        make(&disk, "sfdisk", &["-q", "--wipe", "never"], script);
        assert_eq!(ours(&looked_at(&disk, "mbr", "unknown", &[NO_REPAIR])), judged(&disk));
        for (program, args, boot, words) in [
            ("mkswap", &["-f"][..], "unknown", ["swap", "swap"]),
            ("mkfs.fat", &["-I"], "bios", ["vfat", "fat16"]),
            ("mkfs.ext4", &["-q", "-F"], "unknown", ["ext4", "ext4"]),
        ] {
            old_gpt(&disk);
            make(&disk, program, args, "");
            // mke2fs clears the end, too.
            let advice: &[&str] = if program == "mkfs.ext4" { &[] } else { &[NO_REPAIR] };
            let image = looked_at(&disk, "none", boot, advice);
            assert_eq!([named(&disk), image["file_system"].as_str().unwrap().into()], words, "{program}");
        }
        // And where a GPT is guarded, its end alone counts.
        old_gpt(&disk);
        let want = judged(&disk);
        let file = fs::File::options().write(true).open(&disk).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &[0; 512], 512).unwrap();
        assert_eq!(judged(&disk), want);
        assert_eq!(ours(&looked_at(&disk, "gpt", "efi", &["repair it in the machine"])), want);
    }

    #[test]
    #[ignore = "needs sgdisk and sfdisk"]
    fn logical_partitions_in_any_order_and_large_arrays_are_what_sfdisk_says() {
        if !has_programs(&["sgdisk", "sfdisk"]) {
            return;
        }
        let folder = scratch();
        let disk = folder.path().join("a.raw");
        fresh(&disk);
        let script = "label: dos\nstart=2048,size=2048,type=83\nstart=6144,size=120000,type=f\n\
                      start=8192,size=2048,type=83\nstart=60000,size=2048,type=83\nstart=40000,size=2048,type=82\n";
        make(&disk, "sfdisk", &["-q"], script);
        let want = judged(&disk);
        assert_eq!((want.len(), ours(&looked_at(&disk, "mbr", "unknown", &[]))), (5, want));
        fresh(&disk);
        make(&disk, "sgdisk", &["-S", "4096"], "");
        make(&disk, "sgdisk", &["-n", "1:0:+4M", "-n", "3000:0:+4M", "-t", "3000:EF00"], "");
        let want = judged(&disk);
        let image = looked_at(&disk, "gpt", "efi", &[]);
        assert_eq!((want.len(), ours(&image), &image["partitions"][1]["number"]), (2, want, &3000.into()));
        fresh(&disk);
        make(&disk, "sgdisk", &["-S", "16384"], "");
        make(&disk, "sgdisk", &["-n", "1:0:+4M", "-n", "12000:0:+4M", "-t", "12000:EF00"], "");
        let image = looked_at(&disk, "gpt", "unknown", &["room for 16384 partitions, and 4096 entries were looked at"]);
        assert_eq!(image["partition_table"]["primary"], "unchecked");
    }

    /// A superblock of Linux RAID, version 1, in this sector, of a member of so many sectors.
    fn raid_superblock(sector: u64, sectors: u64, data: u64) -> Vec<u8> {
        let mut raw = vec![0; 256];
        let mut put = |at: usize, bytes: &[u8]| raw[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, b"\xFC\x4E\x2B\xA9\x01");
        put(16, &[7; 16]); // the set
        put(32, b"host:0");
        put(0x48, &1u64.to_le_bytes()); // a mirror
        put(0x50, &(sectors - 4096).to_le_bytes());
        put(0x5C, &2u32.to_le_bytes());
        put(0x80, &data.to_le_bytes());
        put(0x88, &(sectors - 4096).to_le_bytes());
        put(0x90, &sector.to_le_bytes());
        put(0xDC, &1u32.to_le_bytes());
        let word = |raw: &[u8]| u64::from(u32::from_le_bytes(raw.try_into().unwrap()));
        let sum: u64 = raw.chunks(4).map(word).sum();
        let folded = ((sum & 0xFFFF_FFFF) + (sum >> 32)) as u32;
        raw[0xD8..0xDC].copy_from_slice(&folded.to_le_bytes());
        raw
    }

    #[test]
    #[ignore = "needs blkid and mkfs.ext4"]
    fn members_of_a_raid_in_which_a_file_system_shows_through_are_what_blkid_says() {
        if !has_programs(&["blkid", "mkfs.ext4"]) {
            return;
        }
        let folder = scratch();
        let disk = folder.path().join("a.raw");
        for (sector, data) in [(8, 2048), (SIZE / 512 - 16, 0)] {
            fresh(&disk);
            make(&disk, "mkfs.ext4", &["-q", "-F"], "");
            assert_eq!(named(&disk), "ext4");
            let file = fs::File::options().write(true).open(&disk).unwrap();
            let superblock = raid_superblock(sector, SIZE / 512, data);
            std::os::unix::fs::FileExt::write_all_at(&file, &superblock, sector * 512).unwrap();
            let image = looked_at(&disk, "none", "unknown", &[]);
            assert_eq!((named(&disk), &image["file_system"]), ("linux_raid_member".into(), &"linux_raid".into()));
        }
    }

    #[test]
    #[ignore = "needs sfdisk, blkid and mkfs.fat"]
    fn where_sfdisk_and_blkid_see_different_things_both_are_told() {
        if !has_programs(&["sfdisk", "blkid", "mkfs.fat"]) {
            return;
        }
        let folder = scratch();
        let disk = folder.path().join("a.raw");
        fresh(&disk);
        make(&disk, "mkfs.fat", &["-I"], "");
        make(&disk, "sfdisk", &["-q", "--wipe", "never"], ",,c,*\n");
        let image = looked_at(&disk, "mbr", "bios", &["lists partitions too"]);
        assert_eq!((ours(&image), named(&disk)), (judged(&disk), "vfat".into()));
        assert_eq!(image["file_system"], "fat16");
    }

    #[test]
    #[ignore = "needs xorriso and mkfs.fat"]
    fn a_hybrid_disc_whose_mbr_guards_no_gpt_is_no_reason_to_worry() {
        if !has_programs(&["xorriso", "mkfs.fat"]) {
            return;
        }
        let folder = scratch();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("tree")).unwrap();
        fs::File::create(path("tree/efi.img")).unwrap().set_len(1440 << 10).unwrap();
        tool(Command::new("mkfs.fat").arg(path("tree/efi.img")));
        fs::write(path("tree/bios.bin"), vec![0x90; 4096]).unwrap();
        // Any code: xorriso wants 432 bytes of it.
        fs::write(path("mbr.bin"), vec![0x90; 432]).unwrap();
        let args = "-as mkisofs -quiet -o a.iso -isohybrid-mbr mbr.bin -b bios.bin -c boot.cat -no-emul-boot -boot-load-size 4 \
                    -boot-info-table -eltorito-alt-boot -e efi.img -no-emul-boot -isohybrid-gpt-basdat tree";
        tool(Command::new("xorriso").current_dir(folder.path()).args(args.split_whitespace()));
        let image = info(folder.path(), "a.iso");
        assert_eq!((&image["partition_table"]["kind"], &image["boot"]["kind"]), (&"gpt".into(), &"either".into()));
        assert_eq!(
            (&image["partition_table"]["protective_mbr"], &image["advice"]),
            (&false.into(), &serde_json::json!([]))
        );
        // Written to a disk that had a GPT before, it is the same, and the copy at that disk's end nobody's.
        let stick = path("stick.raw");
        fs::File::create(&stick).unwrap().set_len(SIZE).unwrap();
        make(&stick, "sgdisk", &["-n", "1:2048:+20M", "-t", "1:EF00", "-n", "2:0:0"], "");
        let file = fs::File::options().write(true).open(&stick).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &fs::read(path("a.iso")).unwrap(), 0).unwrap();
        let written = info(folder.path(), "stick.raw");
        assert_eq!((&written["partitions"], &written["boot"]), (&image["partitions"], &image["boot"]));
        // A disk with the same table is one that Linux finds no partitions on.
        fs::write(path("b.raw"), fs::read(path("a.iso")).unwrap()).unwrap();
        let ran = run(folder.path(), ["info", "-f", "raw", "b.raw"]);
        assert!(ran.out.contains("the MBR does not guard the GPT"), "{}", ran.out);
    }
}
