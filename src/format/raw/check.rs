//! Checks a raw disk, which has no structures: what a conversion would say of it.

use crate::format::Checker;
use crate::image::Rule;

/// How raw disks are checked.
pub const CHECKER: Checker = Checker {
    rules: &[
        Rule::told_as("RAW-SIZE", &["the raw disk is no whole number of sectors"]),
        Rule::told_as("RAW-DISC", &["called an ISO image, and no volume descriptor is in it"]),
    ],
    look: |_, _, _| Ok(()),
    unpacked: None,
    left_out: &[],
};
