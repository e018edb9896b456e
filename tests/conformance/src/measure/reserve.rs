//! Whether address hints are honoured, and how much address space one process gets.

use super::{Times, said};
use crate::case::Stop;
use crate::context::Cx;
use serde_json::{Value, json};

/// Where coldpress would like its heap, and places around it.
const HINTS: &[u64] =
    &[0x7E00_0000_0000, 0x7D00_0000_0000, 0x7000_0000_0000, 0x4000_0000_0000, 0x10_0000_0000];

/// Largest size that is tried.
const MOST: usize = 1 << 46;

/// Asks for hints of a gigabyte and of the card's size, then for ever more.
pub fn run(cx: &Cx) -> Result<Value, Stop> {
    let granule = cx.granule()?;
    let card = cx.device_total_mem(cx.device)?.next_multiple_of(granule);
    let mut hints = Vec::new();
    for &hint in HINTS {
        for bytes in [(1usize << 30).next_multiple_of(granule), card, 4 * card] {
            let got = cx.reserve(bytes, 0, hint);
            if let Ok(at) = got {
                cx.address_free(at, bytes)?;
            }
            hints.push(json!({
                "hint": format!("{hint:#x}"),
                "bytes": bytes,
                "result": said(&got),
                "address": got.ok().map(|at| format!("{at:#x}")),
                "honoured": got == Ok(hint),
            }));
        }
    }
    let plain = cx.reserve(granule, 0, 0)?;
    cx.address_free(plain, granule)?;
    let mut times = Times::default();
    let mut largest = 0;
    let mut bytes = card;
    while bytes <= MOST {
        let Ok(at) = times.time(|| cx.reserve(bytes, 0, 0)) else { break };
        cx.address_free(at, bytes)?;
        largest = bytes;
        bytes *= 2;
    }
    Ok(json!({
        "card_bytes": card,
        "without_a_hint": format!("{plain:#x}"),
        "hints": hints,
        "largest_reservation_bytes": largest,
        "largest_tried_bytes": bytes.min(MOST),
        "reserve": times.json(),
    }))
}
