//! Sets of completion indexes, as a Job's status and its policies write them: `1,3-5,7`.

use std::fmt;

/// A set of indexes, kept as ranges that neither touch nor overlap, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Indexes(Vec<(u32, u32)>);

/// Why a text is no set of indexes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IndexesError {
    #[error("{0:?} is no index: numbers and ranges such as 3-5 are, separated by commas")]
    NotAnIndex(String),
    #[error("{0:?} comes out of order: indexes rise from left to right")]
    OutOfOrder(String),
}

impl Indexes {
    /// Reads a set. The empty text is the empty set.
    pub fn parse(text: &str) -> Result<Self, IndexesError> {
        let mut set = Self::default();
        if text.is_empty() {
            return Ok(set);
        }
        for part in text.split(',') {
            let number = |digits: &str| {
                let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
                let number = plain.then(|| digits.parse::<u32>().ok()).flatten();
                number.ok_or_else(|| IndexesError::NotAnIndex(part.to_owned()))
            };
            let (first, last) = match part.split_once('-') {
                Some((first, last)) => (number(first)?, number(last)?),
                None => (number(part)?, number(part)?),
            };
            if first > last || !set.append(first, last) {
                return Err(IndexesError::OutOfOrder(part.to_owned()));
            }
        }
        Ok(set)
    }

    /// The indexes below `end` of a status; what cannot be read, and what is not below, is left out.
    #[must_use]
    pub fn of_status(text: Option<&str>, end: u32) -> Self {
        let mut set = Self::default();
        for part in text.into_iter().flat_map(|text| text.split(',')) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            if let (Ok(first), Ok(last)) = (first.parse::<u32>(), last.parse::<u32>())
                && first < end
                && first <= last
            {
                set.append(first, last.min(end - 1));
            }
        }
        set
    }

    /// Puts a range behind all others; false if it does not lie there.
    fn append(&mut self, first: u32, last: u32) -> bool {
        match self.0.last_mut() {
            Some((_, before)) if *before >= first => return false,
            Some((_, before)) if before.checked_add(1) == Some(first) => *before = last,
            _ => self.0.push((first, last)),
        }
        true
    }

    #[must_use]
    pub fn contains(&self, index: u32) -> bool {
        let at = self.0.partition_point(|(_, last)| *last < index);
        self.0.get(at).is_some_and(|(first, _)| *first <= index)
    }

    /// Puts an index in; false if it was there.
    pub fn insert(&mut self, index: u32) -> bool {
        let at = self.0.partition_point(|(_, last)| *last < index);
        if self.0.get(at).is_some_and(|(first, _)| *first <= index) {
            return false;
        }
        let joins_left = at > 0 && self.0[at - 1].1.checked_add(1) == Some(index);
        let joins_right = self
            .0
            .get(at)
            .is_some_and(|(first, _)| index.checked_add(1) == Some(*first));
        match (joins_left, joins_right) {
            (true, true) => {
                let (_, last) = self.0.remove(at);
                self.0[at - 1].1 = last;
            }
            (true, false) => self.0[at - 1].1 = index,
            (false, true) => self.0[at].0 = index,
            (false, false) => self.0.insert(at, (index, index)),
        }
        true
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iter().map(|(first, last)| (last - first) as usize + 1).sum()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The largest index.
    #[must_use]
    pub fn last(&self) -> Option<u32> {
        self.0.last().map(|(_, last)| *last)
    }

    /// The indexes, in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().flat_map(|(first, last)| *first..=*last)
    }

    /// How many of these indexes are in the other set.
    #[must_use]
    pub fn common(&self, other: &Self) -> usize {
        let (mut left, mut right, mut count) = (0, 0, 0);
        while let (Some(a), Some(b)) = (self.0.get(left), other.0.get(right)) {
            let (first, last) = (a.0.max(b.0), a.1.min(b.1));
            if first <= last {
                count += (last - first) as usize + 1;
            }
            if a.1 <= b.1 {
                left += 1;
            } else {
                right += 1;
            }
        }
        count
    }

    /// The indexes below `end` that are not in the set, in order.
    pub fn missing(&self, end: u32) -> impl Iterator<Item = u32> + '_ {
        let starts = std::iter::once(0).chain(self.0.iter().map(|(_, last)| last.saturating_add(1)));
        let ends = self.0.iter().map(|(first, _)| *first).chain(std::iter::once(end));
        starts.zip(ends).flat_map(move |(from, to)| from..to.min(end))
    }
}

impl FromIterator<u32> for Indexes {
    fn from_iter<I: IntoIterator<Item = u32>>(indexes: I) -> Self {
        let mut set = Self::default();
        for index in indexes {
            set.insert(index);
        }
        set
    }
}

impl fmt::Display for Indexes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (first, last)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            match last - first {
                0 => write!(f, "{comma}{first}")?,
                1 => write!(f, "{comma}{first},{last}")?,
                _ => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_read_and_write() {
        for (text, indexes, shown) in [
            ("", vec![], ""),
            ("0", vec![0], "0"),
            ("1,3-5,7", vec![1, 3, 4, 5, 7], "1,3-5,7"),
            ("1,2", vec![1, 2], "1,2"),
            ("1,2,3", vec![1, 2, 3], "1-3"),
            ("4-5", vec![4, 5], "4,5"),
            ("1-3,4-6", vec![1, 2, 3, 4, 5, 6], "1-6"),
        ] {
            let set = Indexes::parse(text).expect(text);
            assert_eq!(set.iter().collect::<Vec<_>>(), indexes, "{text}");
            assert_eq!(set.to_string(), shown);
            assert_eq!(set.len(), indexes.len());
            assert_eq!(set.last(), indexes.last().copied());
        }
        for bad in ["a", "1,", "-", "1-", "-1", "+1", "1,,2", "99999999999"] {
            assert!(matches!(Indexes::parse(bad), Err(IndexesError::NotAnIndex(_))), "{bad}");
        }
        for bad in ["3,1", "1,1", "5-3", "1-4,3"] {
            assert!(matches!(Indexes::parse(bad), Err(IndexesError::OutOfOrder(_))), "{bad}");
        }
    }

    #[test]
    fn a_status_is_read_as_far_as_it_goes() {
        assert_eq!(Indexes::of_status(None, 5), Indexes::default());
        assert_eq!(Indexes::of_status(Some("0,2-9,x,7"), 5).to_string(), "0,2-4");
        assert_eq!(Indexes::of_status(Some("0-3"), 0), Indexes::default());
    }

    proptest! {
        #[test]
        fn it_is_a_set(put in proptest::collection::vec(0u32..40, 0..60), other in proptest::collection::btree_set(0u32..40, 0..20)) {
            let mut set = Indexes::default();
            let mut model = BTreeSet::new();
            for index in put {
                prop_assert_eq!(set.insert(index), model.insert(index));
            }
            prop_assert_eq!(set.iter().collect::<Vec<_>>(), model.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(set.len(), model.len());
            for index in 0..41 {
                prop_assert_eq!(set.contains(index), model.contains(&index));
            }
            let missing: Vec<u32> = (0..30).filter(|index| !model.contains(index)).collect();
            prop_assert_eq!(set.missing(30).collect::<Vec<_>>(), missing);
            prop_assert_eq!(Indexes::parse(&set.to_string()).expect("it is one"), set.clone());
            let common = model.intersection(&other).count();
            prop_assert_eq!(set.common(&other.into_iter().collect()), common);
        }
    }
}
