//! YAML text to trees of values with places, one document at a time.

use std::{borrow::Cow, collections::HashMap};

use base64::Engine;
use serde_json::Value;
use serde_saphyr::granit_parser::{self, ErrorKind, Event, Parser, ScalarStyle, Span, StrInput, Tag};

use super::{
    scalar,
    tree::{Content, Document, Entry, Flaw, MAX_DEPTH, Node, Place, duplicate_keys},
};

/// How many values the aliases of one file may add, and how many bytes of text: what a YAML bomb
/// multiplies.
const ALIAS_VALUES: usize = 50_000;
const ALIAS_BYTES: usize = 4 << 20;

/// Reads all documents of `text`. A document that cannot be read does not hide the others: they
/// are told apart by their `---` lines first, which no scalar can contain.
pub(super) fn read(text: &str) -> Vec<Document> {
    let mut documents = Vec::new();
    let mut budget = Budget {
        values: ALIAS_VALUES,
        bytes: ALIAS_BYTES,
    };
    for (line, chunk) in chunks(text) {
        if chunk.bytes().all(|byte| byte.is_ascii_whitespace()) {
            continue;
        }
        Reader::new(chunk, line, &mut budget).read(&mut documents);
    }
    documents
}

/// The parts of a file between `---` lines, each with the number of lines before it.
fn chunks(text: &str) -> Vec<(u32, &str)> {
    let mut chunks = Vec::new();
    let (mut start, mut start_line, mut offset, mut line) = (0, 0, 0, 0_u32);
    for row in text.split_inclusive('\n') {
        let rest = row.strip_prefix("---");
        if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n'])) && offset > start {
            chunks.push((start_line, &text[start..offset]));
            (start, start_line) = (offset, line);
        }
        offset += row.len();
        line = line.saturating_add(1);
    }
    chunks.push((start_line, &text[start..]));
    // `%YAML` lines belong to the document after them and say nothing that is needed here.
    chunks.retain(|(_, chunk)| {
        !chunk
            .lines()
            .all(|row| row.trim().is_empty() || row.starts_with('%') || row.trim_start().starts_with('#'))
    });
    chunks
}

struct Budget {
    values: usize,
    bytes: usize,
}

struct Anchored {
    node: Node,
    values: usize,
    bytes: usize,
    depth: u16,
}

/// What a value amounts to, aliases expanded.
#[derive(Clone, Copy, Default)]
struct Size {
    values: usize,
    bytes: usize,
    depth: u16,
}

impl Size {
    fn add(&mut self, other: Size) {
        self.values += other.values;
        self.bytes += other.bytes;
        self.depth = self.depth.max(other.depth);
    }
}

struct Reader<'a, 'b> {
    parser: Parser<'a, StrInput<'a>>,
    lines_before: u32,
    budget: &'b mut Budget,
    anchors: HashMap<usize, Anchored>,
    flaws: Vec<Flaw>,
}

impl<'a, 'b> Reader<'a, 'b> {
    fn new(chunk: &'a str, lines_before: u32, budget: &'b mut Budget) -> Self {
        let options = granit_parser::options! {
            emit_comments: false,
            block_scalar_eof_without_line_feed: true,
            flow_nesting_limit: usize::from(MAX_DEPTH),
            block_nesting_limit: usize::from(MAX_DEPTH),
        };
        Self {
            parser: Parser::new_from_str_with_options(chunk, options),
            lines_before,
            budget,
            anchors: HashMap::new(),
            flaws: Vec::new(),
        }
    }

    fn read(mut self, documents: &mut Vec<Document>) {
        loop {
            match self.document() {
                Ok(Some(root)) => documents.push(Document {
                    root: Some(root),
                    flaws: std::mem::take(&mut self.flaws),
                }),
                Ok(None) => break,
                Err(flaw) => {
                    self.flaws.push(flaw);
                    documents.push(Document {
                        root: None,
                        flaws: std::mem::take(&mut self.flaws),
                    });
                    break;
                }
            }
            self.anchors.clear();
        }
    }

    /// The next document of the chunk; none at its end.
    fn document(&mut self) -> Result<Option<Node>, Flaw> {
        loop {
            let Some((event, span)) = self.next()? else {
                return Ok(None);
            };
            match event {
                Event::StreamEnd => return Ok(None),
                Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd => {}
                event => return Ok(Some(self.node(event, &span, 1)?.0)),
            }
        }
    }

