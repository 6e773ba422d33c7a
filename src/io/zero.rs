//! Is a block all zero?

/// True where every byte of `bytes` is zero.
///
/// 256 bytes are folded at a time, which compilers turn into wide instructions, and the first 256 bytes with data end the search.
pub fn is_zero(bytes: &[u8]) -> bool {
    let (chunks, tail) = bytes.as_chunks::<256>();
    chunks.iter().all(|chunk| chunk.iter().fold(0, |any, byte| any | byte) == 0) && tail.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_anywhere_is_seen() {
        for len in [1, 255, 256, 257, 512, 4096, 65_536 + 3] {
            let mut block = vec![0; len];
            assert!(is_zero(&block));
            for at in [0, len / 2, len - 1] {
                block[at] = 1;
                assert!(!is_zero(&block), "byte {at} of {len}");
                block[at] = 0;
            }
        }
        assert!(is_zero(&[]));
    }
}
