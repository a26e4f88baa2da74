//! Lists of names and values: less code than a map, and as quick at these lengths.

use std::collections::BinaryHeap;

/// The values in their order. A faster sort takes ten times the code.
pub fn sorted<T: Ord>(values: Vec<T>) -> Vec<T> {
    BinaryHeap::from(values).into_sorted_vec()
}

/// Removes a pair if a later one has the same name.
pub fn keep_last<K: AsRef<[u8]>, V>(pairs: &mut Vec<(K, V)>) {
    let names = pairs.iter().enumerate().map(|(index, (name, _))| (name.as_ref(), index));
    let order: Vec<(&[u8], usize)> = sorted(names.collect());
    let mut is_last = vec![true; order.len()];
    for neighbours in order.windows(2) {
        is_last[neighbours[0].1] = neighbours[0].0 != neighbours[1].0;
    }
    let mut is_last = is_last.into_iter();
    pairs.retain(|_| is_last.next() == Some(true));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_a_name_is_kept() {
        let mut pairs = vec![("b", 1), ("a", 2), ("b", 3), ("c", 4), ("b", 5), ("a", 6)];
        keep_last(&mut pairs);
        assert_eq!(pairs, [("c", 4), ("b", 5), ("a", 6)]);
        keep_last(&mut pairs);
        assert_eq!(pairs.len(), 3);
        pairs.clear();
        keep_last(&mut pairs);
        assert!(pairs.is_empty());
    }
}
