//! Panics and pauses on demand, so that what a panic leaves behind, and what others do between two
//! steps of a thread, can be tested from outside.
//!
//! In builds with debug assertions `TEST_COLDPRESS_PANIC=PLACE[:NAME][:N]` makes the N-th passing of
//! a place (the first, if no number is given) panic; with a NAME only passings in that hook count.
//! `TEST_COLDPRESS_PAUSE`, of the same form, makes it wait instead: until somebody has opened the
//! named pipe `TEST_COLDPRESS_GATE` for writing, which in turn waits for the thread to be there, and
//! has closed it again. Release builds contain nothing of this.

/// A place where a panic or a pause can be asked for, in the hook `name` (nothing where it is the
/// engine's own).
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn point(_place: &str, _name: &str) {}

/// A place where only a pause can be asked for: one of the paths on which nothing can panic.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn pause(_place: &str) {}

#[cfg(debug_assertions)]
pub use wanted::{pause, point};

#[cfg(debug_assertions)]
mod wanted {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[derive(Debug, PartialEq, Eq)]
    struct Wanted {
        place: String,
        name: Option<String>,
        n: u64,
    }

    fn parse(text: &str) -> Wanted {
        let mut parts = text.split(':');
        let place = parts.next().unwrap_or_default().to_owned();
        let mut wanted = Wanted { place, name: None, n: 1 };
        for part in parts {
            match part.parse() {
                Ok(n) => wanted.n = n,
                Err(_) => wanted.name = Some(part.to_owned()),
            }
        }
        wanted
    }

    /// What a variable asks for, and how often its place was passed.
    struct Order {
        variable: &'static str,
        wanted: OnceLock<Option<Wanted>>,
        seen: AtomicU64,
    }

    static PANIC: Order = Order::new("TEST_COLDPRESS_PANIC");
    static PAUSE: Order = Order::new("TEST_COLDPRESS_PAUSE");

    impl Order {
        const fn new(variable: &'static str) -> Order {
            Order { variable, wanted: OnceLock::new(), seen: AtomicU64::new(0) }
        }

        /// Whether it is meant for this passing.
        fn due(&self, place: &str, name: &str) -> bool {
            let read = || std::env::var(self.variable).ok().map(|text| parse(&text));
            let Some(wanted) = self.wanted.get_or_init(read) else { return false };
            let here = wanted.place == place && wanted.name.as_ref().is_none_or(|n| n == name);
            here && self.seen.fetch_add(1, Ordering::Relaxed) + 1 == wanted.n
        }
    }

    /// A place where a panic or a pause can be asked for, in the hook `name` (nothing where it is
    /// the engine's own).
    pub fn point(place: &str, name: &str) {
        if PANIC.due(place, name) {
            panic!("TEST_COLDPRESS_PANIC at {place} {name}");
        }
        pause_in(place, name);
    }

    /// A place where only a pause can be asked for: one of the paths on which nothing can panic.
    pub fn pause(place: &str) {
        pause_in(place, "");
    }

    fn pause_in(place: &str, name: &str) {
        if PAUSE.due(place, name)
            && let Ok(gate) = std::env::var("TEST_COLDPRESS_GATE")
        {
            // Opening a pipe waits for the other side, reading it for its end.
            let _ = std::fs::read(gate);
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_place_a_name_a_number() {
            let wanted = |place: &str, name: Option<&str>, n| Wanted {
                place: place.to_owned(),
                name: name.map(str::to_owned),
                n,
            };
            assert_eq!(parse("after"), wanted("after", None, 1));
            assert_eq!(parse("before:7"), wanted("before", None, 7));
            assert_eq!(parse("before:cuMemFree_v2"), wanted("before", Some("cuMemFree_v2"), 1));
            assert_eq!(parse("scan:cuInit:3"), wanted("scan", Some("cuInit"), 3));
        }
    }
}
