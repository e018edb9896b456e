//! All expectations, by area.

mod capture;
mod device;
mod events;
mod faults;
mod host;
mod launches;
mod memory;
mod modules;
mod order;
mod pointers;
mod pools;
mod resolver;
mod streams;
mod vmm;

use crate::case::Case;
pub use faults::ask_before_init;

/// Every case, in the order they run.
pub fn all() -> Vec<Case> {
    [
        device::CASES,
        resolver::CASES,
        memory::CASES,
        vmm::CASES,
        pointers::CASES,
        host::CASES,
        pools::CASES,
        modules::CASES,
        launches::CASES,
        streams::CASES,
        order::CASES,
        events::CASES,
        capture::CASES,
        faults::CASES,
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_are_unique_and_sentences_end() {
        let mut names = std::collections::BTreeSet::new();
        for case in super::all() {
            assert!(names.insert(case.name), "twice: {}", case.name);
            assert!(case.name.contains('.'), "{}", case.name);
            assert!(case.expectation.ends_with('.'), "{}: no full stop", case.name);
        }
    }
}
