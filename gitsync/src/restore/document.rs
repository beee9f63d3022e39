//! One document of a file put back to what it was, byte for byte; the rest of the file stays. Pure.

use std::ops::Range;

use schemas::{
    ContentHash, Key,
    manifest::{self, Declared, Parsed, folder_namespace},
};

/// Why a document cannot be put back by itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Entangled {
    #[error("its file holds several objects in one JSON or one List, which are not taken apart")]
    Together,
    #[error("its document begins on the line of its --- mark; put it below")]
    Inline,
    #[error("putting its document back would change {0} as well")]
    Others(Key),
    #[error("its file would not be valid: {0}")]
    Invalid(String),
    #[error("its document is not found in the file")]
    Missing,
}

/// A file as some commit has it.
#[derive(Clone, Copy)]
pub(super) struct File<'a> {
    pub(super) path: &'a str,
    pub(super) bytes: &'a [u8],
}

impl File<'_> {
    fn parsed(&self) -> Parsed {
        manifest::parse(self.path, self.bytes, folder_namespace(self.path))
    }

    /// The object as this file declares it.
    pub(super) fn declared(&self, key: &Key) -> Option<Declared> {
        self.parsed().objects.into_iter().find(|object| object.key == *key)
    }
}

/// The file `now` with the document of `key` as it is in `then`.
pub(super) fn put_back(now: File<'_>, then: File<'_>, key: &Key) -> Result<Vec<u8>, Entangled> {
    let (here, there) = (part(now, key)?, part(then, key)?);
    let (before, after) = (&now.bytes[..here.start], &now.bytes[here.end..]);
    let text = &then.bytes[there];
    let mut bytes = Vec::with_capacity(now.bytes.len() + text.len());
    bytes.extend_from_slice(before);
    bytes.extend_from_slice(text);
    if !after.is_empty() && !text.ends_with(b"\n") {
        bytes.push(b'\n');
    }
    bytes.extend_from_slice(after);
    let wanted = then.declared(key).ok_or(Entangled::Missing)?;
    check(now, File { bytes: &bytes, ..now }, key, wanted.hash)?;
    Ok(bytes)
}

/// Makes sure that nothing but the object changed.
fn check(before: File<'_>, after: File<'_>, key: &Key, wanted: ContentHash) -> Result<(), Entangled> {
    let (before, after) = (before.parsed(), after.parsed());
    if let Some(problem) = after
        .problems
        .iter()
        .find(|problem| after.has_errors() && problem.object.is_none())
    {
        return Err(Entangled::Invalid(problem.message.clone()));
    }
    let find = |parsed: &Parsed, key: &Key| {
        let mut all = parsed.objects.iter();
        all.find(|object| object.key == *key).map(|object| object.hash)
    };
    if find(&after, key) != Some(wanted) {
        let problem = after
            .problems
            .iter()
            .find(|problem| problem.object.as_ref() == Some(key));
        return Err(problem.map_or(Entangled::Together, |problem| {
            Entangled::Invalid(problem.message.clone())
        }));
    }
    let all = before.objects.iter().chain(&after.objects).map(|object| &object.key);
    match all
        .filter(|other| *other != key)
        .find(|other| find(&before, other) != find(&after, other))
    {
        Some(other) => Err(Entangled::Others(other.clone())),
        None => Ok(()),
    }
}

/// The bytes of the object's document, without the marks around it.
fn part(file: File<'_>, key: &Key) -> Result<Range<usize>, Entangled> {
    let parsed = file.parsed();
    let own = parsed.objects.iter().find(|object| object.key == *key);
    let line = own.ok_or(Entangled::Missing)?.line;
    let is_json = file.path.to_ascii_lowercase().ends_with(".json");
    let (lines, range) = if is_json {
        (1..u32::MAX, 0..file.bytes.len())
    } else {
        document(file.bytes, line)?
    };
    if parsed
        .objects
        .iter()
        .any(|object| object.key != *key && lines.contains(&object.line))
    {
        return Err(Entangled::Together);
    }
    Ok(range)
}

