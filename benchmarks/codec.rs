//! Speed of the codec's CPU build on one core, beside lz4 and zstd on the same bytes in the same run.
//!
//! usage: cargo bench --bench codec -- [--json] [--mib N] [FILE..]
//!
//! Without FILE: N MiB (default 16) of bf16 drawn from N(0, 0.02), as a model's weights are. All code pages of
//! 64 KiB by themselves, as a store of pages needs it. Each figure is the median of five passes. Times are the
//! thread's own on the processor, so that other work on the machine counts as little as it can.

use coldpress::codec::PAGE;
use coldpress::codec::cpu::{Coder, Dtype};
use serde_json::json;
use std::hint::black_box;
use std::process::ExitCode;
use std::{env, fs};

const PASSES: usize = 5;

/// Nanoseconds that this thread has run.
fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a place for one timespec.
    let done = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    assert_eq!(done, 0, "a clock that every Linux has");
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Weights: bf16 of a normal distribution, from a fixed seed.
fn weights(mib: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut uniform = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let x = (state ^ state >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let x = (x ^ x >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((x ^ x >> 31) >> 11) as f64 / (1u64 << 53) as f64
    };
    let element = |_| {
        let radius = (-2.0 * (1.0 - uniform()).ln()).sqrt();
        let x = (0.02 * radius * (std::f64::consts::TAU * uniform()).cos()) as f32;
        ((x.to_bits() >> 16) as u16).to_le_bytes()
    };
    (0..mib << 19).flat_map(element).collect()
}

/// One codec's figures on one set of bytes.
struct Row {
    name: &'static str,
    ratio: f64,
    encode: f64,
    decode: f64,
}

/// Codes all pages and decodes them again. `encode` appends to the second buffer; `decode` fills the second.
fn measure(
    name: &'static str,
    data: &[u8],
    mut encode: impl FnMut(&[u8], &mut Vec<u8>),
    mut decode: impl FnMut(&[u8], &mut [u8]),
) -> Row {
    let (mut encodes, mut decodes, mut coded_bytes) = (Vec::new(), Vec::new(), 0);
    let mut back = vec![0; PAGE];
    for _ in 0..PASSES {
        let mut coded = Vec::with_capacity(data.len() / PAGE + 1);
        let (mut encoding, mut decoding) = (0, 0);
        for page in data.chunks(PAGE) {
            let mut out = Vec::with_capacity(2 * PAGE);
            let began = now();
            encode(page, &mut out);
            encoding += now() - began;
            coded.push(out);
        }
        for (page, blob) in data.chunks(PAGE).zip(&coded) {
            let out = &mut back[..page.len()];
            out.fill(0xEE);
            let began = now();
            decode(blob, black_box(out));
            decoding += now() - began;
            assert!(out == page, "{name}: other bytes came back");
        }
        encodes.push(encoding);
        decodes.push(decoding);
        coded_bytes = coded.iter().map(Vec::len).sum();
    }
    let speed = |times: &mut Vec<u64>| {
        times.sort_unstable();
        data.len() as f64 * 1e3 / times[PASSES / 2] as f64
    };
    let ratio = coded_bytes as f64 / data.len() as f64;
    Row { name, ratio, encode: speed(&mut encodes), decode: speed(&mut decodes) }
}

fn rows(data: &[u8]) -> Vec<Row> {
    let ours = |name, dtype: Dtype| {
        let (mut coder, mut decoder) = (Coder::new(), Coder::new());
        let encode = move |page: &[u8], out: &mut Vec<u8>| {
            let (descriptor, blob) = coder.encode(page, dtype.hint());
            out.extend_from_slice(&descriptor);
            out.extend_from_slice(blob);
        };
        let decode = move |coded: &[u8], out: &mut [u8]| {
            let (descriptor, blob) = coded.split_first_chunk().expect("a descriptor");
            decoder.decode(descriptor, blob, out).expect("a good page");
        };
        measure(name, data, encode, decode)
    };
    let lz4 = |page: &[u8], out: &mut Vec<u8>| out.extend(lz4_flex::block::compress(page));
    let lz4_back = |coded: &[u8], out: &mut [u8]| {
        lz4_flex::block::decompress_into(coded, out).expect("a good block");
    };
    let zstd = |level| {
        let mut coder = zstd::bulk::Compressor::new(level).expect("a level");
        let mut decoder = zstd::bulk::Decompressor::new().expect("memory");
        let encode = move |page: &[u8], out: &mut Vec<u8>| {
            coder.compress_to_buffer(page, out).expect("room");
        };
        let decode = move |coded: &[u8], out: &mut [u8]| {
            decoder.decompress_to_buffer(coded, out).expect("a good frame");
        };
        (encode, decode)
    };
    let (zstd_1, zstd_1_back) = zstd(1);
    let (zstd_3, zstd_3_back) = zstd(3);
    vec![
        ours("coldpress, bf16", Dtype::Float(2)),
        ours("coldpress, auto", Dtype::Auto),
        measure("lz4", data, lz4, lz4_back),
        measure("zstd -1", data, zstd_1, zstd_1_back),
        measure("zstd -3", data, zstd_3, zstd_3_back),
    ]
}

/// The processor's name, as the kernel tells it.
fn processor() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = info.lines().find(|line| line.starts_with("model name"));
    line.and_then(|line| line.split_once(": ")).map_or("unknown", |(_, name)| name).to_owned()
}

