//! Discs and raw disks with one fault each.

use super::case::Case;
use super::common::pattern;

pub fn cases() -> Vec<Case> {
    let raw = pattern(20, |_| false);
    vec![
        Case::warning("RAW-SIZE", 0, "a.raw", raw[..10_000].to_vec()).nowhere(),
        Case::warning("RAW-DISC", 0, "a.iso", raw).nowhere(),
    ]
}
