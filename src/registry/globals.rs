//! Module globals the program has asked for: they can hold addresses, so the scan reads them.
//!
//! They are the driver's memory and go with their module, at any moment another thread likes. So a
//! scan says that it reads them, and an unload first hides its own and waits until nobody reads
//! the list they were on: a copy from memory that is gone would end the program's context. Whether
//! they go is known after the driver's call; while some are hidden no scan can be complete.

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
    /// Lists that are being read.
    readers: u32,
    /// Calls that may end some of them, under way.
    hiding: u32,
    /// How many began and ended so far.
    turns: u64,
}

static KNOWN: Mutex<Known> = Mutex::new(Known { all: Vec::new(), readers: 0, hiding: 0, turns: 0 });
static READ: Condvar = Condvar::new();

/// Remembers a global that a module (or library) has in `context`.
pub fn add(module: usize, ptr: u64, len: usize, context: Context) {
    let mut known = KNOWN.lock();
    if len > 0 && !known.all.iter().any(|g| g.ptr == ptr && g.ctx == context.handle) {
        let Context { handle: ctx, device } = context;
        known.all.push(Global { module, ctx, ptr, len, device });
    }
}

/// The module is about to be unloaded. Nobody reads what is hidden any more.
pub fn unloading(module: usize) -> Hidden {
    hide(|g| g.module == module)
}

/// The context is about to go, or may be, and every module in it.
pub fn context_going(ctx: usize) -> Hidden {
    hide(|g| g.ctx == ctx)
}

/// Globals that a call under way may end; they are forgotten when this goes.
#[derive(Debug)]
pub struct Hidden {
    globals: Vec<Global>,
    /// Whether there are any; where there are none nobody need wait.
    any: bool,
}

impl Hidden {
    /// They did not end.
    pub fn stay(mut self) {
        KNOWN.lock().all.append(&mut self.globals);
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        if self.any {
            let mut known = KNOWN.lock();
            known.hiding -= 1;
            known.turns += 1;
        }
    }
}

fn hide(which: impl Fn(&Global) -> bool) -> Hidden {
    let mut known = KNOWN.lock();
    let globals: Vec<Global> = known.all.extract_if(.., |g| which(g)).collect();
    let any = !globals.is_empty();
    if any {
        known.hiding += 1;
        known.turns += 1;
        // No list is made from here on; a reader waits for idle devices only.
        READ.wait_while(&mut known, |known| known.readers > 0);
    }
    Hidden { globals, any }
}

/// A number that has not changed between two looks if nothing was hidden at any time between.
pub fn turns() -> Option<u64> {
    let known = KNOWN.lock();
    (known.hiding == 0).then_some(known.turns)
}

/// All, while they are read: until this goes none of them does.
#[derive(Debug)]
pub struct Reading {
    /// First byte, bytes, device.
    pub all: Vec<(u64, usize, u8)>,
}

/// Begins to read; nothing while some are hidden. One at a time, which the ticket sees to.
pub fn read() -> Option<Reading> {
    let mut known = KNOWN.lock();
    if known.hiding > 0 {
        return None;
    }
    known.readers += 1;
    Some(Reading { all: known.all.iter().map(|g| (g.ptr, g.len, g.device)).collect() })
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
        let all = || read().expect("nothing is hidden").all.clone();
        assert_eq!(all().len(), 3, "each once, empty ones never");
        drop(unloading(2));
        drop(context_going(11));
        assert_eq!(all(), [(0xF00_0000, 8, 0)]);
        let turns_before = turns();
        let hidden = unloading(1);
        assert!(read().is_none() && turns().is_none(), "nobody knows whether it goes");
        hidden.stay();
        assert_eq!(all(), [(0xF00_0000, 8, 0)]);
        assert!(turns().is_some() && turns() != turns_before);

        // Who unloads waits for who reads.
        let reading = read();
        let unload = std::thread::spawn(|| drop(unloading(1)));
        while turns().is_some() {
            std::thread::yield_now();
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert!(!unload.is_finished());
        drop(reading);
        unload.join().expect("no panic");
        assert_eq!(all(), []);
    }
}