    fn next(&mut self) -> Result<Option<(Event<'a>, Span)>, Flaw> {
        match self.parser.next_event() {
            None => Ok(None),
            Some(Ok(pair)) => Ok(Some(pair)),
            Some(Err(error)) => {
                let mark = error.marker();
                let place = self.place(mark.line(), mark.col());
                let message = match error.kind() {
                    ErrorKind::RecursionLimitExceeded => too_deep(),
                    kind => format!(
                        "this is not valid YAML: {}",
                        hint(kind).map_or_else(|| error.info(), str::to_owned)
                    ),
                };
                Err(Flaw { place, message })
            }
        }
    }

    fn place(&self, line: usize, column: usize) -> Place {
        Place {
            line: u32::try_from(line)
                .unwrap_or(u32::MAX)
                .max(1)
                .saturating_add(self.lines_before),
            column: u32::try_from(column).unwrap_or(u32::MAX).saturating_add(1),
        }
    }

    fn node(&mut self, event: Event<'a>, span: &Span, depth: u16) -> Result<(Node, Size), Flaw> {
        let place = self.place(span.start.line(), span.start.col());
        let flaw = |message: String| Flaw { place, message };
        if depth > MAX_DEPTH {
            return Err(flaw(too_deep()));
        }
        let (content, mut size, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let size = Size {
                    values: 1,
                    bytes: text.len(),
                    depth: 1,
                };
                let value = match scalar_value(text, style, tag.as_deref()) {
                    Ok(value) => value,
                    Err(message) => {
                        self.flaws.push(flaw(message));
                        Value::Null
                    }
                };
                (Content::Scalar(value), size, anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.plain_tag(tag.as_deref(), "seq", place);
                let (items, size) = self.list(depth)?;
                (Content::List(items), size, anchor)
            }
            Event::MappingStart(_, anchor, tag) => {
                self.plain_tag(tag.as_deref(), "map", place);
                let (entries, size) = self.map(depth)?;
                (Content::Map(entries), size, anchor)
            }
            Event::Alias(id) => {
                let Some(anchored) = self.anchors.get(&id) else {
                    return Err(flaw("the alias stands inside the value that it names".to_owned()));
                };
                if anchored.values > self.budget.values || anchored.bytes > self.budget.bytes {
                    return Err(flaw(format!(
                        "the aliases of this file expand to over {ALIAS_VALUES} values or {ALIAS_BYTES} bytes: write \
                         the values out, or use fewer aliases"
                    )));
                }
                if depth + anchored.depth > MAX_DEPTH {
                    return Err(flaw(too_deep()));
                }
                self.budget.values -= anchored.values;
                self.budget.bytes -= anchored.bytes;
                let size = Size {
                    values: anchored.values,
                    bytes: anchored.bytes,
                    depth: anchored.depth,
                };
                return Ok((anchored.node.clone(), size));
            }
            _ => return Err(flaw("this is not valid YAML: a value is missing here".to_owned())),
        };
        size.depth = size.depth.max(1);
        let node = Node { place, content };
        if anchor != 0 {
            self.anchors.insert(
                anchor,
                Anchored {
                    node: node.clone(),
                    values: size.values,
                    bytes: size.bytes,
                    depth: size.depth,
                },
            );
        }
        Ok((node, size))
    }

    fn list(&mut self, depth: u16) -> Result<(Vec<Node>, Size), Flaw> {
        let mut items = Vec::new();
        let mut size = Size {
            values: 1,
            ..Size::default()
        };
        while let Some((event, span)) = self.next()? {
            if matches!(event, Event::SequenceEnd) {
                break;
            }
            let (node, inner) = self.node(event, &span, depth + 1)?;
            size.add(inner);
            items.push(node);
        }
        size.depth += 1;
        Ok((items, size))
    }

