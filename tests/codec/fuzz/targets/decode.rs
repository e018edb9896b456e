//! Any descriptor and blob: the builds of the kernels and the reference decoder accept the same
//! ones, refuse the others for the same kind of reason, and read the same bytes.
#![no_main]

use coldpress::codec::cpu::{Broken, Coder};
use coldpress::codec::page_hash;
use coldpress::codec::reference::{self, DESCRIPTOR, Wrong};
use libfuzzer_sys::fuzz_target;
use std::cell::RefCell;

thread_local! {
    static CODERS: RefCell<[Coder; 3]> =
        RefCell::new([Coder::new(), Coder::portable(), Coder::as_device()]);
}

fuzz_target!(|data: &[u8]| {
    let Some((descriptor, blob)) = data.split_first_chunk::<DESCRIPTOR>() else { return };
    let mut descriptor = *descriptor;
    let len = usize::from(u16::from_le_bytes([descriptor[14], descriptor[15]])) + 1;
    let mut page = vec![0; len];
    if reference::decode(&descriptor, blob, &mut page) == Err(Wrong::Hash) {
        // Only the hash is in the way: nobody guesses it.
        descriptor[4..8].copy_from_slice(&page_hash(&page).to_le_bytes());
    }
    let said = reference::decode(&descriptor, blob, &mut page).map_err(|wrong| match wrong {
        Wrong::Hash => Broken::Hash,
        _ => Broken::Format,
    });
    CODERS.with_borrow_mut(|coders| {
        for coder in coders {
            let mut out = vec![0xEE; len];
            assert_eq!(coder.decode(&descriptor, blob, &mut out), said);
            assert!(said.is_err() || out == page, "other bytes than the reference reads");
        }
    });
});
