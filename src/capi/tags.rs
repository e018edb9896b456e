//! Tags: what a thread's allocations belong to.
//!
//! A stack of tags is one number, a node in a tree: its topmost name and the stack below it. The
//! engine stores that number with every allocation made while it was the thread's current one;
//! asking for a name means all stacks that contain it. Nodes are never removed: their number is
//! that of different stacks a program ever used, and there is a limit.
#![forbid(unsafe_code)]

use crate::residency::tags::{self as current, NONE};
use parking_lot::RwLock;
use std::collections::HashMap;

/// Longest name in bytes.
pub const LONGEST: usize = 255;
/// Most different stacks.
const MOST: usize = 1 << 16;

#[derive(Debug)]
struct Node {
    below: u32,
    name: String,
}

#[derive(Debug, Default)]
struct Tree {
    /// Node `n` stands for the number `n + 1`; 0 is the empty stack.
    nodes: Vec<Node>,
    numbers: HashMap<u32, HashMap<String, u32>>,
}

impl Tree {
    fn number(&mut self, below: u32, name: &str) -> Option<u32> {
        if let Some(&number) = self.numbers.get(&below).and_then(|n| n.get(name)) {
            return Some(number);
        }
        if self.nodes.len() >= MOST {
            return None;
        }
        self.nodes.push(Node { below, name: name.to_owned() });
        let number = self.nodes.len() as u32;
        self.numbers.entry(below).or_default().insert(name.to_owned(), number);
        Some(number)
    }

    fn node(&self, number: u32) -> Option<&Node> {
        self.nodes.get((number as usize).checked_sub(1)?)
    }

    fn containing(&self, name: &str) -> Vec<u32> {
        // A stack is numbered after the one below it, so one pass is enough.
        let mut has = vec![false; self.nodes.len() + 1];
        for (at, node) in self.nodes.iter().enumerate() {
            has[at + 1] = node.name == name || has[node.below as usize];
        }
        (1..=self.nodes.len() as u32).filter(|&number| has[number as usize]).collect()
    }

    fn names(&self, number: u32) -> Vec<String> {
        let mut names = Vec::new();
        let mut at = number;
        while let Some(node) = self.node(at) {
            names.push(node.name.clone());
            at = node.below;
        }
        names.reverse();
        names
    }
}

static TREE: RwLock<Option<Tree>> = RwLock::new(None);

/// Puts `name` on top of this thread's tags; false when there are too many different stacks.
pub fn push(name: &str) -> bool {
    let below = current::current();
    let number = TREE.write().get_or_insert_default().number(below, name);
    number.map(current::set).is_some()
}

/// Takes this thread's topmost tag away; false when it has none.
pub fn pop() -> bool {
    let top = current::current();
    let below = TREE.read().as_ref().and_then(|tree| tree.node(top)).map(|node| node.below);
    below.map(current::set).is_some()
}

/// The numbers of all stacks that contain `name`, in ascending order.
pub fn containing(name: &str) -> Vec<u32> {
    TREE.read().as_ref().map_or_else(Vec::new, |tree| tree.containing(name))
}

/// The names of a stack, outermost first.
pub fn names(number: u32) -> Vec<String> {
    if number == NONE {
        return Vec::new();
    }
    TREE.read().as_ref().map_or_else(Vec::new, |tree| tree.names(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stacks_are_numbers() {
        assert!(!pop());
        assert!(push("tags-test-model") && push("tags-test-layer"));
        let inner = current::current();
        assert_eq!(names(inner), ["tags-test-model", "tags-test-layer"]);
        assert!(pop());
        let outer = current::current();
        assert!(push("tags-test-layer"));
        assert_eq!(current::current(), inner, "the same stack has the same number");
        assert!(pop() && pop() && !pop());
        assert_eq!(current::current(), NONE);
        assert_eq!(containing("tags-test-model"), [outer, inner]);
        assert_eq!(containing("tags-test-layer"), [inner]);
        assert!(containing("tags-test-none").is_empty());
        assert!(names(NONE).is_empty());
    }

    #[test]
    fn there_is_a_limit() {
        let mut tree = Tree::default();
        for n in 0..MOST {
            assert!(tree.number(0, &n.to_string()).is_some());
        }
        assert_eq!(tree.number(0, "more"), None);
        assert_eq!(tree.number(0, "7"), Some(8), "known ones are still found");
    }
}
