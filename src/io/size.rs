//! Lengths as memory counts them.

/// A length that was bounded before, for slices and buffers. Where memory is counted in fewer bits than files it saturates, so that a
/// mistake ends in a refused slice and never in a short one.
pub fn in_memory(len: u64) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}
