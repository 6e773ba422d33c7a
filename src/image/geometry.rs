//! Cylinders, heads, sectors.

use super::SECTOR;

/// A disk geometry as an image records it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Geometry {
    /// Cylinders.
    pub cylinders: u32,
    /// Heads.
    pub heads: u32,
    /// Sectors a track.
    pub sectors: u32,
}

impl Geometry {
    /// The bytes that the geometry spans.
    pub fn bytes(self) -> u64 {
        u64::from(self.cylinders).saturating_mul(u64::from(self.heads) * u64::from(self.sectors)).saturating_mul(SECTOR)
    }
}
