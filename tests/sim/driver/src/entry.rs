//! The way every exported function is entered: counted, made to fail on request, traced.

use crate::abi::{CUresult, Outcome, code};
use crate::{clock, flip, trace};
use parking_lot::RwLock;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// One exported function's counter.
#[derive(Debug)]
pub struct Call {
    pub name: &'static str,
    pub count: AtomicU64,
    known: AtomicBool,
}

static CALLS: RwLock<Vec<&'static Call>> = RwLock::new(Vec::new());

impl Call {
    pub const fn new(name: &'static str) -> Call {
        Call { name, count: AtomicU64::new(0), known: AtomicBool::new(false) }
    }
}

/// Calls of every function that was called, by name.
pub fn counts() -> Vec<(&'static str, u64)> {
    let calls = CALLS.read();
    let mut out: Vec<_> = calls.iter().map(|c| (c.name, c.count.load(Ordering::Relaxed))).collect();
    out.sort_unstable();
    out
}

#[derive(Debug)]
struct Rule {
    name: String,
    /// Which call; `None` for every one.
    nth: Option<u64>,
    result: CUresult,
    seen: AtomicU64,
}

static RULES: RwLock<Vec<Rule>> = RwLock::new(Vec::new());
static ANY_RULES: AtomicBool = AtomicBool::new(false);

/// Adds the rules `NAME:N=CODE,..`; `None` removes all. Says whether it was understood.
pub fn add_failures(spec: Option<&str>) -> bool {
    let Some(spec) = spec else {
        RULES.write().clear();
        ANY_RULES.store(false, Ordering::Release);
        return true;
    };
    let parse = |entry: &str| {
        let (name, rest) = entry.trim().split_once(':')?;
        let (nth, result) = rest.split_once('=')?;
        let nth = if nth == "*" { None } else { Some(nth.parse().ok()?) };
        let result = result.parse().ok()?;
        Some(Rule { name: name.to_owned(), nth, result, seen: AtomicU64::new(0) })
    };
    let rules: Option<Vec<Rule>> = spec.split(',').filter(|e| !e.is_empty()).map(parse).collect();
    let Some(rules) = rules else { return false };
    RULES.write().extend(rules);
    ANY_RULES.store(true, Ordering::Release);
    true
}

/// The rules the environment gives, before the first call.
fn read_environment() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        if let Ok(spec) = std::env::var("SIMCUDA_FAIL")
            && !add_failures(Some(&spec))
        {
            eprintln!("simcuda: SIMCUDA_FAIL must be NAME:N=CODE,..; ignored");
        }
    });
}

fn injected(name: &str) -> Option<CUresult> {
    read_environment();
    if !ANY_RULES.load(Ordering::Acquire) {
        return None;
    }
    let rules = RULES.read();
    let mut result = None;
    for rule in rules.iter().filter(|r| r.name == name) {
        let n = rule.seen.fetch_add(1, Ordering::Relaxed) + 1;
        if rule.nth.is_none_or(|nth| nth == n) {
            result = Some(rule.result);
        }
    }
    result
}

thread_local! {
    static PER_THREAD: Cell<bool> = const { Cell::new(false) };
    static NAME: Cell<&'static str> = const { Cell::new("") };
}

/// The function that this thread is in.
pub fn name() -> &'static str {
    NAME.with(Cell::get)
}

/// Whether a null stream means the thread's own default stream in the current call.
pub fn per_thread() -> bool {
    PER_THREAD.with(Cell::get)
}

