//! Who comes before whom, and whether that goes in a circle.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A directed graph over transactions, each edge with the reason for it.
#[derive(Debug, Clone)]
pub(super) struct Graph<R> {
    after: BTreeMap<u64, BTreeMap<u64, R>>,
}

/// An edge of a path: from, to, and why.
pub(super) type Edge<'g, R> = (u64, u64, &'g R);

impl<R> Default for Graph<R> {
    fn default() -> Self {
        Self { after: BTreeMap::new() }
    }
}

impl<R> Graph<R> {
    /// `from` comes before `to`. The first reason stands.
    pub(super) fn add(&mut self, from: u64, to: u64, reason: R) {
        if from != to {
            self.after.entry(from).or_default().entry(to).or_insert(reason);
            self.after.entry(to).or_default();
        }
    }

    /// The shortest path from one of `from` to one of `to`. No edges where they share one.
    pub(super) fn path(&self, from: &BTreeSet<u64>, to: &BTreeSet<u64>) -> Option<(u64, Vec<Edge<'_, R>>)> {
        let mut came_by: BTreeMap<u64, Option<u64>> = from.iter().map(|start| (*start, None)).collect();
        let mut queue: VecDeque<u64> = from.iter().copied().collect();
        while let Some(node) = queue.pop_front() {
            if to.contains(&node) {
                return Some((node, self.way_back(node, &came_by)));
            }
            for next in self.after.get(&node).into_iter().flat_map(BTreeMap::keys) {
                came_by.entry(*next).or_insert_with(|| {
                    queue.push_back(*next);
                    Some(node)
                });
            }
        }
        None
    }

    fn way_back(&self, mut node: u64, came_by: &BTreeMap<u64, Option<u64>>) -> Vec<Edge<'_, R>> {
        let mut path = Vec::new();
        while let Some(Some(before)) = came_by.get(&node) {
            if let Some(reason) = self.after.get(before).and_then(|after| after.get(&node)) {
                path.push((*before, node, reason));
            }
            node = *before;
        }
        path.reverse();
        path
    }

    /// A short circle, if there is any.
    pub(super) fn circle(&self) -> Option<Vec<Edge<'_, R>>> {
        let left = self.left_over();
        // Whatever is left lies on a circle or behind one: the shortest through any of the first few will do.
        let circle_at = |node: &u64| {
            let next = self.after.get(node)?;
            let starts = next.keys().copied().collect();
            let (_, path) = self.path(&starts, &BTreeSet::from([*node]))?;
            let first = path.first().map_or(*node, |(from, _, _)| *from);
            let reason = next.get(&first)?;
            Some(std::iter::once((*node, first, reason)).chain(path).collect::<Vec<_>>())
        };
        left.iter().filter_map(circle_at).take(64).min_by_key(Vec::len)
    }

    /// What is left when those that nobody comes before are taken away, again and again.
    fn left_over(&self) -> BTreeSet<u64> {
        let mut before: BTreeMap<u64, usize> = self.after.keys().map(|node| (*node, 0)).collect();
        for to in self.after.values().flat_map(BTreeMap::keys) {
            *before.entry(*to).or_default() += 1;
        }
        let mut free: Vec<u64> =
            before.iter().filter(|(_, count)| **count == 0).map(|(node, _)| *node).collect();
        while let Some(node) = free.pop() {
            before.remove(&node);
            for to in self.after.get(&node).into_iter().flat_map(BTreeMap::keys) {
                if let Some(count) = before.get_mut(to) {
                    *count -= 1;
                    if *count == 0 {
                        free.push(*to);
                    }
                }
            }
        }
        before.into_keys().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[(u64, u64)]) -> Graph<()> {
        let mut graph = Graph::default();
        for (from, to) in edges {
            graph.add(*from, *to, ());
        }
        graph
    }

    #[test]
    fn a_line_is_no_circle_and_a_circle_is_found_behind_it() {
        assert_eq!(graph(&[(1, 2), (2, 3), (1, 3)]).circle(), None);
        let behind = graph(&[(1, 2), (2, 3), (3, 4), (4, 2), (4, 5)]);
        let circle = behind.circle().unwrap();
        let edges: Vec<_> = circle.iter().map(|(from, to, ())| (*from, *to)).collect();
        assert_eq!(edges, [(2, 3), (3, 4), (4, 2)]);
    }

    #[test]
    fn two_that_come_before_each_other_are_a_circle() {
        let circle = graph(&[(7, 9), (9, 7)]);
        assert_eq!(circle.circle().unwrap().len(), 2);
    }

    #[test]
    fn the_shortest_path_is_found() {
        let graph = graph(&[(1, 2), (2, 3), (3, 4), (1, 4)]);
        let (end, path) = graph.path(&BTreeSet::from([1]), &BTreeSet::from([4])).unwrap();
        assert_eq!((end, path.len()), (4, 1));
        assert!(graph.path(&BTreeSet::from([4]), &BTreeSet::from([1])).is_none());
        assert_eq!(graph.path(&BTreeSet::from([4]), &BTreeSet::from([4])).unwrap().1.len(), 0);
    }
}
