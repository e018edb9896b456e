//! `coldpress codec`: how small the bytes of a file get, and that all of them come back.

use super::{Failure, Result, args, print, print_json};
use coldpress::codec::PAGE;
use coldpress::codec::cpu::{Coder, Dtype, Hint};
use coldpress::units::Bytes;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, IsTerminal, Read, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Bytes of a descriptor, which belong to what a page takes.
const DESCRIPTOR: u64 = 32;
/// Between two lines of progress.
const OFTEN: Duration = Duration::from_millis(200);

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    version: u32,
    dtype: &'a str,
    files: &'a [Coded],
    total: &'a Coded,
}

/// What became of a file.
#[derive(Clone, Debug, Default, Serialize)]
struct Coded {
    file: String,
    bytes: u64,
    /// Descriptors included.
    coded_bytes: u64,
    /// coded_bytes / bytes; 1 for an empty file.
    ratio: f64,
    pages: u64,
    /// Pages by what they are kept as.
    modes: BTreeMap<String, u64>,
    /// Pages that came back with other bytes.
    wrong_pages: u64,
    encode_seconds: f64,
    decode_seconds: f64,
}

impl Coded {
    fn add(&mut self, other: &Coded) {
        self.bytes += other.bytes;
        self.coded_bytes += other.coded_bytes;
        self.pages += other.pages;
        self.wrong_pages += other.wrong_pages;
        self.encode_seconds += other.encode_seconds;
        self.decode_seconds += other.decode_seconds;
        for (mode, pages) in &other.modes {
            *self.modes.entry(mode.clone()).or_default() += pages;
        }
    }

    fn finish(mut self) -> Coded {
        self.ratio = match self.bytes {
            0 => 1.0,
            bytes => self.coded_bytes as f64 / bytes as f64,
        };
        self
    }
}