const USAGE: &str = "usage: cargo bench --bench codec -- [--json] [--mib N] [FILE..]";

/// What to measure: bytes with their name; and whether to print JSON.
struct Asked {
    sets: Vec<(String, Vec<u8>)>,
    as_json: bool,
}

/// Nothing if only the usage was asked for.
fn arguments() -> Result<Option<Asked>, String> {
    let mut arguments = env::args().skip(1);
    let (mut as_json, mut mib, mut sets) = (false, 16, Vec::new());
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            // Cargo says so.
            "--bench" => {}
            "--json" => as_json = true,
            "--mib" => match arguments.next().and_then(|n| n.parse().ok()) {
                Some(n) if n > 0 => mib = n,
                _ => return Err("--mib: how many?".to_owned()),
            },
            "-h" | "--help" => return Ok(None),
            option if option.starts_with('-') => return Err(format!("no option {option}")),
            file => match fs::read(file) {
                Ok(data) if !data.is_empty() => sets.push((file.to_owned(), data)),
                Ok(_) => return Err(format!("{file} is empty")),
                Err(e) => return Err(format!("{file}: {e}")),
            },
        }
    }
    if sets.is_empty() {
        sets.push((format!("{mib} MiB of bf16 from N(0, 0.02)"), weights(mib)));
    }
    Ok(Some(Asked { sets, as_json }))
}

fn main() -> ExitCode {
    let Asked { sets, as_json } = match arguments() {
        Ok(Some(asked)) => asked,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(wrong) => {
            eprintln!("{wrong}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let mut documents = Vec::new();
    for (name, data) in &sets {
        let rows = rows(data);
        if as_json {
            let codecs: Vec<_> = rows
                .iter()
                .map(|row| {
                    json!({ "codec": row.name, "ratio": row.ratio,
                        "encode_mb_per_second": row.encode, "decode_mb_per_second": row.decode })
                })
                .collect();
            documents.push(json!({ "data": name, "bytes": data.len(), "codecs": codecs }));
            continue;
        }
        println!("{name}, pages of 64 KiB, one core of {}", processor());
        println!("{:16} {:>6} {:>12} {:>12}", "", "ratio", "encode MB/s", "decode MB/s");
        for Row { name, ratio, encode, decode } in rows {
            println!("{name:16} {ratio:6.3} {encode:12.0} {decode:12.0}");
        }
    }
    if as_json {
        let document = json!({ "schema": "coldpress.bench.codec", "version": 1,
            "processor": processor(), "passes": PASSES, "sets": documents });
        println!("{document:#}");
    }
    ExitCode::SUCCESS
}
