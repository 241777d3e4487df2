//! Random numbers that are made all at once: each by its place in a stream.

use rayon::prelude::*;

/// Numbers that one task makes.
const CHUNK: usize = 1 << 16;
/// What SplitMix64 adds from number to number.
const STRIDE: u64 = 0x9e37_79b9_7f4a_7c15;

/// A stream of random bits: SplitMix64, whose number `index` needs none of those before it.
///
/// Source: Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators", figure 16.
#[derive(Debug, Clone, Copy)]
pub(in crate::commands::bench) struct Stream {
    key: u64,
}

impl Stream {
    pub(in crate::commands::bench) fn new(seed: u64, stream: u64) -> Stream {
        Stream { key: mix(seed ^ mix(stream.wrapping_add(1).wrapping_mul(STRIDE))) }
    }

    /// Number `index`.
    fn bits(self, index: u64) -> u64 {
        mix(self.key.wrapping_add(index.wrapping_add(1).wrapping_mul(STRIDE)))
    }

    /// The same in 0..1.
    fn unit(self, index: usize) -> f32 {
        (self.bits(index as u64) >> 40) as f32 / (1_u64 << 24) as f32
    }

    /// The same below `below`, which is far less than 2^64.
    pub(in crate::commands::bench) fn below(self, index: usize, below: usize) -> usize {
        (self.bits(index as u64) % below as u64) as usize
    }

    /// The first `len` numbers in -scale..scale.
    pub(in crate::commands::bench) fn numbers(self, len: usize, scale: f32) -> Vec<f32> {
        self.all(len, |index| scale * (2.0 * self.unit(index) - 1.0))
    }

    /// The first `len` numbers in 0..1.
    pub(in crate::commands::bench) fn uniforms(self, len: usize) -> Vec<f32> {
        self.all(len, |index| self.unit(index))
    }

    /// The first `len` numbers below `below`.
    pub(in crate::commands::bench) fn ids(self, len: usize, below: usize) -> Vec<u32> {
        (0..len).map(|index| self.below(index, below) as u32).collect()
    }

    /// The same, the smaller the more frequent, as words of a language: `k` has the share
    /// `ln((k + 2) / (k + 1)) / ln(below + 1)`, nearly Zipf's `1 / (k + 1)`.
    pub(in crate::commands::bench) fn zipf_ids(self, len: usize, below: usize) -> Vec<u32> {
        let id = |index| ((below + 1) as f64).powf(f64::from(self.unit(index))) as usize - 1;
        (0..len).map(|index| id(index).min(below - 1) as u32).collect()
    }

    fn all(self, len: usize, number: impl Fn(usize) -> f32 + Sync) -> Vec<f32> {
        let mut numbers = vec![0.0; len];
        numbers.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, numbers)| {
            for (index, to) in numbers.iter_mut().enumerate() {
                *to = number(chunk * CHUNK + index);
            }
        });
        numbers
    }
}

fn mix(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_depend_on_seed_and_stream_and_not_on_how_many_there_are() {
        let numbers = Stream::new(7, 1).numbers(3 * CHUNK, 2.0);
        assert_eq!(numbers[..100], Stream::new(7, 1).numbers(100, 2.0));
        assert!(numbers[..100] != Stream::new(7, 2).numbers(100, 2.0));
        assert!(numbers[..100] != Stream::new(8, 1).numbers(100, 2.0));
        assert!(numbers.iter().all(|x| (-2.0..2.0).contains(x)));
        // A uniform number in -2..2 has mean 0 and variance 4/3; five standard deviations of the mean are 0.013.
        let mean = numbers.iter().map(|x| f64::from(*x)).sum::<f64>() / numbers.len() as f64;
        let square = numbers.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / numbers.len() as f64;
        assert!(mean.abs() < 0.013 && (square - 4.0 / 3.0).abs() < 0.014, "{mean} {square}");
    }

    #[test]
    fn the_first_number_is_that_of_the_published_generator() {
        // Seed 0 of SplitMix64, as in Java's SplittableRandom(0).nextLong().
        assert_eq!(Stream { key: 0 }.bits(0), 0xe220_a839_7b1d_cdaf);
    }

    #[test]
    fn few_tokens_make_up_most_of_a_text() {
        let ids = Stream::new(1, 1).zipf_ids(10_000, 1023);
        assert!(ids.iter().all(|&id| id < 1023));
        // Token 0 has a tenth, and the first 31 of 1023 half of all.
        let share = |below: u32| ids.iter().filter(|&&id| id < below).count();
        assert!((900..1100).contains(&share(1)) && (4750..5250).contains(&share(31)));
    }
}
