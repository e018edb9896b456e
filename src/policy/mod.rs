//! Which blocks to evict: pure functions over a view of the heap.
//!
//! Owns: the order of victims. Never: looks at memory, locks or time by itself.
#![forbid(unsafe_code)]

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

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

/// What is to go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// The blocks.
    pub ids: Vec<u32>,
    /// Physical bytes of all of them.
    pub bytes: u64,
    /// Candidates that were passed over because something that stays names them.
    pub named: u64,
}

/// Least recently used first (on equal age the larger first, so that fewer blocks move), until
/// `need` bytes are covered. A candidate that is `held` stays. One that other candidates name
/// goes only together with all of those (`namers`): when this returns, nothing that stays names
/// anything that goes.
pub fn choose(
    candidates: &[Candidate],
    need: u64,
    held: &HashSet<u32>,
    namers: &HashMap<u32, Vec<u32>>,
) -> Choice {
    let mut order: Vec<&Candidate> = candidates.iter().collect();
    order.sort_by_key(|c| (c.last_use, Reverse(c.bytes), c.id));
    let bytes_of: HashMap<u32, u64> = candidates.iter().map(|c| (c.id, c.bytes)).collect();
    let mut chosen = HashSet::new();
    let mut choice = Choice::default();
    for candidate in order {
        if choice.bytes >= need {
            break;
        }
        if chosen.contains(&candidate.id) {
            continue;
        }
        let Some(group) = with_namers(candidate.id, &bytes_of, &chosen, held, namers) else {
            choice.named += 1;
            continue;
        };
        for id in group {
            chosen.insert(id);
            choice.ids.push(id);
            choice.bytes = choice.bytes.saturating_add(bytes_of[&id]);
        }
    }
    choice
}

/// The block and, over any number of steps, every block that names it and is not chosen yet;
/// `None` if one of them stays.
fn with_namers(
    id: u32,
    candidates: &HashMap<u32, u64>,
    chosen: &HashSet<u32>,
    held: &HashSet<u32>,
    namers: &HashMap<u32, Vec<u32>>,
) -> Option<Vec<u32>> {
    let mut group = vec![id];
    let mut seen = HashSet::from([id]);
    let mut next = 0;
    while let Some(&id) = group.get(next) {
        next += 1;
        if held.contains(&id) || !candidates.contains_key(&id) {
            return None;
        }
        for &namer in namers.get(&id).into_iter().flatten() {
            if !chosen.contains(&namer) && seen.insert(namer) {
                group.push(namer);
            }
        }
    }
    Some(group)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn c(id: u32, bytes: u64, last_use: u64) -> Candidate {
        Candidate { id, bytes, last_use }
    }

    fn free(candidates: &[Candidate], need: u64) -> Vec<u32> {
        choose(candidates, need, &HashSet::new(), &HashMap::new()).ids
    }

    #[test]
    fn oldest_first_and_no_more_than_needed() {
        let all = [c(1, 10, 30), c(2, 10, 10), c(3, 10, 20)];
        assert_eq!(free(&all, 0), [0u32; 0]);
        assert_eq!(free(&all, 1), [2]);
        assert_eq!(free(&all, 11), [2, 3]);
        assert_eq!(free(&all, 1000), [2, 3, 1]);
        assert_eq!(free(&[c(1, 64, 20), c(2, 4, 10)], 1), [2], "however small");
    }

    #[test]
    fn larger_first_on_equal_age() {
        assert_eq!(free(&[c(1, 4, 5), c(2, 64, 5)], 1), [2]);
    }

    #[test]
    fn what_is_named_from_elsewhere_makes_room_for_the_next() {
        let all = [c(1, 10, 1), c(2, 10, 2), c(3, 10, 3)];
        let choice = choose(&all, 10, &HashSet::from([1]), &HashMap::new());
        assert_eq!((choice.ids, choice.named), (vec![2], 1));
    }

    #[test]
    fn what_others_name_goes_with_them_or_not_at_all() {
        let all = [c(1, 10, 1), c(2, 10, 2), c(3, 10, 3)];
        let chain = HashMap::from([(1, vec![2]), (2, vec![3])]);
        assert_eq!(choose(&all, 1, &HashSet::new(), &chain).ids, [1, 2, 3]);
        assert_eq!(choose(&all, 1, &HashSet::from([3]), &chain).ids, [] as [u32; 0]);
        // A namer that is no candidate stays.
        assert_eq!(choose(&all[..2], 1, &HashSet::new(), &chain).ids, [] as [u32; 0]);
        let circle = HashMap::from([(1, vec![2]), (2, vec![1])]);
        assert_eq!(choose(&all, 1, &HashSet::new(), &circle).ids, [1, 2]);
    }

    proptest! {
        /// The one rule of soundness, against its definition: nothing that stays names what goes.
        #[test]
        fn nothing_that_stays_names_what_goes(
            edges in prop::collection::vec((0u32..12, 0u32..12), 0..30),
            held in prop::collection::hash_set(0u32..12, 0..3),
            candidates in 1u32..12,
            need in 0u64..200,
        ) {
            let all: Vec<Candidate> =
                (0..candidates).map(|id| c(id, 10, u64::from(id * 7 % 5))).collect();
            let mut namers: HashMap<u32, Vec<u32>> = HashMap::new();
            for &(from, to) in edges.iter().filter(|(from, to)| from != to) {
                namers.entry(to).or_default().push(from);
            }
            let choice = choose(&all, need, &held, &namers);
            let gone: HashSet<u32> = choice.ids.iter().copied().collect();
            prop_assert_eq!(gone.len(), choice.ids.len());
            prop_assert_eq!(choice.bytes, 10 * gone.len() as u64);
            prop_assert!(gone.is_disjoint(&held));
            for (from, to) in edges {
                prop_assert!(from == to || !gone.contains(&to) || gone.contains(&from));
            }
        }
    }
}
