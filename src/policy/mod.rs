//! Which blocks to evict: pure functions over a view of the heap.
//!
//! Owns: the order of victims. Never: looks at memory, locks or time by itself.
#![forbid(unsafe_code)]

/// What a policy may know of one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Index of the block.
    pub id: u32,
    /// Physical bytes its eviction gives back.
    pub bytes: u64,
    /// Time stamp of its last use; larger is later.
    pub last_use: u64,
}

/// Least recently used first, until `need` bytes are covered. On equal age the larger first, so
/// that fewer blocks move.
pub fn lru(mut candidates: Vec<Candidate>, need: u64) -> Vec<Candidate> {
    candidates.sort_by_key(|c| (c.last_use, std::cmp::Reverse(c.bytes), c.id));
    let mut covered = 0u64;
    let mut n = 0;
    while n < candidates.len() && covered < need {
        covered = covered.saturating_add(candidates[n].bytes);
        n += 1;
    }
    candidates.truncate(n);
    candidates
}

#[cfg(test)]
mod tests {
    use super::*;

    fn c(id: u32, bytes: u64, last_use: u64) -> Candidate {
        Candidate { id, bytes, last_use }
    }

    #[test]
    fn oldest_first_and_no_more_than_needed() {
        let all = vec![c(1, 10, 30), c(2, 10, 10), c(3, 10, 20)];
        let ids = |need| lru(all.clone(), need).iter().map(|c| c.id).collect::<Vec<_>>();
        assert_eq!(ids(0), Vec::<u32>::new());
        assert_eq!(ids(1), [2]);
        assert_eq!(ids(11), [2, 3]);
        assert_eq!(ids(1000), [2, 3, 1]);
    }

    #[test]
    fn larger_first_on_equal_age() {
        assert_eq!(lru(vec![c(1, 4, 5), c(2, 64, 5)], 1), [c(2, 64, 5)]);
    }
}