    fn map(&mut self, depth: u16) -> Result<(Vec<Entry>, Size), Flaw> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut merges: Vec<(Place, Node)> = Vec::new();
        let mut size = Size {
            values: 1,
            ..Size::default()
        };
        while let Some((event, span)) = self.next()? {
            if matches!(event, Event::MappingEnd) {
                break;
            }
            let merges_here = matches!(&event, Event::Scalar(text, ScalarStyle::Plain, _, None) if text == "<<");
            let (key, key_size) = self.node(event, &span, depth + 1)?;
            let place = key.place;
            let Some((event, span)) = self.next()? else {
                return Err(Flaw {
                    place,
                    message: "this is not valid YAML: the key has no value".to_owned(),
                });
            };
            let (node, inner) = self.node(event, &span, depth + 1)?;
            size.add(key_size);
            size.add(inner);
            if merges_here {
                merges.push((place, node));
                continue;
            }
            match key_text(&key) {
                Some(key) => entries.push(Entry { key, place, node }),
                None => self.flaws.push(Flaw {
                    place,
                    message: "a key must be a text, a number or a boolean".to_owned(),
                }),
            }
        }
        duplicate_keys(&entries, &mut self.flaws);
        for (place, node) in merges {
            if !merge(&mut entries, node) {
                self.flaws.push(Flaw {
                    place,
                    message: "`<<` takes a mapping or a list of mappings".to_owned(),
                });
            }
        }
        size.depth += 1;
        Ok((entries, size))
    }

    fn plain_tag(&mut self, tag: Option<&Tag>, own: &str, place: Place) {
        let Some(tag) = tag else { return };
        if tag.core_suffix() != Some(own) {
            self.flaws.push(Flaw {
                place,
                message: unknown_tag(tag),
            });
        }
    }
}

/// What to do about the errors that people make most.
fn hint(kind: &ErrorKind) -> Option<&'static str> {
    Some(match kind {
        ErrorKind::UnknownAnchor => "the alias names an anchor that is not defined above it",
        ErrorKind::TabInBlockIndentation | ErrorKind::TabInIndentation | ErrorKind::TabNotAllowed => {
            "lines are indented with spaces, not with tabs"
        }
        ErrorKind::MappingValueNotAllowed => {
            "no `:` may stand here: look at the indentation, or put a text with `: ` in it in quotes"
        }
        ErrorKind::ExpectedBlockMappingKey => {
            "a key is expected here: look at the indentation of this line and of those above"
        }
        ErrorKind::UnclosedQuotedScalar => "a quote is not closed",
        ErrorKind::ExpectedFlowMappingSeparator => "`,` or `}` is expected",
        ErrorKind::ExpectedFlowSequenceSeparator => "`,` or `]` is expected",
        // The character itself may belong to a secret.
        ErrorKind::UnexpectedCharacter { .. } => "a value cannot begin with this character: put it in quotes",
        _ => return None,
    })
}

fn too_deep() -> String {
    format!("values are nested more than {MAX_DEPTH} deep")
}

fn unknown_tag(tag: &Tag) -> String {
    format!("the tag {:?} is not supported here: remove it", tag.original())
}

/// Adds what `<<` names, below what the mapping says itself.
fn merge(entries: &mut Vec<Entry>, node: Node) -> bool {
    match node.content {
        Content::Map(merged) => {
            for entry in merged {
                if !entries.iter().any(|own| own.key == entry.key) {
                    entries.push(entry);
                }
            }
            true
        }
        Content::List(nodes) => {
            // In a list the earlier mapping wins, which is the order of adding.
            nodes
                .into_iter()
                .all(|node| matches!(node.content, Content::Map(_)) && merge(entries, node))
        }
        Content::Scalar(_) => false,
    }
}

fn key_text(node: &Node) -> Option<String> {
    match &node.content {
        Content::Scalar(Value::String(text)) => Some(text.clone()),
        Content::Scalar(Value::Bool(flag)) => Some(flag.to_string()),
        Content::Scalar(Value::Number(number)) => Some(number.to_string()),
        _ => None,
    }
}

