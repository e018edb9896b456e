//! Any page under any hint: all builds write the same blob, no larger than the page, and everybody
//! reads the page back.
#![no_main]

use coldpress::codec::PAGE;
use coldpress::codec::cpu::{Coder, Dtype};
use coldpress::codec::reference;
use libfuzzer_sys::fuzz_target;
use std::cell::RefCell;

thread_local! {
    static CODERS: RefCell<[Coder; 3]> =
        RefCell::new([Coder::new(), Coder::portable(), Coder::as_device()]);
}

// The first byte is the hint, the second how often the rest is repeated: pages are long, inputs
// are not.
fuzz_target!(|data: &[u8]| {
    let [kind, times, bytes @ ..] = data else { return };
    if bytes.is_empty() {
        return;
    }
    let width = 1 << (kind & 3);
    let dtype = match kind >> 2 & 3 {
        0 => Dtype::Auto,
        1 => Dtype::Int(width),
        _ => Dtype::Float(width),
    };
    let page: Vec<u8> =
        bytes.iter().copied().cycle().take(bytes.len() * (1 + usize::from(*times))).collect();
    let page = &page[..page.len().min(PAGE)];
    CODERS.with_borrow_mut(|coders| {
        let mut made = coders.iter_mut().map(|coder| {
            let (descriptor, blob) = coder.encode(page, dtype.hint());
            (descriptor, blob.to_vec())
        });
        let (descriptor, blob) = made.next().expect("the first");
        assert!(made.all(|other| other == (descriptor, blob.clone())), "two builds differ");
        assert!(blob.len() <= page.len().next_multiple_of(16), "grew to {}", blob.len());
        let mut out = vec![0xEE; page.len()];
        assert_eq!(reference::decode(&descriptor, &blob, &mut out), Ok(()));
        assert!(out == page, "the reference reads other bytes");
        for coder in coders {
            out.fill(0xEE);
            assert_eq!(coder.decode(&descriptor, &blob, &mut out), Ok(()));
            assert!(out == page, "other bytes came back");
        }
    });
});
