//! Label selectors and field selectors.
//!
//! <https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/>

mod field;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::{Object, labels};

pub use field::{FieldSelector, FieldSelectorError, FieldTerm};

/// A parsed label selector: all requirements must hold. Without any it matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    requirements: Vec<Requirement>,
    /// Matches no object at all.
    nothing: bool,
}

/// One condition on one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    pub key: String,
    pub test: Test,
}

/// What a [`Requirement`] asks of its label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    In(BTreeSet<String>),
    /// Also holds where the label is missing.
    NotIn(BTreeSet<String>),
    Exists,
    Missing,
    GreaterThan(i64),
    LessThan(i64),
}

/// What is wrong with a selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    #[error("unable to parse requirement: {0:?} is not a label key")]
    Key(String),
    #[error("unable to parse requirement: {0:?} is not a label value")]
    Value(String),
    #[error("unable to parse requirement: found {found:?}, expected {expected}")]
    Syntax { found: String, expected: &'static str },
    #[error("{operator:?} is not a valid label selector operator: use In, NotIn, Exists or DoesNotExist")]
    Operator { operator: String },
    #[error("key {key:?}: for operator {operator:?} values must {must}")]
    Values {
        key: String,
        operator: String,
        must: &'static str,
    },
}

impl Selector {
    /// Matches every object.
    #[must_use]
    pub fn everything() -> Self {
        Self::default()
    }

    /// Matches no object.
    #[must_use]
    pub fn nothing() -> Self {
        Self {
            requirements: Vec::new(),
            nothing: true,
        }
    }

    /// Matches objects that carry all of `labels`, as the selector of a Service does.
    #[must_use]
    pub fn of_labels(labels: &BTreeMap<String, String>) -> Self {
        let requirements = labels.iter().map(|(key, value)| Requirement {
            key: key.clone(),
            test: Test::In(BTreeSet::from([value.clone()])),
        });
        Self {
            requirements: requirements.collect(),
            nothing: false,
        }
    }

    /// Reads the selector of a workload, a policy or an affinity term. An empty one matches everything.
    pub fn from_label_selector(selector: &LabelSelector) -> Result<Self, SelectorError> {
        let mut requirements = Vec::new();
        for (key, value) in selector.match_labels.iter().flatten() {
            check_key(key)?;
            check_value(value)?;
            requirements.push(Requirement {
                key: key.clone(),
                test: Test::In(BTreeSet::from([value.clone()])),
            });
        }
        for expression in selector.match_expressions.iter().flatten() {
            check_key(&expression.key)?;
            let values: BTreeSet<String> = expression.values.iter().flatten().cloned().collect();
            for value in &values {
                check_value(value)?;
            }
            let wrong = |must| SelectorError::Values {
                key: expression.key.clone(),
                operator: expression.operator.clone(),
                must,
            };
            let test = match expression.operator.as_str() {
                "In" | "NotIn" if values.is_empty() => return Err(wrong("not be empty")),
                "In" => Test::In(values),
                "NotIn" => Test::NotIn(values),
                "Exists" | "DoesNotExist" if !values.is_empty() => return Err(wrong("be empty")),
                "Exists" => Test::Exists,
                "DoesNotExist" => Test::Missing,
                operator => {
                    return Err(SelectorError::Operator {
                        operator: operator.to_owned(),
                    });
                }
            };
            requirements.push(Requirement {
                key: expression.key.clone(),
                test,
            });
        }
        Ok(Self {
            requirements,
            nothing: false,
        })
    }

    /// The same for a field that may be missing: a missing selector matches nothing.
    pub fn from_optional(selector: Option<&LabelSelector>) -> Result<Self, SelectorError> {
        selector.map_or_else(|| Ok(Self::nothing()), Self::from_label_selector)
    }

    #[must_use]
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        !self.nothing && self.requirements.iter().all(|requirement| requirement.holds(labels))
    }

    /// Whether the object's labels match.
    #[must_use]
    pub fn matches_object(&self, object: &Object) -> bool {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        self.matches(object.meta.labels.as_deref().unwrap_or(&NONE))
    }

    /// Whether it has no requirement and matches everything.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        !self.nothing && self.requirements.is_empty()
    }

    #[must_use]
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }
}

impl Requirement {
    #[must_use]
    pub fn holds(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        let number = || value.and_then(|value| value.parse::<i64>().ok());
        match &self.test {
            Test::In(values) => value.is_some_and(|value| values.contains(value)),
            Test::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            Test::Exists => value.is_some(),
            Test::Missing => value.is_none(),
            Test::GreaterThan(bound) => number().is_some_and(|number| number > *bound),
            Test::LessThan(bound) => number().is_some_and(|number| number < *bound),
        }
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    /// Reads the form of the `labelSelector` query parameter: `a=b,c!=d,e in (x,y),!f,g`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut words = Words { rest: text };
        let mut requirements = Vec::new();
        if words.peek().is_none() {
            return Ok(Self::everything());
        }
        loop {
            requirements.push(words.requirement()?);
            match words.next() {
                None => break,
                Some(",") => {}
                Some(found) => return Err(syntax(Some(found), "',' or the end")),
            }
        }
        Ok(Self {
            requirements,
            nothing: false,
        })
    }
}

