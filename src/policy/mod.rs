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

/// The order in which blocks go: least recently used first (on equal age the larger first, so that
/// fewer blocks move), in groups. A candidate that is `held` stays. One that other candidates name
/// goes only together with all of those (`namers`): after each group nothing that stays names
/// anything that has gone.
#[derive(Debug)]
pub struct Victims<'a> {
    order: std::vec::IntoIter<Candidate>,
    candidates: HashSet<u32>,
    gone: HashSet<u32>,
    staying: HashSet<u32>,
    held: &'a HashSet<u32>,
    namers: &'a HashMap<u32, Vec<u32>>,
    named: u64,
}

impl<'a> Victims<'a> {
    /// All of `candidates`.
    pub fn new(
        candidates: &[Candidate],
        held: &'a HashSet<u32>,
        namers: &'a HashMap<u32, Vec<u32>>,
    ) -> Victims<'a> {
        let mut order = candidates.to_vec();
        order.sort_by_key(|c| (c.last_use, Reverse(c.bytes), c.id));
        Victims {
            candidates: order.iter().map(|c| c.id).collect(),
            order: order.into_iter(),
            gone: HashSet::new(),
            staying: HashSet::new(),
            held,
            namers,
            named: 0,
        }
    }

    /// Blocks of the last group that have not gone after all: what they name stays as well.
    pub fn stay(&mut self, ids: &[u32]) {
        for id in ids {
            self.gone.remove(id);
            self.staying.insert(*id);
        }
    }

    /// Candidates that were passed over because something that stays names them.
    pub fn named(&self) -> u64 {
        self.named
    }
}

impl Iterator for Victims<'_> {
    type Item = Vec<u32>;

    fn next(&mut self) -> Option<Vec<u32>> {
        loop {
            let id = self.order.next()?.id;
            if self.gone.contains(&id) || self.staying.contains(&id) {
                continue;
            }
            let stays = |id: &u32| {
                self.held.contains(id) || self.staying.contains(id) || !self.candidates.contains(id)
            };
            let Some(group) = with_namers(id, stays, &self.gone, self.namers) else {
                self.named += 1;
                continue;
            };
            self.gone.extend(&group);
            return Some(group);
        }
    }
}

/// The block and, over any number of steps, every block that names it and has not gone yet; `None`
/// if one of them stays.
fn with_namers(
    id: u32,
    stays: impl Fn(&u32) -> bool,
    gone: &HashSet<u32>,
    namers: &HashMap<u32, Vec<u32>>,
) -> Option<Vec<u32>> {
    let mut group = vec![id];
    let mut seen = HashSet::from([id]);
    let mut next = 0;
    while let Some(&id) = group.get(next) {
        next += 1;
        if stays(&id) {
            return None;
        }
        for &namer in namers.get(&id).into_iter().flatten() {
            if !gone.contains(&namer) && seen.insert(namer) {
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

    fn groups(all: &[Candidate], held: &[u32], namers: &[(u32, &[u32])]) -> (Vec<Vec<u32>>, u64) {
        let held: HashSet<u32> = held.iter().copied().collect();
        let namers = namers.iter().map(|&(named, by)| (named, by.to_vec())).collect();
        let mut victims = Victims::new(all, &held, &namers);
        let groups = victims.by_ref().collect();
        (groups, victims.named())
    }

    #[test]
    fn oldest_first() {
        let all = [c(1, 10, 30), c(2, 10, 10), c(3, 10, 20)];
        assert_eq!(groups(&all, &[], &[]).0, [[2], [3], [1]]);
        assert_eq!(groups(&[c(1, 64, 20), c(2, 4, 10)], &[], &[]).0[0], [2], "however small");
    }

    #[test]
    fn larger_first_on_equal_age() {
        assert_eq!(groups(&[c(1, 4, 5), c(2, 64, 5)], &[], &[]).0, [[2], [1]]);
    }

    #[test]
    fn what_is_named_from_elsewhere_makes_room_for_the_next() {
        let all = [c(1, 10, 1), c(2, 10, 2), c(3, 10, 3)];
        assert_eq!(groups(&all, &[1], &[]), (vec![vec![2], vec![3]], 1));
    }

    #[test]
    fn what_others_name_goes_with_them_or_not_at_all() {
        let all = [c(1, 10, 1), c(2, 10, 2), c(3, 10, 3)];
        let chain: [(u32, &[u32]); 2] = [(1, &[2]), (2, &[3])];
        assert_eq!(groups(&all, &[], &chain).0, [[1, 2, 3]]);
        assert_eq!(groups(&all, &[3], &chain), (vec![], 3));
        // A namer that is no candidate stays.
        assert_eq!(groups(&all[..2], &[], &chain), (vec![], 2));
        assert_eq!(groups(&all, &[], &[(1, &[2]), (2, &[1])]).0, [vec![1, 2], vec![3]]);
    }

    #[test]
    fn what_has_stayed_after_all_keeps_what_it_names() {
        let all = [c(1, 10, 1), c(2, 10, 2), c(3, 10, 3)];
        let (held, namers) = (HashSet::new(), HashMap::from([(2, vec![1]), (3, vec![1])]));
        let mut victims = Victims::new(&all, &held, &namers);
        assert_eq!(victims.next(), Some(vec![1]));
        victims.stay(&[1]);
        assert_eq!(victims.next(), None);
        let mut victims = Victims::new(&all, &held, &namers);
        assert_eq!((victims.next(), victims.next()), (Some(vec![1]), Some(vec![2])));
    }

    proptest! {
        /// The one rule of soundness, against its definition: nothing that stays names what goes.
        #[test]
        fn nothing_that_stays_names_what_goes(
            edges in prop::collection::vec((0u32..12, 0u32..12), 0..30),
            held in prop::collection::hash_set(0u32..12, 0..3),
            failing in prop::collection::hash_set(0u32..12, 0..3),
            candidates in 1u32..12,
            most in 0usize..12,
        ) {
            let all: Vec<Candidate> =
                (0..candidates).map(|id| c(id, 10, u64::from(id * 7 % 5))).collect();
            let mut namers: HashMap<u32, Vec<u32>> = HashMap::new();
            for &(from, to) in edges.iter().filter(|(from, to)| from != to) {
                namers.entry(to).or_default().push(from);
            }
            let mut victims = Victims::new(&all, &held, &namers);
            let mut gone: HashSet<u32> = HashSet::new();
            while gone.len() < most && let Some(group) = victims.next() {
                // All of a group stay when one of them must.
                if group.iter().any(|id| failing.contains(id)) {
                    victims.stay(&group);
                    continue;
                }
                for id in group {
                    prop_assert!(gone.insert(id), "twice: {id}");
                }
            }
            prop_assert!(gone.is_disjoint(&held) && gone.is_disjoint(&failing));
            for (from, to) in edges {
                prop_assert!(from == to || !gone.contains(&to) || gone.contains(&from));
            }
        }
    }
}