/// The lines (from 1) and bytes of the YAML document that `line` is in. A mark at the beginning of a
/// line ends a document wherever it stands, in a text too.
fn document(bytes: &[u8], line: u32) -> Result<(Range<u32>, Range<usize>), Entangled> {
    let (mut first, mut start, mut at) = (1, 0, 0);
    let mut inline = false;
    let mut number = 0;
    for text in bytes.split_inclusive(|byte| *byte == b'\n') {
        number += 1;
        let end = at + text.len();
        if is_mark(text, b"---") || is_mark(text, b"...") {
            if (first..number).contains(&line) {
                break;
            }
            let rest = text[3..].trim_ascii();
            inline = text.starts_with(b"---") && !rest.is_empty() && !rest.starts_with(b"#");
            if inline && line == number {
                return Err(Entangled::Inline);
            }
            (first, start) = (number + 1, end);
        }
        at = end;
    }
    let ended = if at == bytes.len() { number + 1 } else { number };
    if !(first..ended).contains(&line) {
        return Err(Entangled::Missing);
    }
    if inline {
        return Err(Entangled::Inline);
    }
    Ok((first..ended, start..at))
}

fn is_mark(line: &[u8], mark: &[u8]) -> bool {
    line.strip_prefix(mark)
        .is_some_and(|rest| rest.first().is_none_or(u8::is_ascii_whitespace))
}

#[cfg(test)]
mod tests {
    use schemas::Kind;

    use super::*;

    fn map(name: &str, value: &str) -> String {
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\ndata:\n  a: \"{value}\"\n")
    }

    fn back(now: &str, then: &str) -> Result<String, Entangled> {
        let file = |text| File {
            path: "namespaces/shop/a.yaml",
            bytes: str::as_bytes(text),
        };
        let key = Key::namespaced(Kind::ConfigMap, "shop", "own");
        let bytes = put_back(file(now), file(then), &key)?;
        Ok(String::from_utf8(bytes).expect("text"))
    }

    #[test]
    fn the_document_alone_goes_back_as_its_author_wrote_it() {
        let (one, two) = (map("own", "1"), map("own", "2"));
        let told = format!(
            "# Said by its author\n{}  # and more\n",
            map("own", "1").replace("\"1\"", "'1'")
        );
        let other = "# Mine\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: other}   # so\ndata:\n  b: |\n    ---x\n     ---\n";
        for (now, then, expected) in [
            (two.clone(), one.clone(), one.clone()),
            (format!("---\n{two}"), one.clone(), format!("---\n{one}")),
            (
                format!("{two}---\n{other}"),
                told.clone(),
                format!("{told}---\n{other}"),
            ),
            (
                format!("{other}--- # next\n{two}"),
                told.clone(),
                format!("{other}--- # next\n{told}"),
            ),
            (
                format!("{other}---\r\n{two}...\n---\n{}", map("third", "1")),
                format!("---\n{}", one.trim_end()),
                format!("{other}---\r\n{one}...\n---\n{}", map("third", "1")),
            ),
            (
                format!("{other}---\n{two}"),
                format!("{}---\n{one}---\n{}", map("old", "1"), map("older", "1")),
                format!("{other}---\n{one}"),
            ),
        ] {
            assert_eq!(back(&now, &then).as_deref(), Ok(expected.as_str()), "{now}");
        }
    }

    #[test]
    fn what_hangs_together_is_not_taken_apart() {
        let (one, two) = (map("own", "1"), map("own", "2"));
        let list = |value: &str| {
            let item = |name: &str, value: &str| {
                let text = map(name, value);
                let text = text.trim_end().replace('\n', "\n    ");
                format!("  - {text}\n")
            };
            format!(
                "apiVersion: v1\nkind: List\nitems:\n{}{}",
                item("own", value),
                item("other", value)
            )
        };
        assert_eq!(back(&list("2"), &list("1")), Err(Entangled::Together));
        assert_eq!(back(&list("2"), &one), Err(Entangled::Together));
        assert_eq!(back(&two, &map("else", "1")), Err(Entangled::Missing));
        let inline = "--- {apiVersion: v1, kind: ConfigMap, metadata: {name: own}, data: {a: \"1\"}}\n";
        assert_eq!(back(&two, inline), Err(Entangled::Inline));
        assert_eq!(back(inline, &one), Err(Entangled::Inline));
    }
}