pub fn codec(args: &args::Codec) -> Result {
    let mut coder = Coder::new();
    // The parser of arguments knows the same names.
    let hint = Dtype::parse(&args.dtype).unwrap_or(Dtype::Auto).hint();
    let mut files = Vec::new();
    let mut total = Coded { file: "total".to_owned(), ..Coded::default() };
    for path in &args.files {
        let coded = code(path, hint, &mut coder)
            .map_err(|e| Failure::usage(format!("cannot read {}: {e}", path.display())))?;
        total.add(&coded);
        files.push(coded);
    }
    let total = total.finish();
    let wrong = total.wrong_pages;
    if args.json {
        print_json(&Document {
            schema: "coldpress.codec",
            version: 1,
            dtype: &args.dtype,
            files: &files,
            total: &total,
        })?;
    } else {
        print(&table(&files, &total))?;
    }
    Ok(if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn code(path: &Path, hint: Hint, coder: &mut Coder) -> io::Result<Coded> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    let mut out = Coded { file: path.display().to_string(), ..Coded::default() };
    let (mut page, mut back, mut blob) = (vec![0; PAGE], vec![0; PAGE], Vec::with_capacity(PAGE));
    let mut progress = Progress::new();
    loop {
        let bytes = fill(&mut file, &mut page)?;
        if bytes == 0 {
            break;
        }
        let page = &page[..bytes];
        let began = Instant::now();
        let (descriptor, coded) = coder.encode(page, hint);
        out.encode_seconds += began.elapsed().as_secs_f64();
        blob.clear();
        blob.extend_from_slice(coded);
        let back = &mut back[..bytes];
        back.fill(0xEE);
        let began = Instant::now();
        let decoded = coder.decode(&descriptor, &blob, back);
        out.decode_seconds += began.elapsed().as_secs_f64();
        out.wrong_pages += u64::from(decoded.is_err() || back != page);
        out.pages += 1;
        out.bytes += bytes as u64;
        out.coded_bytes += DESCRIPTOR + blob.len() as u64;
        *out.modes.entry(mode(&descriptor).to_owned()).or_default() += 1;
        progress.show(&out.file, out.bytes, size);
    }
    progress.end();
    Ok(out.finish())
}

/// Reads until `buffer` is full or the file ends.
fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut have = 0;
    while have < buffer.len() {
        match file.read(&mut buffer[have..]) {
            Ok(0) => break,
            Ok(n) => have += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(have)
}

/// What a page is kept as, in a word or two (docs/page-format.md).
fn mode(descriptor: &[u8; 32]) -> &'static str {
    let layout = descriptor[2];
    let (width, rotated, bitmap) = (layout & 3, layout >> 2 & 1 == 1, layout >> 4 & 1 == 1);
    match (descriptor[1], width, rotated, bitmap) {
        (0, ..) => "zero",
        (1, ..) => "constant",
        (2, ..) => "raw",
        (3, _, _, true) => "sparse",
        (3, 0, true, _) => "8-bit floats",
        (3, 1, true, _) => "16-bit floats",
        (3, 2, true, _) => "32-bit floats",
        (3, 3, true, _) => "64-bit floats",
        (3, 0, ..) => "bytes",
        (3, 1, ..) => "bytes of 2",
        (3, 2, ..) => "bytes of 4",
        (3, 3, ..) => "bytes of 8",
        _ if layout >> 5 & 1 == 1 => "differences",
        _ => "whole numbers",
    }
}

/// A line on a terminal that tells how far a long file is.
struct Progress {
    shown: bool,
    next: Instant,
    wanted: bool,
}

impl Progress {
    fn new() -> Progress {
        let wanted = io::stderr().is_terminal();
        Progress { shown: false, next: Instant::now() + OFTEN, wanted }
    }

    fn show(&mut self, file: &str, done: u64, size: u64) {
        if !self.wanted || Instant::now() < self.next {
            return;
        }
        self.next = Instant::now() + OFTEN;
        self.shown = true;
        let percent = done.saturating_mul(100).checked_div(size).unwrap_or(100).min(100);
        let filled = "#".repeat(percent as usize / 4);
        // Nobody to show it to is no failure.
        let _ = write!(io::stderr(), "\r[{filled:<25}] {percent:>3} %  {file}\x1b[K");
    }

    fn end(&self) {
        if self.shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

fn table(files: &[Coded], total: &Coded) -> String {
    let longest = files.iter().map(|f| f.file.chars().count()).max().unwrap_or(0).clamp(5, 48);
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "{:<longest$}  {:>9}  {:>6}  {:<10}  {:>9}  {:>9}  kept as",
        "file", "size", "ratio", "round trip", "encode", "decode"
    );
    let rows = files.iter().chain(Some(total).filter(|_| files.len() > 1));
    for row in rows {
        let name: String = match row.file.chars().count() {
            n if n > longest => {
                format!("..{}", row.file.chars().skip(n + 2 - longest).collect::<String>())
            }
            _ => row.file.clone(),
        };
        let trip = match row.wrong_pages {
            0 => "exact".to_owned(),
            n => format!("{n} WRONG"),
        };
        let _ = writeln!(
            out,
            "{name:<longest$}  {:>9}  {:>6.3}  {trip:<10}  {:>9}  {:>9}  {}",
            Bytes(row.bytes).to_string(),
            row.ratio,
            speed(row.bytes, row.encode_seconds),
            speed(row.bytes, row.decode_seconds),
            mix(row)
        );
    }
    out
}

fn speed(bytes: u64, seconds: f64) -> String {
    if seconds > 0.0 { format!("{:.0} MB/s", bytes as f64 / seconds / 1e6) } else { "-".to_owned() }
}

/// The three commonest ways in which pages are kept, with their shares.
fn mix(row: &Coded) -> String {
    let mut modes: Vec<_> = row.modes.iter().collect();
    modes.sort_by_key(|&(name, pages)| (std::cmp::Reverse(*pages), name));
    let share = |&(name, &pages): &(&String, &u64)| match modes.len() {
        1 => name.clone(),
        _ => format!("{name} {:.0} %", pages as f64 * 100.0 / row.pages as f64),
    };
    modes.iter().take(3).map(share).collect::<Vec<_>>().join(", ")
}
