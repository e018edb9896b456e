//! Module globals the program has asked for: they can hold addresses, so the scan reads them.

use super::contexts::Context;
use parking_lot::Mutex;

/// One.
#[derive(Clone, Copy, Debug)]
pub struct Global {
    module: usize,
    ctx: usize,
    ptr: u64,
    len: usize,
    device: u8,
}

static GLOBALS: Mutex<Vec<Global>> = Mutex::new(Vec::new());

/// Remembers a global that a module (or library) has in `context`.
pub fn add(module: usize, ptr: u64, len: usize, context: Context) {
    let mut globals = GLOBALS.lock();
    if len > 0 && !globals.iter().any(|g| g.ptr == ptr && g.ctx == context.handle) {
        let Context { handle: ctx, device } = context;
        globals.push(Global { module, ctx, ptr, len, device });
    }
}

/// The module is about to be unloaded; what was known of it.
pub fn unloading(module: usize) -> Vec<Global> {
    GLOBALS.lock().extract_if(.., |g| g.module == module).collect()
}

/// A module could not be unloaded after all.
pub fn remember(forgotten: Vec<Global>) {
    GLOBALS.lock().extend(forgotten);
}

/// The context is about to go, and every module in it.
pub fn context_going(ctx: usize) {
    GLOBALS.lock().retain(|g| g.ctx != ctx);
}

/// All: (first byte, bytes, device).
pub fn snapshot() -> Vec<(u64, usize, u8)> {
    GLOBALS.lock().iter().map(|g| (g.ptr, g.len, g.device)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globals_go_with_their_module_and_context() {
        let context = |handle| Context { handle, device: 0 };
        add(1, 0xF00_0000, 8, context(10));
        add(1, 0xF00_0000, 8, context(10));
        add(2, 0xF00_0100, 0, context(10));
        add(2, 0xF00_0200, 16, context(10));
        add(1, 0xF00_0300, 4, context(11));
        assert_eq!(snapshot().len(), 3, "each once, empty ones never");
        unloading(2);
        context_going(11);
        assert_eq!(snapshot(), [(0xF00_0000, 8, 0)]);
        let forgotten = unloading(1);
        assert!(snapshot().is_empty());
        remember(forgotten);
        assert_eq!(snapshot(), [(0xF00_0000, 8, 0)]);
        unloading(1);
    }
}