/// Runs one call. Not generic: there are hundreds of callers.
pub fn run(
    call: &'static Call,
    per_thread: bool,
    args: &dyn Fn() -> Vec<(&'static str, serde_json::Value)>,
    body: &mut dyn FnMut() -> Outcome,
) -> CUresult {
    if !call.known.swap(true, Ordering::Relaxed) {
        CALLS.write().push(call);
    }
    call.count.fetch_add(1, Ordering::Relaxed);
    let before = PER_THREAD.with(|p| p.replace(per_thread));
    NAME.with(|n| n.set(call.name));
    flip::entering(call.name);
    let started = clock::now_ns();
    let result = match injected(call.name) {
        Some(result) => result,
        // A panic must not unwind into the program. What it leaves behind is atomics and locks
        // that do not poison.
        None => match catch_unwind(AssertUnwindSafe(body)) {
            Ok(outcome) => outcome.err().unwrap_or(code::SUCCESS),
            Err(_) => code::UNKNOWN,
        },
    };
    PER_THREAD.with(|p| p.set(before));
    if trace::on() {
        let notes = trace::take_notes();
        let mut args = args();
        for (_, shown) in &mut args {
            let written = notes.written.iter().find(|(at, _)| shown.as_u64() == Some(*at as u64));
            if let Some((_, value)) = written {
                *shown = value.clone();
            }
        }
        args.extend(notes.details);
        trace::call(started, call.name, result, args);
    }
    result
}

/// How an argument looks in the trace.
pub trait Shown {
    fn shown(&self) -> serde_json::Value;
}

macro_rules! shown_numbers {
    ($($ty:ty)*) => {$(impl Shown for $ty {
        fn shown(&self) -> serde_json::Value { (*self).into() }
    })*};
}
shown_numbers!(i32 u8 u16 u32 u64 usize f32);

impl Shown for [u8; 16] {
    fn shown(&self) -> serde_json::Value {
        self.to_vec().into()
    }
}
impl Shown for crate::abi::Location {
    fn shown(&self) -> serde_json::Value {
        vec![i64::from(self.kind), i64::from(self.id)].into()
    }
}
impl Shown for crate::abi::AllocationProp {
    fn shown(&self) -> serde_json::Value {
        self.location.id.into()
    }
}

impl<T> Shown for *const T {
    fn shown(&self) -> serde_json::Value {
        (*self as usize).into()
    }
}
impl<T> Shown for *mut T {
    fn shown(&self) -> serde_json::Value {
        (*self as usize).into()
    }
}
impl<T> Shown for Option<T> {
    fn shown(&self) -> serde_json::Value {
        self.is_some().into()
    }
}

/// Defines exported functions: `fn name(arg: type, ..) { body }` where the body gives an
/// `Outcome`. `fn name | twin(..)` also defines the per-thread variant.
macro_rules! api {
    () => {};
    (fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $body:block $($rest:tt)*) => {
        $crate::entry::api!(@one $name, false, ($($arg: $ty),*), $body);
        $crate::entry::api!($($rest)*);
    };
    (fn $name:ident | $twin:ident($($arg:ident: $ty:ty),* $(,)?) $body:block $($rest:tt)*) => {
        $crate::entry::api!(@one $name, false, ($($arg: $ty),*), $body);
        $crate::entry::api!(@one $twin, true, ($($arg: $ty),*), $body);
        $crate::entry::api!($($rest)*);
    };
    (@one $name:ident, $per_thread:expr, ($($arg:ident: $ty:ty),*), $body:block) => {
        #[unsafe(no_mangle)]
        #[allow(non_snake_case, missing_docs)]
        pub unsafe extern "C" fn $name($($arg: $ty),*) -> $crate::abi::CUresult {
            static CALL: $crate::entry::Call = $crate::entry::Call::new(stringify!($name));
            $crate::entry::run(
                &CALL,
                $per_thread,
                &|| vec![$((stringify!($arg), $crate::entry::Shown::shown(&$arg))),*],
                &mut || $body,
            )
        }
    };
}
pub(crate) use api;

/// Defines an exported function that is not implemented.
macro_rules! stub {
    ($name:ident) => {
        #[unsafe(no_mangle)]
        #[allow(non_snake_case, missing_docs)]
        pub extern "C" fn $name() -> $crate::abi::CUresult {
            static CALL: $crate::entry::Call = $crate::entry::Call::new(stringify!($name));
            $crate::entry::unsupported(&CALL)
        }
    };
}
pub(crate) use stub;

/// What a function answers that is not implemented.
pub fn unsupported(call: &'static Call) -> CUresult {
    run(call, false, &Vec::new, &mut || Err(code::NOT_SUPPORTED))
}
