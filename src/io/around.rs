//! Reads what a failing medium still gives: around the sectors that it refuses.

use std::ops::Range;

use super::InputFile;
use super::size::in_memory;
use crate::fault::Fault;

/// The smallest step, in bytes: a sector. Media of larger ones refuse all steps inside one.
const SECTOR: u64 = 512;

/// A stretch of a file that cannot be read.
#[derive(Debug, Clone)]
pub struct Unread {
    /// Its bytes, in the file.
    pub bytes: Range<u64>,
    /// What the system said at its first byte.
    pub fault: Fault,
}

impl InputFile {
    /// Fills `bytes` from byte `at` with all that can be read; what cannot is zero, and told, neighbours joined. Every sector that a
    /// longer read fails at is tried on its own, so that nothing is told that could be had. Any other fault than the medium's ends it.
    pub fn read_around(&self, at: u64, bytes: &mut [u8]) -> Result<Vec<Unread>, Fault> {
        let end = at.saturating_add(bytes.len() as u64);
        let (mut unread, mut from, mut step) = (Vec::<Unread>::new(), at, u64::MAX);
        while from < end {
            let sector = from - from % SECTOR;
            let until = sector.saturating_add(step).min(end);
            let place = bytes.get_mut(in_memory(from - at)..in_memory(until - at)).unwrap_or_default();
            match self.read_exact(from, place) {
                Ok(()) => (from, step) = (until, step.saturating_mul(2)),
                Err(fault) if !fault.is_of_medium() => return Err(fault),
                Err(fault) if until - sector > SECTOR => {
                    // What lies in front of the byte that failed is there.
                    let failed = fault.byte().unwrap_or(from).min(until - 1);
                    (from, step) = (from.max(failed - failed % SECTOR), SECTOR);
                }
                Err(fault) => {
                    place.fill(0);
                    match unread.last_mut() {
                        Some(last) if last.bytes.end == from => last.bytes.end = until,
                        _ => unread.push(Unread { bytes: from..until, fault: fault.at(from) }),
                    }
                    (from, step) = (until, SECTOR);
                }
            }
        }
        Ok(unread)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::fault::Kind;
    use crate::io::Gate;

    const LEN: u64 = 40 * SECTOR + 100;

    fn content() -> Vec<u8> {
        (0..LEN).map(|at| (at % 251) as u8 | 1).collect()
    }

    proptest! {
        /// Whatever is bad and wherever one begins: the sectors that hold a bad byte are told, and no other byte is missing.
        #[test]
        fn exactly_the_sectors_that_hold_a_bad_byte_are_told(
            bad in prop::collection::vec((0..LEN, 1..3000u64), 0..5),
            from in 0..LEN,
            len in 0..LEN,
        ) {
            let bad: Vec<_> = bad.into_iter().map(|(start, len)| start..(start + len).min(LEN)).collect();
            let (end, mut gate, content) = ((from + len).min(LEN), Gate::new(), content());
            gate.lay_over_unreadable("x", content.clone(), &bad);
            let file = gate.typed(Path::new("x")).unwrap();
            let mut bytes = vec![0xEE; (end - from) as usize];
            let unread = file.read_around(from, &mut bytes).unwrap();
            let lost = |at: u64| {
                let sector = at - at % SECTOR;
                bad.iter().any(|bad| bad.start < sector + SECTOR && sector < bad.end)
            };
            for (byte, at) in bytes.iter().zip(from..) {
                prop_assert_eq!(unread.iter().any(|u| u.bytes.contains(&at)), lost(at), "at {}", at);
                prop_assert_eq!(*byte, if lost(at) { 0 } else { content[at as usize] }, "at {}", at);
            }
            for pair in unread.windows(2) {
                prop_assert!(pair[0].bytes.end < pair[1].bytes.start, "neighbours are joined");
            }
            prop_assert!(unread.iter().all(|u| u.fault.byte() == Some(u.bytes.start) && u.fault.kind() == Kind::Io));
        }
    }

    #[test]
    fn a_file_that_became_shorter_is_no_bad_sector() {
        let mut gate = Gate::new();
        gate.lay_over_unreadable("x", content(), &[1000..1001, 3000..3001]);
        let file = gate.typed(Path::new("x")).unwrap();
        let fault = file.read_around(0, &mut vec![0; LEN as usize + 1]).unwrap_err();
        assert_eq!(fault.kind(), Kind::Changed);
    }
}
