//! What the demo kernels do, once more, on the host (see kernels/demo/demo.cu).

/// A bijection of 32-bit words.
pub fn mix(x: u32) -> u32 {
    let x = (x ^ x >> 16).wrapping_mul(0x7FEB_352D);
    let x = (x ^ x >> 15).wrapping_mul(0x846C_A68B);
    x ^ x >> 16
}

/// cp_demo_fill
pub fn fill(out: &mut [u32], seed: u32) {
    for (i, word) in out.iter_mut().enumerate() {
        *word = mix(seed.wrapping_add(i as u32));
    }
}

/// cp_demo_axpy
pub fn axpy(y: &mut [u32], x: &[u32], a: u32) {
    for (i, word) in y.iter_mut().enumerate() {
        *word = word.wrapping_mul(3).wrapping_add(a.wrapping_mul(x[i % x.len()]));
    }
}

/// cp_demo_rotate
pub fn rotate(data: &mut [u32], by: u32, key: u32) {
    for word in data {
        *word = word.rotate_left(by & 31) ^ key;
    }
}

/// cp_demo_gather
pub fn gather(out: &mut [u32], rows: &[Vec<u32>]) {
    for (i, word) in out.iter_mut().enumerate() {
        for row in rows {
            *word = word.rotate_left(5).wrapping_add(row[i % row.len()]);
        }
    }
}

/// cp_demo_fan_in; `inputs` are fifteen.
pub fn fan_in(out: &mut [u32], inputs: &[Vec<u32>]) {
    let factors = [1u32, 3, 5, 7, 9, 11, 13];
    let turns = [0, 3, 7, 11, 17, 23, 29, 0];
    for (i, word) in out.iter_mut().enumerate() {
        let left = inputs[..7]
            .iter()
            .zip(factors)
            .fold(0u32, |sum, (v, f)| sum.wrapping_add(v[i].wrapping_mul(f)));
        let right = inputs[7..].iter().zip(turns).fold(0, |x, (v, t)| x ^ v[i].rotate_left(t));
        *word ^= mix(left ^ right);
    }
}

/// cp_demo_blend
pub fn blend(out: &mut [u32], key: u32, a: &[u32], b: &[u32], shift: u32) {
    for (i, word) in out.iter_mut().enumerate() {
        *word = mix(a[i] ^ key).wrapping_add(b[i % b.len()].rotate_left(shift & 31));
    }
}

/// cp_demo_from_global
pub fn from_global(out: &mut [u32], shared: &[u32]) {
    for (i, word) in out.iter_mut().enumerate() {
        *word = word.wrapping_add(mix(shared[i % shared.len()]));
    }
}
