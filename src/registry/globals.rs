//! Module globals the program has asked for: they can hold addresses, so the scan reads them.
//!
//! They are the driver's memory and go with their module, at any moment another thread likes. So a
//! scan says that it reads them, and an unload first takes its own out and waits until nobody reads
//! the list they were on: a copy from memory that is gone would end the program's context.

use super::contexts::Context;
use parking_lot::{Condvar, Mutex};

/// One.
#[derive(Clone, Copy, Debug)]
pub struct Global {
    module: usize,
    ctx: usize,
    ptr: u64,
    len: usize,
    device: u8,
}

/// What is known, and who reads it.
struct Known {
    all: Vec<Global>,
    /// Lists that are being read, and how many there were so far.
    readers: u32,
    lists: u64,
}

static KNOWN: Mutex<Known> = Mutex::new(Known { all: Vec::new(), readers: 0, lists: 0 });
static READ: Condvar = Condvar::new();

/// Remembers a global that a module (or library) has in `context`.
pub fn add(module: usize, ptr: u64, len: usize, context: Context) {
    let mut known = KNOWN.lock();
    if len > 0 && !known.all.iter().any(|g| g.ptr == ptr && g.ctx == context.handle) {
        let Context { handle: ctx, device } = context;
        known.all.push(Global { module, ctx, ptr, len, device });
    }
}

/// The module is about to be unloaded; what was known of it. Nobody reads it any more.
pub fn unloading(module: usize) -> Vec<Global> {
    take(|g| g.module == module)
}

/// The context is about to go, and every module in it.
pub fn context_going(ctx: usize) -> Vec<Global> {
    take(|g| g.ctx == ctx)
}

/// Whether anything is known of the context.
pub fn any_in(ctx: usize) -> bool {
    KNOWN.lock().all.iter().any(|g| g.ctx == ctx)
}

/// Neither went after all.
pub fn remember(forgotten: Vec<Global>) {
    KNOWN.lock().all.extend(forgotten);
}

fn take(which: impl Fn(&Global) -> bool) -> Vec<Global> {
    let mut known = KNOWN.lock();
    let taken: Vec<Global> = known.all.extract_if(.., |g| which(g)).collect();
    // Lists made from here on do not have them; a reader waits for idle devices only.
    let lists = known.lists;
    if !taken.is_empty() {
        READ.wait_while(&mut known, |known| known.readers > 0 && known.lists == lists);
    }
    taken
}

/// All, while they are read: until this goes none of them does.
#[derive(Debug)]
pub struct Reading {
    /// First byte, bytes, device.
    pub all: Vec<(u64, usize, u8)>,
}

/// Begins to read. One at a time, which the ticket sees to.
pub fn read() -> Reading {
    let mut known = KNOWN.lock();
    known.readers += 1;
    known.lists += 1;
    Reading { all: known.all.iter().map(|g| (g.ptr, g.len, g.device)).collect() }
}

impl Drop for Reading {
    fn drop(&mut self) {
        KNOWN.lock().readers -= 1;
        READ.notify_all();
    }
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
        let all = || read().all.len();
        assert_eq!(all(), 3, "each once, empty ones never");
        unloading(2);
        context_going(11);
        assert_eq!(read().all, [(0xF00_0000, 8, 0)]);
        let forgotten = unloading(1);
        assert_eq!(all(), 0);
        remember(forgotten);
        assert_eq!(read().all, [(0xF00_0000, 8, 0)]);

        // Who unloads waits for who reads.
        let reading = read();
        let unload = std::thread::spawn(|| unloading(1).len());
        while !KNOWN.lock().all.is_empty() {
            std::thread::yield_now();
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert!(!unload.is_finished());
        drop(reading);
        assert_eq!(unload.join().expect("no panic"), 1);
    }
}
