//! `.towlineignore`: which files are no manifests. Its lines mean what they mean in `.gitignore`.

/// The name of an ignore file, in any folder.
pub(crate) const FILE: &str = ".towlineignore";

/// The rules that hold in one folder: those of its own ignore file after those of the folders above.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rules {
    patterns: Vec<Pattern>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern {
    /// The folder of the ignore file, with a slash at its end unless it is the root.
    base: String,
    glob: Vec<u8>,
    /// Matched against the path below `base`, not against the name alone.
    anchored: bool,
    only_folders: bool,
    keep: bool,
}

impl Rules {
    /// These rules followed by those of an ignore file in `folder` (empty for the root).
    pub(crate) fn with(&self, folder: &str, text: &str) -> Self {
        let base = if folder.is_empty() {
            String::new()
        } else {
            format!("{folder}/")
        };
        let mut patterns = self.patterns.clone();
        patterns.extend(text.lines().filter_map(|line| Pattern::read(&base, line)));
        Self { patterns }
    }

    /// Whether a path from the root of the repository is ignored. The last pattern that matches
    /// decides.
    pub(crate) fn ignores(&self, path: &str, folder: bool) -> bool {
        self.patterns
            .iter()
            .rev()
            .find(|pattern| pattern.matches(path, folder))
            .is_some_and(|pattern| !pattern.keep)
    }
}

impl Pattern {
    fn read(base: &str, line: &str) -> Option<Self> {
        let line = line.trim_end_matches(['\r', ' ', '\t']);
        if line.is_empty() || line.starts_with('#') {
            return None;
        }
        let (keep, line) = match line.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, line),
        };
        let (only_folders, line) = match line.strip_suffix('/') {
            Some(rest) => (true, rest),
            None => (false, line),
        };
        let anchored = line.contains('/');
        let glob = line.strip_prefix('/').unwrap_or(line).as_bytes().to_vec();
        (!glob.is_empty()).then(|| Self {
            base: base.to_owned(),
            glob,
            anchored,
            only_folders,
            keep,
        })
    }

    fn matches(&self, path: &str, folder: bool) -> bool {
        if self.only_folders && !folder {
            return false;
        }
        let Some(below) = path.strip_prefix(&self.base) else {
            return false;
        };
        let text = match self.anchored {
            true => below,
            false => below.rsplit('/').next().unwrap_or(below),
        };
        glob(&self.glob, text.as_bytes())
    }
}

/// Matches `*` and `?` within a path segment, `**` across segments, and `[…]` classes.
///
/// Runs in the product of both lengths: `reach` holds, for the pattern read so far, at which places
/// of the text it can end.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let mut reach = vec![false; text.len() + 1];
    reach[0] = true;
    let mut at = 0;
    while at < pattern.len() {
        let mut next = vec![false; text.len() + 1];
        let rest = &pattern[at..];
        let used = if rest.starts_with(b"**/") {
            // Nothing at all, or any number of whole segments.
            let mut open = false;
            for place in 0..=text.len() {
                open |= reach[place];
                next[place] = reach[place] || (open && place > 0 && text[place - 1] == b'/');
            }
            3
        } else if rest.starts_with(b"**") {
            let mut open = false;
            for place in 0..=text.len() {
                open |= reach[place];
                next[place] = open;
            }
            2
        } else if rest[0] == b'*' {
            let mut open = false;
            for place in 0..=text.len() {
                open = reach[place] || (open && place > 0 && text[place - 1] != b'/');
                next[place] = open;
            }
            1
        } else {
            let (one, used) = One::read(rest);
            for place in 0..text.len() {
                next[place + 1] = reach[place] && one.is(text[place]);
            }
            used
        };
        reach = next;
        at += used;
    }
    reach[text.len()]
}

/// What matches exactly one byte.
enum One<'a> {
    Any,
    Is(u8),
    Class { negated: bool, set: &'a [u8] },
}

impl<'a> One<'a> {
    fn read(rest: &'a [u8]) -> (Self, usize) {
        match rest {
            [b'?', ..] => (Self::Any, 1),
            [b'\\', byte, ..] => (Self::Is(*byte), 2),
            [b'[', body @ ..] => {
                let negated = matches!(body.first(), Some(b'!' | b'^'));
                let start = usize::from(negated);
                // A bracket that comes first is a member, not the end.
                match body.iter().skip(start + 1).position(|byte| *byte == b']') {
                    Some(end) => {
                        let set = &body[start..=start + end];
                        (Self::Class { negated, set }, start + end + 3)
                    }
                    None => (Self::Is(b'['), 1),
                }
            }
            _ => (Self::Is(rest[0]), 1),
        }
    }

    fn is(&self, byte: u8) -> bool {
        match self {
            Self::Any => byte != b'/',
            Self::Is(own) => *own == byte,
            Self::Class { negated, set } => {
                let mut found = false;
                let mut at = 0;
                while at < set.len() {
                    if at + 2 < set.len() && set[at + 1] == b'-' {
                        found |= (set[at]..=set[at + 2]).contains(&byte);
                        at += 3;
                    } else {
                        found |= set[at] == byte;
                        at += 1;
                    }
                }
                byte != b'/' && found != *negated
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_mean_what_they_mean_in_gitignore() {
        for (lines, path, folder, ignored) in [
            ("*.json", "a/b.json", false, true),
            ("*.json", "a/b.yaml", false, false),
            ("/top.yaml", "top.yaml", false, true),
            ("/top.yaml", "a/top.yaml", false, false),
            ("a/*.yaml", "a/b.yaml", false, true),
            ("a/*.yaml", "a/b/c.yaml", false, false),
            ("**/test.yaml", "test.yaml", false, true),
            ("**/test.yaml", "a/b/test.yaml", false, true),
            ("a/**", "a/b/c.yaml", false, true),
            ("a/**/d.yaml", "a/d.yaml", false, true),
            ("a/**/d.yaml", "a/b/c/d.yaml", false, true),
            ("charts/", "x/charts", true, true),
            ("charts/", "x/charts", false, false),
            ("*.yaml\n!keep.yaml", "keep.yaml", false, false),
            ("# note\n\nv[0-9].yaml", "v3.yaml", false, true),
            ("v[!0-9].yaml", "v3.yaml", false, false),
            ("[]x].yaml", "].yaml", false, true),
            ("a?c.yaml", "abc.yaml", false, true),
            ("a?c.yaml", "a/c.yaml", false, false),
            ("\\!odd.yaml", "!odd.yaml", false, true),
            ("[", "[", false, true),
        ] {
            assert_eq!(
                Rules::default().with("", lines).ignores(path, folder),
                ignored,
                "{lines:?} on {path}"
            );
        }
    }

    #[test]
    fn a_file_of_a_folder_rules_below_it_alone() {
        let rules = Rules::default().with("", "*.json").with("a", "!x.json\n/y.yaml");
        for (path, ignored) in [
            ("x.json", true),
            ("a/x.json", false),
            ("a/y.yaml", true),
            ("y.yaml", false),
            ("ab/y.yaml", false),
        ] {
            assert_eq!(rules.ignores(path, false), ignored, "{path}");
        }
    }
}
