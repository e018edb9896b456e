//! Bytes to code: what tensors look like, and what they do not.

use coldpress::codec::cpu::Dtype;
use proptest::prelude::*;

/// What a page is full of.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// Any bytes.
    Random,
    /// One byte.
    Same(u8),
    /// Floats of so many bytes, whose exponents are spread over about so many values.
    Floats { width: usize, spread: u32 },
    /// As before, most of them zero.
    Sparse { width: usize, spread: u32 },
    /// Numbers of so many bytes that grow by small steps.
    Growing { width: usize, step: u64 },
    /// Numbers of so many bytes below a small one, around a large one.
    Near { width: usize, below: u64 },
    /// Bytes of 0 and 1.
    Mask,
    /// Parts of the others, one after another.
    Mixed,
}

impl Shape {
    /// Any of them.
    pub fn any() -> impl Strategy<Value = Shape> {
        let width = || proptest::sample::select(vec![1usize, 2, 4, 8]);
        prop_oneof![
            Just(Shape::Random),
            any::<u8>().prop_map(Shape::Same),
            (width(), 1u32..90).prop_map(|(width, spread)| Shape::Floats { width, spread }),
            (width(), 1u32..20).prop_map(|(width, spread)| Shape::Sparse { width, spread }),
            (width(), 0u64..100_000).prop_map(|(width, step)| Shape::Growing { width, step }),
            (width(), 1u64..1 << 40).prop_map(|(width, below)| Shape::Near { width, below }),
            Just(Shape::Mask),
            Just(Shape::Mixed),
        ]
    }
}

/// Small blobs of every mode: name, what is in the page, its length, what it is said to be.
pub const GOLDEN: &[(&str, Shape, usize, Dtype)] = &[
    ("zero", Shape::Same(0), 5000, Dtype::Auto),
    ("const", Shape::Same(9), 5000, Dtype::Auto),
    ("raw", Shape::Random, 301, Dtype::Auto),
    ("float1", Shape::Floats { width: 1, spread: 3 }, 4096, Dtype::Float(1)),
    ("float2", Shape::Floats { width: 2, spread: 4 }, 8193, Dtype::Float(2)),
    ("float4", Shape::Floats { width: 4, spread: 4 }, 8194, Dtype::Float(4)),
    ("float8", Shape::Floats { width: 8, spread: 4 }, 8195, Dtype::Float(8)),
    ("sparse2", Shape::Sparse { width: 2, spread: 4 }, 9000, Dtype::Float(2)),
    ("sparse4", Shape::Sparse { width: 4, spread: 4 }, 9000, Dtype::Float(4)),
    ("mask", Shape::Mask, 5000, Dtype::Int(1)),
    ("growing4", Shape::Growing { width: 4, step: 9 }, 9001, Dtype::Int(4)),
    ("growing8", Shape::Growing { width: 8, step: 900 }, 20_000, Dtype::Int(8)),
    ("near2", Shape::Near { width: 2, below: 30 }, 6000, Dtype::Int(2)),
    ("mixed", Shape::Mixed, 12_000, Dtype::Auto),
];

/// The same bytes for the same seed, on every machine and for ever: golden blobs rely on it.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.0;
        x = (x ^ x >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ x >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ x >> 31
    }
}

fn float(width: usize, spread: u32, numbers: &mut Numbers) -> u64 {
    let (exponent_bits, mantissa_bits) = match width {
        1 => (4, 3),
        2 => (8, 7),
        4 => (8, 23),
        _ => (11, 52),
    };
    // Each exponent about half as often as the one before, never more than `spread` below.
    let below = numbers.next().trailing_zeros().min(spread.min((1 << exponent_bits) / 2 - 1));
    let exponent = ((1u64 << exponent_bits) / 2 - u64::from(below)) & ((1 << exponent_bits) - 1);
    let rest = numbers.next();
    let mantissa = rest & ((1 << mantissa_bits) - 1);
    (rest >> 63) << (exponent_bits + mantissa_bits) | exponent << mantissa_bits | mantissa
}

/// A page of `len` bytes.
pub fn page(shape: Shape, seed: u64, len: usize) -> Vec<u8> {
    let mut numbers = Numbers(seed);
    let mut out = Vec::with_capacity(len + 8);
    let mut last = numbers.next() >> 20;
    let around = numbers.next() >> 8;
    while out.len() < len {
        match shape {
            Shape::Random => out.extend_from_slice(&numbers.next().to_le_bytes()),
            Shape::Same(byte) => out.push(byte),
            Shape::Floats { width, spread } => {
                out.extend_from_slice(&float(width, spread, &mut numbers).to_le_bytes()[..width]);
            }
            Shape::Sparse { width, spread } => {
                let value = if numbers.next().is_multiple_of(4) {
                    float(width, spread, &mut numbers)
                } else {
                    0
                };
                out.extend_from_slice(&value.to_le_bytes()[..width]);
            }
            Shape::Growing { width, step } => {
                last = last.wrapping_add(numbers.next() % (step + 1));
                out.extend_from_slice(&last.to_le_bytes()[..width]);
            }
            Shape::Near { width, below } => {
                let value = around.wrapping_add(numbers.next() % below);
                out.extend_from_slice(&value.to_le_bytes()[..width]);
            }
            Shape::Mask => out.push((!numbers.next().is_multiple_of(10)).into()),
            Shape::Mixed => {
                let part = match out.len() / 3000 % 4 {
                    0 => Shape::Floats { width: 2, spread: 5 },
                    1 => Shape::Same(0),
                    2 => Shape::Growing { width: 4, step: 3 },
                    _ => Shape::Random,
                };
                out.extend(page(part, seed ^ out.len() as u64, 3000));
            }
        }
    }
    out.truncate(len);
    out
}
