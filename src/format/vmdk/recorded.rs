//! What a descriptor records besides the data: what `info` tells, and writers of other formats take over.

use super::extent::ExtentLine;
use super::parse::Parsed;
use crate::image::{Creator, Extent, Facts, Geometry, SECTOR};

/// The types of VMware's hosted products, as products write them.
pub const HOSTED: [&str; 6] = [
    "monolithicSparse",
    "monolithicFlat",
    "twoGbMaxExtentSparse",
    "twoGbMaxExtentFlat",
    "2GbMaxExtentSparse",
    "2GbMaxExtentFlat",
];
/// All others; what an image calls itself otherwise is shown as `custom`.
const OTHERS: [&str; 12] = [
    "streamOptimized",
    "vmfs",
    "vmfsPreallocated",
    "vmfsEagerZeroedThick",
    "vmfsThin",
    "vmfsThick",
    "vmfsSparse",
    "seSparse",
    "fullDevice",
    "partitionedDevice",
    "vmfsRaw",
    "custom",
];
/// Keys that have a place of their own among the facts.
const SHOWN: [&str; 4] = ["CID", "createType", "ddb.adapterType", "ddb.geometry"];
/// Extents that are listed; hostile descriptors name millions.
const MOST_EXTENTS: usize = 10_000;

/// The facts of a disk of `len` bytes that this descriptor describes.
pub fn facts(descriptor: &Parsed, len: u64) -> Facts {
    let said = |key: &str| descriptor.said(key);
    let number = |key: &str| said(key).and_then(|text| text.parse().ok());
    let create_type = said("createType").unwrap_or_default();
    let geometry = number("ddb.geometry.cylinders")
        .zip(number("ddb.geometry.heads"))
        .zip(number("ddb.geometry.sectors"))
        .map(|((cylinders, heads), sectors)| Geometry { cylinders, heads, sectors });
    Facts {
        subformat: HOSTED
            .iter()
            .chain(&OTHERS)
            .find(|known| known.eq_ignore_ascii_case(create_type))
            .copied()
            .unwrap_or("custom"),
        uuid: descriptor.uuid("ddb.uuid.image"),
        cid: descriptor.cid("CID"),
        geometry,
        adapter: said("ddb.adapterType").and_then(|word| word.parse().ok()),
        creator: product(descriptor).map(|product| Creator { product: Some(product), ..Creator::default() }),
        recorded: descriptor
            .recorded()
            .filter(|(key, _)| !SHOWN.iter().any(|shown| key.starts_with(shown)))
            .map(|(key, value)| (key, value.to_string()))
            .collect(),
        extents: descriptor.extents.iter().take(MOST_EXTENTS).map(extent).collect(),
        extent_count: descriptor.extents.len() as u64,
        ..Facts::new(super::FORMAT.name, super::FORMAT.title, len)
    }
}

fn extent(line: &ExtentLine) -> Extent {
    Extent {
        access: line.access.word(),
        kind: line.kind.word(),
        len: line.sectors.saturating_mul(SECTOR),
        file: line.file.clone(),
        offset: line.offset.saturating_mul(SECTOR),
    }
}

/// Who wrote a descriptor, by the marks that it leaves: no field says so.
fn product(descriptor: &Parsed) -> Option<&'static str> {
    let has = |key: &str| descriptor.said(key).is_some();
    if descriptor.first_line.contains("created by VMDK stream converter") {
        return Some("VMDK stream converter");
    }
    // VirtualBox gives each disk four uuids.
    let virtualbox = has("ddb.uuid.image") && has("ddb.uuid.modification");
    match (has("ddb.longContentID"), virtualbox, has("ddb.virtualHWVersion")) {
        (true, false, _) if has("ddb.uuid.image") => Some("vdconv"),
        (true, true, _) => Some("VMware, later opened by VirtualBox"),
        (true, false, _) => Some("VMware"),
        (false, true, _) => Some("VirtualBox"),
        // VMware's older products recorded no long content id, but a uuid, an encoding or the tools' way of installing.
        (false, false, true) if has("ddb.uuid") || has("encoding") || has("ddb.toolsInstallType") => Some("VMware"),
        (false, false, true) if descriptor.get("ddb.toolsVersion") == Some("2147483647") => Some("qemu-img"),
        _ => None,
    }
}
