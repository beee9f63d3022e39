//! Paths of fields, and values together with the path that led to them.

use std::fmt;

use serde_json::Value;

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Segment {
    Key(Box<str>),
    Index(usize),
}

/// The path of a field, shown as `spec.template.spec.containers[0].image`. A key that is not a
/// plain word stands in brackets: `metadata.labels[example.com/tier]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldPath(Vec<Segment>);

impl FieldPath {
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.0
    }

    /// The path of a key below this one.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        self.with(Segment::Key(key.into()))
    }

    /// The path of an item of the list that this path leads to.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        self.with(Segment::Index(index))
    }

    fn with(&self, segment: Segment) -> Self {
        let mut segments = self.0.clone();
        segments.push(segment);
        Self(segments)
    }

    /// The path of these keys, one below the other.
    pub(crate) fn of_keys(keys: &[&str]) -> Self {
        Self(keys.iter().map(|key| Segment::Key((*key).into())).collect())
    }

    /// The path of a field that no list leads to, from its dotted form.
    pub(crate) fn of(dotted: &str) -> Self {
        Self(dotted.split('.').map(|key| Segment::Key(key.into())).collect())
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Index(index) => write!(f, "[{index}]")?,
                Segment::Key(key)
                    if key
                        .chars()
                        .all(|letter| letter.is_ascii_alphanumeric() || letter == '$') =>
                {
                    if index > 0 {
                        f.write_str(".")?;
                    }
                    f.write_str(key)?;
                }
                Segment::Key(key) => write!(f, "[{key}]")?,
            }
        }
        Ok(())
    }
}

#[derive(Clone, Copy)]
enum Step<'p> {
    Root,
    Key(&'p str),
    Item(usize),
    KeyItem(&'p str, usize),
}

/// A value of an object and how it was reached. Paths live on the stack and are written out only
/// for a finding.
#[derive(Clone, Copy)]
pub(crate) struct At<'p, 'v> {
    parent: Option<&'p At<'p, 'v>>,
    step: Step<'p>,
    pub(crate) value: &'v Value,
    /// The values of a Secret are never shown.
    hidden: bool,
}

impl<'v> At<'_, 'v> {
    pub(crate) fn root(value: &'v Value, hidden: bool) -> Self {
        Self {
            parent: None,
            step: Step::Root,
            value,
            hidden,
        }
    }

    /// The value at `key` of a mapping; none where it is missing or null.
    pub(crate) fn get<'s>(&'s self, key: &'s str) -> Option<At<'s, 'v>> {
        let value = self.value.get(key)?;
        if value.is_null() {
            return None;
        }
        Some(self.step(Step::Key(key), value))
    }

    fn step<'s>(&'s self, step: Step<'s>, value: &'v Value) -> At<'s, 'v> {
        At {
            // A parent may be seen through a shorter lifetime: it is only read.
            parent: Some(self),
            step,
            value,
            hidden: self.hidden,
        }
    }

    /// The items of the list at `key`; nothing where there is no list.
    pub(crate) fn items<'s>(&'s self, key: &'s str) -> impl Iterator<Item = At<'s, 'v>> + use<'s, 'v> {
        let list = self
            .value
            .get(key)
            .and_then(Value::as_array)
            .map_or(&[][..], Vec::as_slice);
        list.iter()
            .enumerate()
            .map(move |(index, value)| self.step(Step::KeyItem(key, index), value))
    }

    /// The items of this list.
    pub(crate) fn elements<'s>(&'s self) -> impl Iterator<Item = At<'s, 'v>> + use<'s, 'v> {
        let list = self.value.as_array().map_or(&[][..], Vec::as_slice);
        list.iter()
            .enumerate()
            .map(move |(index, value)| self.step(Step::Item(index), value))
    }

    /// The entries of this mapping.
    pub(crate) fn entries<'s>(&'s self) -> impl Iterator<Item = (&'v str, At<'s, 'v>)> + use<'s, 'v>
    where
        'v: 's,
    {
        self.value
            .as_object()
            .into_iter()
            .flatten()
            .map(move |(key, value)| (key.as_str(), self.step(Step::Key(key), value)))
    }

    /// The text at `key`, where it is one.
    pub(crate) fn text(&self, key: &str) -> Option<&'v str> {
        self.value.get(key).and_then(Value::as_str)
    }

    pub(crate) fn int(&self, key: &str) -> Option<i64> {
        self.value.get(key).and_then(Value::as_i64)
    }

    pub(crate) fn flag(&self, key: &str) -> bool {
        self.value.get(key).and_then(Value::as_bool).unwrap_or(false)
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.value.get(key).is_some_and(|value| !value.is_null())
    }

    pub(crate) fn path(&self) -> FieldPath {
        let mut segments = Vec::new();
        self.collect(&mut segments);
        FieldPath(segments)
    }

    /// The path of a field of this mapping that may be missing.
    pub(crate) fn path_to(&self, key: &str) -> FieldPath {
        let mut path = self.path();
        path.0.push(Segment::Key(key.into()));
        path
    }

    fn collect(&self, segments: &mut Vec<Segment>) {
        if let Some(parent) = self.parent {
            parent.collect(segments);
        }
        match self.step {
            Step::Root => {}
            Step::Key(key) => segments.push(Segment::Key(key.into())),
            Step::Item(index) => segments.push(Segment::Index(index)),
            Step::KeyItem(key, index) => {
                segments.push(Segment::Key(key.into()));
                segments.push(Segment::Index(index));
            }
        }
    }

    /// The value as a message may show it.
    pub(crate) fn shown(&self) -> String {
        if self.hidden {
            return "the value".to_owned();
        }
        let mut text = self.value.to_string();
        if let Some((end, _)) = text.char_indices().nth(60) {
            text.truncate(end);
            text.push('…');
        }
        text
    }

    pub(crate) fn is_hidden(&self) -> bool {
        self.hidden
    }
}
