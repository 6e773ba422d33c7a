//! One guest in every kind of image that can be read.

use std::fs;
use std::path::Path;

use super::packed::{Stream, marker, tables_in_front};
use super::vhd::Vhd;
use super::vmdk::{Sparse, descriptor};

/// Every kind that can be read, as files of `folder`: the names to give.
pub fn sources(folder: &Path, guest: &[u8]) -> Vec<&'static str> {
    let sectors = guest.len() as u64 / 512;
    let put = |name: &str, bytes: &[u8]| fs::write(folder.join(name), bytes).unwrap();
    put("s.raw", guest);
    put("dynamic.vhd", &Vhd::dynamic_of(guest, 512 << 10).build());
    put("fixed.vhd", &Vhd::fixed_of(guest).build());
    let base = Vhd::dynamic_of(&vec![0x3C; guest.len()], 2 << 20);
    let mut child = Vhd::child_of(&base, guest, 2 << 20, |_| true);
    child.parent_name = "under.vhd".into();
    put("under.vhd", &base.build());
    put("child.vhd", &child.build());
    put("sparse.vmdk", &Sparse::of(guest).build());
    put("stream.vmdk", &Stream::of(guest).build());
    put("front.vmdk", &tables_in_front(guest, marker));
    let half = sectors / 2;
    let lines = format!("RW {half} FLAT \"s.raw\" 0\nRW {} FLAT \"s.raw\" {half}", sectors - half);
    put("flat.vmdk", descriptor("twoGbMaxExtentFlat", 1, None, &lines).as_bytes());
    put("vmfs.vmdk", descriptor("vmfs", 1, None, &format!("RW {sectors} VMFS \"s.raw\"")).as_bytes());
    let mut all = vec!["s.raw", "dynamic.vhd", "fixed.vhd", "child.vhd", "sparse.vmdk", "stream.vmdk", "vmfs.vmdk"];
    // Each half needs a sector.
    all.extend((half > 0).then_some("flat.vmdk"));
    all.push("front.vmdk");
    all
}
