//! Module globals the program has asked for: they can hold addresses, so the scan reads them.

use parking_lot::Mutex;

#[derive(Clone, Copy, Debug)]
struct Global {
    module: usize,
    ptr: u64,
    len: usize,
    device: u8,
}

static GLOBALS: Mutex<Vec<Global>> = Mutex::new(Vec::new());

/// Remembers a global of `module`.
pub fn add(module: usize, ptr: u64, len: usize, device: u8) {
    let mut globals = GLOBALS.lock();
    if len > 0 && !globals.iter().any(|g| g.ptr == ptr && g.device == device) {
        globals.push(Global { module, ptr, len, device });
    }
}

/// The module is about to be unloaded.
pub fn unloading(module: usize) {
    GLOBALS.lock().retain(|g| g.module != module);
}

/// All: (first byte, bytes, device).
pub fn snapshot() -> Vec<(u64, usize, u8)> {
    GLOBALS.lock().iter().map(|g| (g.ptr, g.len, g.device)).collect()
}
