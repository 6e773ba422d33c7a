//! What `info` costs on the largest image of each kind: a look at a few places, whatever the image's size and however full its tables.
#![cfg(unix)]

mod common;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use common::judge::sparse_raw;
use common::process::{may_trace, reads};
use common::vhd::Vhd;
use common::vmdk::descriptor;
use common::{run, scratch, skipped};

/// Bytes of the image's files that may be read.
const MOST_READ: u64 = 2 << 20;
/// Kibibytes of memory of its own that the program may have.
const MOST_MEMORY: u64 = 32 << 10;

/// Bytes that `info` reads of `name`, within its memory.
#[track_caller]
fn read_by_info(folder: &Path, name: &str) -> u64 {
    let script = format!("ulimit -d {MOST_MEMORY} && exec \"$0\" info -q \"$1\"");
    let (ran, reads) = reads(folder, &["sh", "-c", &script, env!("CARGO_BIN_EXE_vdconv"), name]);
    assert_eq!(ran.status, Some(0), "{name}: {}", ran.err);
    assert!(ran.out.contains("  boot  "), "{name}: {}", ran.out);
    reads.into_iter().sum()
}

#[track_caller]
fn is_cheap(folder: &Path, name: &str) {
    let read = read_by_info(folder, name);
    println!("{name}: {read} bytes");
    assert!((512..MOST_READ).contains(&read), "{name}: {read} bytes");
}

/// A dynamic VHD of 2040 GiB with every block allocated: a table of up to 16 MiB, and holes for the blocks.
fn full_vhd(path: &Path, block_size: u32) -> bool {
    let vhd = Vhd::dynamic(2040 << 30, block_size);
    let unit = (u64::from(block_size) + vhd.bitmap_len() as u64) / 512;
    let first = vhd.first_block() as u64 / 512;
    let table: Vec<u8> =
        (0..u64::from(vhd.entries())).flat_map(|n| u32::try_from(first + n * unit).unwrap().to_be_bytes()).collect();
    let file = File::create(path).unwrap();
    let end = (first + u64::from(vhd.entries()) * unit) * 512;
    if file.set_len(end + 512).is_err() {
        skipped("the temporary folder takes no files of 2 TiB");
        return false;
    }
    for (at, bytes) in
        [(0, vhd.footer().to_vec()), (512, vhd.header().to_vec()), (1536, table), (end, vhd.footer().to_vec())]
    {
        file.write_all_at(&bytes, at).unwrap();
    }
    true
}

#[test]
fn info_of_a_vhd_of_2040_gib_with_a_full_table_reads_little() {
    if !may_trace() {
        return;
    }
    let f = scratch();
    for block_size in [512 << 10, 2 << 20] {
        if full_vhd(&f.path().join("a.vhd"), block_size) {
            is_cheap(f.path(), "a.vhd");
        }
    }
}

#[test]
fn info_of_vmdks_of_2_tib_reads_little() {
    if !may_trace() {
        return;
    }
    let f = scratch();
    let size = (2 << 40) - (64 << 20);
    if File::create(f.path().join("a.raw")).unwrap().set_len(size).is_err() {
        return skipped("the temporary folder takes no files of 2 TiB");
    }
    sparse_raw(&f.path().join("a.raw"), size, &[0, 300 << 30, size - 512]);
    for kind in ["sparse", "stream", "vmfsThin", "twoGbMaxExtentSparse"] {
        fs::create_dir(f.path().join(kind)).unwrap();
        let name = format!("{kind}/o.vmdk");
        run(f.path(), ["a.raw", &name, "-s", kind, "--no-sync"]).succeeds();
        is_cheap(f.path(), &name);
    }
}

#[test]
fn info_of_15_tib_in_a_row_reads_little() {
    if !may_trace() {
        return;
    }
    let f = scratch();
    let size = 15 << 40;
    if File::create(f.path().join("a.raw")).unwrap().set_len(size).is_err() {
        return skipped("the temporary folder takes no files of 15 TiB");
    }
    sparse_raw(&f.path().join("a.raw"), size, &[0, 7 << 40, size - 512]);
    let text = descriptor("monolithicFlat", 7, None, &format!("RW {} FLAT \"a.raw\" 0", size / 512));
    fs::write(f.path().join("a.vmdk"), text).unwrap();
    for name in ["a.raw", "a.vmdk"] {
        is_cheap(f.path(), name);
    }
}
