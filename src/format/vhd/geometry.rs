//! The geometry that a VHD records for its size.
//!
//! Source: "Virtual Hard Disk Image Format Specification" 1.0, appendix "CHS Calculation". Virtual PC shows its guests the product alone;
//! all others take the current size. Rounded down: Xen's checker refuses one that spans more than the disk.

use crate::image::{Geometry, SECTOR};

/// The most that the fields can say: 127.5 GiB.
const MOST: u64 = 65_535 * 16 * 255;

/// Cylinders, heads and sectors for a disk of `size` bytes.
pub fn of(size: u64) -> Geometry {
    let total = (size / SECTOR).min(MOST);
    let (heads, sectors) = if total >= 65_535 * 16 * 63 {
        (16, 255)
    } else {
        let tracks = total / 17;
        let heads = tracks.div_ceil(1024).max(4);
        match () {
            _ if tracks < heads * 1024 && heads <= 16 => (heads, 17),
            _ if total / 31 < 16 * 1024 => (16, 31),
            _ => (16, 63),
        }
    };
    let field = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    Geometry { cylinders: field(total / sectors / heads), heads: field(heads), sectors: field(sectors) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of the specification's algorithm; 127 GiB is what Hyper-V and Virtual PC wrote.
    #[test]
    fn geometries_are_those_of_the_specification() {
        for (size, chs) in [
            (1 << 20, (30, 4, 17)),
            (20 << 20, (602, 4, 17)),
            (528_482_304, (1024, 16, 63)),
            (1 << 30, (2080, 16, 63)),
            (33_822_351_360, (16_191, 16, 255)),
            (136_365_211_648, (65_278, 16, 255)),
            (2_190_433_320_960, (65_535, 16, 255)),
            (512, (0, 4, 17)),
        ] {
            let found = of(size);
            assert_eq!((found.cylinders, found.heads, found.sectors), chs, "{size}");
            assert!(found.bytes() <= size);
        }
    }
}
