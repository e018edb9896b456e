//! Where the numbers of a program come from: a seed, or a file that a failure left.
//!
//! Every number that a step draws is kept, so what happened can be written down as operations
//! with their numbers (`script.rs`) and repeated when the generator has become another one.

/// The numbers of a seed (xorshift64*): the same everywhere, for ever.
#[derive(Clone, Debug)]
struct Seeded(u64);

impl Seeded {
    fn new(seed: u64) -> Seeded {
        Seeded(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03 | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
}

#[derive(Clone, Debug)]
enum Source {
    Seed(Seeded),
    /// What was drawn once, the next number last; none left reads as 0.
    Kept(Vec<u64>),
}

/// The numbers of one step.
#[derive(Clone, Debug)]
pub struct Rng {
    source: Source,
    /// What was drawn, where somebody wants to know.
    drawn: Option<Vec<u64>>,
}

impl Rng {
    /// All numbers of a seed, which nobody keeps.
    #[allow(dead_code, reason = "each program uses its part")]
    pub fn new(seed: u64) -> Rng {
        Rng { source: Source::Seed(Seeded::new(seed)), drawn: None }
    }

    /// The numbers of one step of a seed. They do not depend on the steps before, so a program
    /// can leave some out.
    pub fn of_step(seed: u64, step: usize) -> Rng {
        let first = Seeded::new(seed).next();
        let mut seeded = Seeded::new(first ^ (step as u64).wrapping_mul(0xA076_1D64_78BD_642F));
        seeded.next();
        Rng { source: Source::Seed(seeded), drawn: Some(Vec::new()) }
    }

    /// Numbers that were drawn once.
    pub fn kept(numbers: &[u64]) -> Rng {
        let kept = numbers.iter().rev().copied().collect();
        Rng { source: Source::Kept(kept), drawn: Some(Vec::new()) }
    }

    /// What has been drawn so far; forgets it.
    pub fn take_drawn(&mut self) -> Vec<u64> {
        self.drawn.as_mut().map(std::mem::take).unwrap_or_default()
    }

    fn keep(&mut self, number: u64) {
        if let Some(drawn) = &mut self.drawn {
            drawn.push(number);
        }
    }

    /// The next 64 bits.
    pub fn next(&mut self) -> u64 {
        let number = match &mut self.source {
            Source::Seed(seeded) => seeded.next(),
            Source::Kept(kept) => kept.pop().unwrap_or(0),
        };
        self.keep(number);
        number
    }

    /// One of `0..n`.
    pub fn below(&mut self, n: usize) -> usize {
        let n = n.max(1);
        let number = match &mut self.source {
            Source::Seed(seeded) => (seeded.next() >> 33) as usize % n,
            // What was drawn may have been one of more.
            Source::Kept(kept) => kept.pop().unwrap_or(0) as usize % n,
        };
        self.keep(number as u64);
        number
    }

    /// True once in `n`.
    pub fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}
