//! `coldpress codec`.

use super::{coldpress, output, stderr, stdout};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;

/// A file of `bytes` for one test.
fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("codec-{name}"));
    fs::write(&path, bytes).expect("a temporary file");
    path
}

/// Weights as a model has them, near enough: exponents each half as often as the one above.
fn weights(count: u32) -> Vec<u8> {
    let value = |i: u32| {
        let random = i.wrapping_mul(0x9E37_79B1).rotate_left(15).wrapping_mul(0x85EB_CA6B);
        let exponent = 125 - (random | 1 << 20).trailing_zeros().min(20);
        ((random >> 31) << 15 | exponent << 7 | random >> 24 & 0x7F) as u16
    };
    (0..count).flat_map(|i| value(i).to_le_bytes()).collect()
}

#[test]
fn a_table_with_every_file_and_the_sum() {
    let (a, b) = (file("a.bin", &weights(100_000)), file("zeros.bin", &[0; 70_000]));
    let out = output(&mut coldpress(&["codec", &a.to_string_lossy(), &b.to_string_lossy()]));
    assert!(out.status.success(), "{out:?}");
    assert_eq!(stderr(&out), "", "no progress where nobody looks");
    let text = stdout(&out);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 4, "{text}");
    assert!(lines[0].starts_with("file"), "{text}");
    assert!(lines[1].contains("exact") && lines[1].contains("16-bit floats"), "{text}");
    assert!(lines[2].contains("0.001") && lines[2].contains("zero"), "{text}");
    assert!(lines[3].starts_with("total"), "{text}");
}

#[test]
fn json_has_a_schema() {
    let path = file("json.bin", &weights(50_001));
    let out =
        output(&mut coldpress(&["codec", "--json", "--dtype", "bf16", &path.to_string_lossy()]));
    let document: Value = serde_json::from_str(&stdout(&out)).expect("JSON");
    assert_eq!(document["schema"], "coldpress.codec");
    assert_eq!((&document["version"], &document["dtype"]), (&1.into(), &"bf16".into()));
    let row = &document["files"][0];
    assert_eq!((&row["bytes"], &row["wrong_pages"]), (&100_002.into(), &0.into()));
    assert_eq!(row["pages"], 2);
    let ratio = row["ratio"].as_f64().expect("a number");
    assert!((0.5..0.75).contains(&ratio), "{ratio}");
    assert_eq!(row["coded_bytes"].as_f64().map(|n| n / 100_002.0), Some(ratio));
}

#[test]
fn files_that_are_none_and_files_of_nothing() {
    let out = output(&mut coldpress(&["codec", "/nonexistent/file"]));
    assert_eq!(out.status.code(), Some(2));
    assert!(stderr(&out).contains("cannot read /nonexistent/file"), "{out:?}");
    let out = output(&mut coldpress(&["codec", &file("empty", b"").to_string_lossy()]));
    assert!(out.status.success() && stdout(&out).contains("exact"), "{out:?}");
    let out = output(&mut coldpress(&["codec", "--dtype", "bf17", "x"]));
    assert_eq!(out.status.code(), Some(2));
    assert!(stderr(&out).contains("bf16"), "the names are listed: {out:?}");
}
