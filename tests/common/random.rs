//! Numbers without a pattern, the same on every run.

/// A xorshift generator.
pub struct Random(u64);

impl Random {
    /// The sequence of `seed`; those of near seeds do not resemble each other.
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `end`; 0 if `end` is.
    pub fn below(&mut self, end: u64) -> u64 {
        // The low bits of the first numbers depend on the seed too simply.
        (self.next() >> 11) % end.max(1)
    }

    /// An index of `len` things.
    pub fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }
}