fn scalar_value(text: Cow<'_, str>, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, String> {
    let Some(tag) = tag else {
        return match style {
            ScalarStyle::Plain => scalar::plain(&text).map_err(str::to_owned),
            _ => Ok(Value::String(text.into_owned())),
        };
    };
    let parsed = |fits: fn(&Value) -> bool, name: &str| match scalar::plain(&text) {
        Ok(value) if fits(&value) => Ok(value),
        _ => Err(format!("the value does not fit its tag !!{name}")),
    };
    match tag.core_suffix() {
        Some("str") => Ok(Value::String(text.into_owned())),
        Some("null") => parsed(Value::is_null, "null"),
        Some("bool") => parsed(Value::is_boolean, "bool"),
        Some("int") => parsed(|value| value.is_i64() || value.is_u64(), "int"),
        Some("float") => parsed(Value::is_number, "float"),
        Some("binary") => {
            let packed: String = text.chars().filter(|letter| !letter.is_ascii_whitespace()).collect();
            base64::engine::general_purpose::STANDARD
                .decode(packed)
                .ok()
                .and_then(|bytes| String::from_utf8(bytes).ok())
                .map(Value::String)
                .ok_or_else(|| "the value does not fit its tag !!binary: it must be base64 of a text".to_owned())
        }
        _ if tag.original() == "!" => Ok(Value::String(text.into_owned())),
        _ => Err(unknown_tag(tag)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn values(text: &str) -> Vec<Value> {
        read(text)
            .into_iter()
            .map(|document| {
                assert_eq!(document.flaws, [], "{text}");
                document.root.expect("it has a root").to_value()
            })
            .collect()
    }

    fn flaw(text: &str) -> (u32, u32, String) {
        let document = read(text).into_iter().find(|document| !document.flaws.is_empty());
        let flaw = document.expect("a flaw is found").flaws.remove(0);
        (flaw.place.line, flaw.place.column, flaw.message)
    }

    #[test]
    fn documents_are_told_apart() {
        assert_eq!(
            values("a: 1\n---\nb: 2\n...\n---\n# nothing\n---\nc: |\n  x\n"),
            [json!({"a": 1}), json!({"b": 2}), json!(null), json!({"c": "x\n"})]
        );
        assert_eq!(values("%YAML 1.2\n---\na: 1\n"), [json!({"a": 1})]);
        assert_eq!(values("--- {a: 1}\n--- [2]"), [json!({"a": 1}), json!([2])]);
        assert!(values("# only a comment\n\n").is_empty());
    }

    #[test]
    fn a_broken_document_hides_no_other() {
        let documents = read("a: 1\n---\nb: [1\n---\nc: 3\n");
        let roots: Vec<bool> = documents.iter().map(|document| document.root.is_some()).collect();
        assert_eq!(roots, [true, false, true]);
        assert!(documents[1].flaws[0].place.line >= 3, "{:?}", documents[1].flaws);
    }

    #[test]
    fn anchors_aliases_and_merges_expand() {
        let text = "base: &b {x: 1, z: 2}\none: *b\ntwo:\n  <<: *b\n  z: 3\n";
        assert_eq!(
            values(text),
            [json!({"base": {"x": 1, "z": 2}, "one": {"x": 1, "z": 2}, "two": {"x": 1, "z": 3}})]
        );
    }

    #[test]
    fn a_bomb_and_deep_nesting_are_refused() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let aliases = vec![format!("*a{}", level - 1); 9].join(", ");
            bomb += &format!("a{level}: &a{level} [{aliases}]\n");
        }
        assert!(flaw(&bomb).2.contains("aliases of this file"), "{:?}", flaw(&bomb));
        assert!(flaw(&"[".repeat(5_000)).2.contains("deep"));
        let mut deep = String::new();
        for level in 0..500 {
            deep += &format!("{}a:\n", " ".repeat(level));
        }
        assert!(flaw(&deep).2.contains("deep"), "{:?}", flaw(&deep));
        let mut chain = "a0: &a0 [x]\n".to_owned();
        for level in 1..200 {
            chain += &format!("a{level}: &a{level} [*a{}]\n", level - 1);
        }
        assert!(flaw(&chain).2.contains("deep"), "{:?}", flaw(&chain));
    }

    #[test]
    fn flaws_stand_where_they_are() {
        assert_eq!(flaw("a: 1\nb: 2\n\na: 3\n").0, 4);
        assert!(flaw("a: 1\na: 3\n").2.contains("\"a\" stands twice"));
        assert_eq!(flaw("x: 1\n---\na: !foo bar\n").0, 3);
        assert_eq!(flaw("a: *nowhere\n").0, 1);
        assert_eq!(flaw("a:\n\t- b\n").0, 2);
    }
}
