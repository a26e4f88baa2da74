//! What is sent: bytes that belong to one request of one connection, and to no other.

use std::sync::OnceLock;

/// Random numbers from a seed (splitmix64).
pub struct Random(u64);

impl Random {
    /// Other numbers for each combination of `parts`.
    pub fn new(parts: [u64; 3]) -> Random {
        let mut mixed = Random(0);
        for part in parts {
            mixed = Random(mixed.next() ^ part);
        }
        mixed
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 0 to `end` - 1.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    /// The length of a body, 0 to 1 MiB: half of them below 1 KiB.
    pub fn size(&mut self) -> usize {
        let most = 1 << self.below(LARGEST.ilog2().into());
        usize::try_from(self.below(2 * most + 1)).unwrap()
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}

/// The longest body.
pub const LARGEST: usize = 1 << 20;

/// The body of one request, or of its reply: both ends know it.
pub fn content(connection: u64, number: u64, len: usize) -> Vec<u8> {
    static BLOCK: OnceLock<Vec<u8>> = OnceLock::new();
    let block = BLOCK.get_or_init(|| {
        let mut random = Random(1);
        (0..LARGEST / 4).flat_map(|_| random.next().to_le_bytes()).collect()
    });
    let start = Random::new([connection, number, 0]).below(LARGEST as u64);
    let mut body = block[usize::try_from(start).unwrap()..][..len].to_vec();
    let name = [connection.to_le_bytes(), number.to_le_bytes()].concat();
    let named = len.min(name.len());
    body[..named].copy_from_slice(&name[..named]);
    body
}

/// A checksum, quick also without optimisation.
pub fn sum(body: &[u8]) -> u64 {
    let mix = |sum: u64, word: u64| (sum.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let (words, rest) = body.as_chunks::<8>();
    let sum = words.iter().fold(body.len() as u64, |sum, word| mix(sum, u64::from_le_bytes(*word)));
    rest.iter().fold(sum, |sum, byte| mix(sum, (*byte).into()))
}
