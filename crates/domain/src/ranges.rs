//! Sets of numbers as sorted, disjoint, inclusive ranges: the arithmetic under sources and ports.

use std::str::FromStr;

/// A number that is written with digits alone: Rust also reads a plus before them.
pub(crate) fn digits<T: FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

/// A set of numbers below 2^128.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ranges(Vec<(u128, u128)>);

impl Ranges {
    /// The set of all numbers of these inclusive ranges; a range whose end lies before its start is empty.
    pub fn of(ranges: impl IntoIterator<Item = (u128, u128)>) -> Self {
        let mut sorted: Vec<(u128, u128)> = ranges.into_iter().filter(|(start, end)| start <= end).collect();
        sorted.sort_unstable();
        let mut merged: Vec<(u128, u128)> = Vec::with_capacity(sorted.len());
        for (start, end) in sorted {
            match merged.last_mut() {
                Some(last) if last.1 == u128::MAX || start <= last.1 + 1 => last.1 = last.1.max(end),
                _ => merged.push((start, end)),
            }
        }
        Ranges(merged)
    }

    /// The ranges, sorted, with a gap between any two.
    pub fn iter(&self) -> impl Iterator<Item = (u128, u128)> + '_ {
        self.0.iter().copied()
    }

    /// Whether there is no number in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the number is in it.
    pub fn contains(&self, number: u128) -> bool {
        let behind = self.0.partition_point(|(start, _)| *start <= number);
        self.0[..behind].last().is_some_and(|(_, end)| number <= *end)
    }

    /// Everything in either.
    #[must_use]
    pub fn union(&self, other: &Ranges) -> Ranges {
        Ranges::of(self.iter().chain(other.iter()))
    }

    /// Everything in both.
    #[must_use]
    pub fn intersection(&self, other: &Ranges) -> Ranges {
        let pairs =
            self.iter().scan(0, |passed, range| Some(other.meeting(range, passed).map(move |(s, e)| (s.max(range.0), e.min(range.1)))));
        Ranges::of(pairs.flatten())
    }

    /// Everything in this one that is not in the other.
    #[must_use]
    pub fn minus(&self, other: &Ranges) -> Ranges {
        let (mut left, mut passed) = (Vec::new(), 0);
        for (start, end) in self.iter() {
            let mut from = Some(start);
            for (cut_start, cut_end) in other.meeting((start, end), &mut passed) {
                if let Some(begin) = from.filter(|begin| *begin < cut_start) {
                    left.push((begin, cut_start - 1));
                }
                from = cut_end.checked_add(1);
            }
            if let Some(begin) = from.filter(|begin| *begin <= end) {
                left.push((begin, end));
            }
        }
        Ranges::of(left)
    }

    /// The ranges that meet this one. `passed` counts those that lie before it, and so before every later one: whoever goes
    /// through another set in its order looks at each once.
    fn meeting(&self, (start, end): (u128, u128), passed: &mut usize) -> impl Iterator<Item = (u128, u128)> + use<'_> {
        *passed += self.0[*passed..].iter().take_while(|(_, e)| *e < start).count();
        self.0[*passed..].iter().copied().take_while(move |(s, _)| *s <= end)
    }

    /// How many numbers are in it; the whole space counts as `u128::MAX`.
    pub fn size(&self) -> u128 {
        self.iter().fold(0u128, |sum, (start, end)| sum.saturating_add((end - start).saturating_add(1)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn some_ranges() -> impl Strategy<Value = Vec<(u128, u128)>> {
        let number = prop_oneof![0u128..60, (u128::MAX - 30)..=u128::MAX];
        proptest::collection::vec((number.clone(), number), 0..6)
    }

    fn all_numbers() -> impl Iterator<Item = u128> {
        (0u128..62).chain((u128::MAX - 31)..=u128::MAX)
    }

    fn holds(ranges: &[(u128, u128)], number: u128) -> bool {
        ranges.iter().any(|(s, e)| *s <= number && number <= *e)
    }

    proptest! {
        #[test]
        fn set_arithmetic_agrees_with_asking_number_by_number(a in some_ranges(), b in some_ranges()) {
            let (x, y) = (Ranges::of(a.clone()), Ranges::of(b.clone()));
            for n in all_numbers() {
                let (in_a, in_b) = (holds(&a, n), holds(&b, n));
                prop_assert_eq!(x.contains(n), in_a);
                prop_assert_eq!(x.union(&y).contains(n), in_a || in_b);
                prop_assert_eq!(x.intersection(&y).contains(n), in_a && in_b);
                prop_assert_eq!(x.minus(&y).contains(n), in_a && !in_b);
            }
        }

        #[test]
        fn one_set_has_one_form(mut a in some_ranges()) {
            let first = Ranges::of(a.clone());
            a.reverse();
            prop_assert_eq!(&first, &Ranges::of(a));
            prop_assert_eq!(&first, &first.union(&first));
            let gaps = first.0.windows(2).all(|w| w[0].1 + 1 < w[1].0);
            prop_assert!(gaps);
        }
    }

    #[test]
    fn the_size_counts_both_ends_and_does_not_overflow() {
        assert_eq!(Ranges::of([(1, 3), (5, 5)]).size(), 4);
        assert_eq!(Ranges::of([(0, u128::MAX)]).size(), u128::MAX);
        assert_eq!(Ranges::of([(3, 2)]).size(), 0);
        assert!(Ranges::of([(3, 2)]).is_empty());
        assert!(!Ranges::of([(2, 2)]).is_empty());
    }
}