impl fmt::Display for Selector {
    /// The query form, which [`FromStr`] reads back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nothing {
            return f.write_str("<none>");
        }
        for (index, Requirement { key, test }) in self.requirements.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            let list = |values: &BTreeSet<String>| values.iter().cloned().collect::<Vec<_>>().join(",");
            match test {
                Test::In(values) if values.len() == 1 => write!(f, "{key}={}", list(values))?,
                Test::In(values) => write!(f, "{key} in ({})", list(values))?,
                Test::NotIn(values) if values.len() == 1 => write!(f, "{key}!={}", list(values))?,
                Test::NotIn(values) => write!(f, "{key} notin ({})", list(values))?,
                Test::Exists => f.write_str(key)?,
                Test::Missing => write!(f, "!{key}")?,
                Test::GreaterThan(bound) => write!(f, "{key}>{bound}")?,
                Test::LessThan(bound) => write!(f, "{key}<{bound}")?,
            }
        }
        Ok(())
    }
}

/// The words of a selector's query form: names, and the marks `, ( ) ! = == != < >`.
struct Words<'a> {
    rest: &'a str,
}

impl<'a> Words<'a> {
    fn split(&self) -> Option<(&'a str, &'a str)> {
        let rest = self.rest.trim_start();
        let length = match rest.as_bytes() {
            [] => return None,
            [b'=', b'=', ..] | [b'!', b'=', ..] => 2,
            [b',' | b'(' | b')' | b'!' | b'=' | b'<' | b'>', ..] => 1,
            _ => rest
                .find(|c: char| c.is_whitespace() || ",()!=<>".contains(c))
                .unwrap_or(rest.len()),
        };
        Some(rest.split_at(length))
    }

    fn peek(&self) -> Option<&'a str> {
        self.split().map(|(word, _)| word)
    }

    fn next(&mut self) -> Option<&'a str> {
        let (word, rest) = self.split()?;
        self.rest = rest;
        Some(word)
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        let negated = self.peek() == Some("!");
        if negated {
            self.next();
        }
        let key = self.name()?.ok_or_else(|| syntax(self.peek(), "a label key"))?;
        check_key(&key)?;
        if negated {
            return Ok(Requirement {
                key,
                test: Test::Missing,
            });
        }
        let test = match self.peek() {
            None | Some(",") => Test::Exists,
            Some(operator) => {
                self.next();
                match operator {
                    "=" | "==" => Test::In(BTreeSet::from([self.value()?])),
                    "!=" => Test::NotIn(BTreeSet::from([self.value()?])),
                    "in" => Test::In(self.values()?),
                    "notin" => Test::NotIn(self.values()?),
                    ">" => Test::GreaterThan(self.number()?),
                    "<" => Test::LessThan(self.number()?),
                    found => return Err(syntax(Some(found), "one of in, notin, =, ==, !=, >, <")),
                }
            }
        };
        Ok(Requirement { key, test })
    }

    /// The next word if it is no mark.
    fn name(&mut self) -> Result<Option<String>, SelectorError> {
        match self.peek() {
            Some(word) if !matches!(word, "," | "(" | ")" | "!" | "=" | "==" | "!=" | "<" | ">") => {
                self.next();
                Ok(Some(word.to_owned()))
            }
            _ => Ok(None),
        }
    }

    fn value(&mut self) -> Result<String, SelectorError> {
        let value = self.name()?.unwrap_or_default();
        check_value(&value)?;
        Ok(value)
    }

    fn number(&mut self) -> Result<i64, SelectorError> {
        let word = self.next();
        word.and_then(|word| word.parse().ok())
            .ok_or_else(|| syntax(word, "a whole number"))
    }

    fn values(&mut self) -> Result<BTreeSet<String>, SelectorError> {
        let open = self.next();
        if open != Some("(") {
            return Err(syntax(open, "'('"));
        }
        let mut values = BTreeSet::new();
        loop {
            values.insert(self.value()?);
            match self.next() {
                Some(",") => {}
                Some(")") => return Ok(values),
                found => return Err(syntax(found, "',' or ')'")),
            }
        }
    }
}

fn syntax(found: Option<&str>, expected: &'static str) -> SelectorError {
    SelectorError::Syntax {
        found: found.unwrap_or("").to_owned(),
        expected,
    }
}

fn check_key(key: &str) -> Result<(), SelectorError> {
    if labels::is_label_key(key) {
        Ok(())
    } else {
        Err(SelectorError::Key(key.to_owned()))
    }
}

fn check_value(value: &str) -> Result<(), SelectorError> {
    if labels::is_label_value(value) {
        Ok(())
    } else {
        Err(SelectorError::Value(value.to_owned()))
    }
}

#[cfg(test)]
mod tests;
