//! The fields of the footer that counts. Both its copies' checksums, and where they differ, are the reader's to tell.

use byteorder::{BigEndian, ByteOrder};

use super::id;
use crate::fault::{Fault, Kind};
use crate::format::vhd::footer::{self, DiskType, Footer, at};
use crate::format::vhd::geometry;
use crate::format::vhd::locate::Located;
use crate::image::{Findings, Geometry};
use crate::io::InputFile;

/// The feature bits that exist: temporary, and the one that is always set.
const FEATURES: u32 = 3;
const FEATURE_SET: u32 = 2;
/// Where every writer puts the dynamic header; Xen Orchestra takes no other place.
const USUAL_HEADER: u64 = 512;
/// Seconds that clocks may differ by (blktap, vhd-util check).
const SLACK: u32 = 1800;
/// The most that a geometry can say: of larger disks it means nothing.
const MOST_GEOMETRY: u64 = 65_535 * 16 * 255 * 512;

/// Looks at every field.
pub fn look(file: &InputFile, located: &Located, findings: &mut Findings) -> Result<(), Fault> {
    let Located { footer, at: base, .. } = located;
    let mut raw = [0; footer::LEN];
    let got = file.read_up_to(*base, &mut raw)?;
    findings.count("footers", 1);
    let odd = |field: usize, what: &'static str| Fault::damaged(file.name(), base + field as u64, what);
    if got < footer::LEN {
        findings.warning(id::FOOTER_SHORT, || {
            let short = odd(0, "the VHD footer has 511 bytes, as Virtual PC before 2004 wrote it");
            short.found(got).expected(footer::LEN)
        });
    }
    let u32_at = |at: usize| raw.get(at..).map(BigEndian::read_u32).unwrap_or_default();
    let features = u32_at(at::FEATURES);
    if features & FEATURE_SET == 0 || features & !FEATURES != 0 {
        findings.warning(id::FEATURES, || {
            odd(at::FEATURES, "VHD features").found(format!("{features:#010x}")).expected("0x00000002")
        });
    }
    data_offset(footer, findings, &odd);
    let original = raw.get(at::ORIGINAL_SIZE..).map(BigEndian::read_u64).unwrap_or_default();
    if original > footer.current_size {
        findings.warning(id::ORIGINAL_SIZE, || {
            let more = odd(at::ORIGINAL_SIZE, "VHD original size is more than the current size");
            more.found(original).against(format!("current size {}", footer.current_size))
        });
    }
    look_at_geometry(footer, findings, &odd);
    let now = footer::time_stamp(std::time::SystemTime::now());
    if footer.time_stamp > now.saturating_add(SLACK) {
        findings.warning(id::TIME, || {
            let future = odd(at::TIME_STAMP, "the VHD says that it was made in the future");
            future
                .found(humantime::format_rfc3339_seconds(footer.created()))
                .advice("Xen's tools refuse it; the clock of the machine that made it was wrong")
        });
    }
    if footer.unique_id.is_nil() {
        findings.warning(id::UNIQUE_ID, || {
            odd(at::UNIQUE_ID, "VHD unique id").found("all zero").expected("an identifier that children can name")
        });
    }
    // Byte 85 is tapdisk's own.
    let from = if footer.creator_application.starts_with(b"tap") { at::HIDDEN + 1 } else { at::HIDDEN };
    if let Some(byte) = (from..footer::LEN).find(|n| raw.get(*n).is_some_and(|byte| *byte != 0)) {
        findings.warning(id::RESERVED, || {
            let set = odd(byte, "reserved bytes of the VHD footer");
            set.found(format!("{:#04x}", raw.get(byte).copied().unwrap_or_default()))
                .expected("zero")
                .advice("7-Zip refuses it")
        });
    }
    Ok(())
}

fn data_offset(footer: &Footer, findings: &mut Findings, odd: &dyn Fn(usize, &'static str) -> Fault) {
    // The specification prints 32 bits of ones for 64.
    let (fits, want) = match footer.disk_type {
        DiskType::Fixed => (footer.data_offset == u64::MAX, "all ones in a fixed disk".to_string()),
        _ => (footer.data_offset == USUAL_HEADER, USUAL_HEADER.to_string()),
    };
    if !fits {
        findings.warning(id::DATA_OFFSET, || {
            odd(at::DATA_OFFSET, "VHD data offset").found(footer.data_offset).expected(want)
        });
    }
}

/// Larger than computed: Xen's tools refuse it. Smaller, where the creator's name lets readers believe the geometry: they show a smaller
/// disk. Smaller elsewhere: nobody minds.
fn look_at_geometry(footer: &Footer, findings: &mut Findings, odd: &dyn Fn(usize, &'static str) -> Fault) {
    let show = |g: Geometry| format!("{}/{}/{}", g.cylinders, g.heads, g.sectors);
    let as_one = |g: Geometry| u64::from(g.cylinders) << 16 | u64::from(g.heads) << 8 | u64::from(g.sectors);
    let (stored, computed) = (footer.geometry, geometry::of(footer.current_size));
    let size = footer.current_size;
    if matches!(&footer.creator_application, b"vpc " | b"qemu")
        && stored.bytes() < size
        && stored.bytes() != MOST_GEOMETRY
    {
        findings.warning(id::GEOMETRY, || {
            let less =
                odd(at::GEOMETRY, "VHD geometry spans less than the disk, and readers believe it of this creator");
            less.of_kind(Kind::Damaged)
                .found(format!("{} = {} bytes", show(stored), stored.bytes()))
                .against(format!("current size {size}"))
        });
    } else if as_one(stored) > as_one(computed) {
        findings.warning(id::GEOMETRY, || {
            let more = odd(at::GEOMETRY, "VHD geometry is more than its size gives");
            more.found(show(stored)).expected(show(computed)).advice("Xen's tools refuse it")
        });
    } else if stored != computed {
        findings.note(id::GEOMETRY, || {
            let less = odd(at::GEOMETRY, "VHD geometry is not the one that its size gives");
            less.found(show(stored)).expected(show(computed))
        });
    }
}
