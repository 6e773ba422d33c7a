//! A small generator of numbers that a seed decides: the same on every machine, and in every order of the cases.

/// SplitMix64.
pub struct Prng(u64);

impl Prng {
    /// For one case: it depends on the seed, the subject's name and the case's number alone.
    pub fn of_case(seed: u64, name: &str, number: u64) -> Prng {
        let hash = name.bytes().fold(0xCBF2_9CE4_8422_2325u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3) // FNV-1a
        });
        let mut prng = Prng(seed ^ hash.rotate_left(17) ^ number.wrapping_mul(0xD1B5_4A32_D192_ED03));
        prng.next();
        prng
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `n`, which is not 0.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}
