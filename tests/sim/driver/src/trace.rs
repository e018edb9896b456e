//! The call trace: JSON lines, one a call.

use crate::abi::CUresult;
use crate::settings;
use parking_lot::Mutex;
use std::cell::RefCell;
use std::fs::File;
use std::io::Write as _;
use std::sync::OnceLock;

fn file() -> Option<&'static Mutex<File>> {
    static FILE: OnceLock<Option<Mutex<File>>> = OnceLock::new();
    FILE.get_or_init(|| {
        let path = settings::get().trace.as_ref()?.replace("%p", &std::process::id().to_string());
        match File::options().create(true).append(true).open(&path) {
            Ok(file) => Some(Mutex::new(file)),
            Err(e) => {
                eprintln!("simcuda: no trace: {path}: {e}");
                None
            }
        }
    })
    .as_ref()
}

/// Whether calls are written down.
pub fn on() -> bool {
    file().is_some()
}

/// Writes one call.
pub fn call(t: u64, name: &str, result: CUresult, args: Vec<(&'static str, serde_json::Value)>) {
    let Some(file) = file() else { return };
    // SAFETY: gettid has no preconditions.
    let tid = unsafe { libc::gettid() };
    let args: serde_json::Map<_, _> = args.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
    let line =
        serde_json::json!({"t": t, "tid": tid, "call": name, "result": result, "args": args});
    let _ = writeln!(file.lock(), "{line}");
}

/// What the current call has to add to its line.
#[derive(Debug, Default)]
pub struct Notes {
    /// Values written through pointers, by address.
    pub written: Vec<(usize, serde_json::Value)>,
    pub details: Vec<(&'static str, serde_json::Value)>,
}

thread_local! {
    static NOTES: RefCell<Notes> = RefCell::default();
}

/// Takes the notes of the current call.
pub fn take_notes() -> Notes {
    NOTES.try_with(RefCell::take).unwrap_or_default()
}

/// A result was written through a pointer of the program.
pub fn written(to: usize, value: impl FnOnce() -> serde_json::Value) {
    if on() {
        let _ = NOTES.try_with(|notes| notes.borrow_mut().written.push((to, value())));
    }
}

/// The details of a launch.
pub fn launch(name: &str, grid: [u32; 3], block: [u32; 3], params: &[u8]) {
    let hex: String = params.iter().map(|b| format!("{b:02x}")).collect();
    let details = [
        ("kernel", name.into()),
        ("grid", grid.to_vec().into()),
        ("block", block.to_vec().into()),
        ("parameters", hex.into()),
    ];
    let _ = NOTES.try_with(|notes| notes.borrow_mut().details.extend(details));
}
