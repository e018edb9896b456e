//! Panics on demand, so that what a panic leaves behind can be tested from outside.
//!
//! In builds with debug assertions `TEST_COLDPRESS_PANIC=PLACE[:NAME][:N]` makes the N-th passing of
//! a place (the first, if no number is given) panic; with a NAME only passings in that hook count.
//! Release builds contain nothing of this.

/// A place where a panic can be asked for, in the hook `name` (nothing where it is the engine's own).
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn point(_place: &str, _name: &str) {}

#[cfg(debug_assertions)]
pub use wanted::point;

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

    /// A place where a panic can be asked for, in the hook `name` (nothing where it is the engine's
    /// own).
    pub fn point(place: &str, name: &str) {
        static WANTED: OnceLock<Option<Wanted>> = OnceLock::new();
        static SEEN: AtomicU64 = AtomicU64::new(0);
        let wanted =
            WANTED.get_or_init(|| std::env::var("TEST_COLDPRESS_PANIC").ok().map(|t| parse(&t)));
        let Some(wanted) = wanted else { return };
        let here = wanted.place == place && wanted.name.as_ref().is_none_or(|n| n == name);
        if here && SEEN.fetch_add(1, Ordering::Relaxed) + 1 == wanted.n {
            panic!("TEST_COLDPRESS_PANIC at {place} {name}");
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
