//! JSON text to trees of values with places. Several documents may follow each other.

use serde_json::{Number, Value};

use super::{
    scalar,
    tree::{Content, Document, Entry, Flaw, MAX_DEPTH, Node, Place, duplicate_keys},
};

/// Reads all documents of `text`. After a syntax error nothing of the file can be told.
pub(super) fn read(text: &str) -> Vec<Document> {
    let mut reader = Reader {
        text,
        at: 0,
        line: 1,
        line_start: 0,
        flaws: Vec::new(),
    };
    let mut documents = Vec::new();
    loop {
        reader.space();
        if reader.at >= text.len() {
            return documents;
        }
        let root = reader.value(1);
        let broken = root.is_err();
        let root = match root {
            Ok(root) => Some(root),
            Err(flaw) => {
                reader.flaws.push(flaw);
                None
            }
        };
        documents.push(Document {
            root,
            flaws: std::mem::take(&mut reader.flaws),
        });
        if broken {
            return documents;
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    line: u32,
    line_start: usize,
    flaws: Vec<Flaw>,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while let Some(byte) = self.peek() {
            match byte {
                b'\n' => {
                    self.line = self.line.saturating_add(1);
                    self.line_start = self.at + 1;
                }
                b' ' | b'\t' | b'\r' => {}
                _ => break,
            }
            self.at += 1;
        }
    }

    fn place(&self) -> Place {
        let before = self.text.get(self.line_start..self.at).unwrap_or("");
        Place {
            line: self.line,
            column: u32::try_from(before.chars().count())
                .unwrap_or(u32::MAX)
                .saturating_add(1),
        }
    }

    fn flaw(&self, what: &str) -> Flaw {
        Flaw {
            place: self.place(),
            message: format!("this is not valid JSON: {what}"),
        }
    }

    fn value(&mut self, depth: u16) -> Result<Node, Flaw> {
        let place = self.place();
        if depth > MAX_DEPTH {
            return Err(Flaw {
                place,
                message: format!("values are nested more than {MAX_DEPTH} deep"),
            });
        }
        let content = match self.peek() {
            Some(b'{') => Content::Map(self.map(depth)?),
            Some(b'[') => Content::List(self.list(depth)?),
            Some(b'"') => Content::Scalar(Value::String(self.string()?)),
            Some(_) => Content::Scalar(self.word()?),
            None => return Err(self.flaw("the file ends where a value is expected")),
        };
        Ok(Node { place, content })
    }

    fn map(&mut self, depth: u16) -> Result<Vec<Entry>, Flaw> {
        self.at += 1;
        let mut entries = Vec::new();
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(entries);
        }
        loop {
            self.space();
            let place = self.place();
            if self.peek() != Some(b'"') {
                return Err(self.flaw("a key in double quotes is expected"));
            }
            let key = self.string()?;
            self.space();
            if self.peek() != Some(b':') {
                return Err(self.flaw("`:` is expected after a key"));
            }
            self.at += 1;
            self.space();
            let node = self.value(depth + 1)?;
            entries.push(Entry { key, place, node });
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => break,
                _ => return Err(self.flaw("`,` or `}` is expected")),
            }
        }
        self.at += 1;
        duplicate_keys(&entries, &mut self.flaws);
        Ok(entries)
    }

    fn list(&mut self, depth: u16) -> Result<Vec<Node>, Flaw> {
        self.at += 1;
        let mut items = Vec::new();
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(items);
        }
        loop {
            self.space();
            items.push(self.value(depth + 1)?);
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => break,
                _ => return Err(self.flaw("`,` or `]` is expected")),
            }
        }
        self.at += 1;
        Ok(items)
    }

    /// A string, from its opening quote on.
    fn string(&mut self) -> Result<String, Flaw> {
        let bytes = self.text.as_bytes();
        let mut end = self.at + 1;
        loop {
            match bytes.get(end) {
                Some(b'"') => break,
                Some(b'\\') => end += 2,
                Some(b'\n') | None => return Err(self.flaw("a string is not closed on its line")),
                Some(_) => end += 1,
            }
        }
        let quoted = self.text.get(self.at..=end);
        match quoted.and_then(|quoted| serde_json::from_str(quoted).ok()) {
            Some(text) => {
                self.at = end + 1;
                Ok(text)
            }
            None => Err(self.flaw("a string holds a bad escape or a control character")),
        }
    }

    fn word(&mut self) -> Result<Value, Flaw> {
        let rest = self.text.get(self.at..).unwrap_or("");
        let length = rest
            .find(|letter: char| !(letter.is_ascii_alphanumeric() || matches!(letter, '+' | '-' | '.' | '_')))
            .unwrap_or(rest.len());
        let word = &rest[..length];
        match serde_json::from_str::<Value>(word) {
            Ok(Value::Number(number)) => {
                self.at += length;
                Ok(whole(number))
            }
            Ok(value) => {
                self.at += length;
                Ok(value)
            }
            Err(_) => Err(self.flaw("a value is expected")),
        }
    }
}

fn whole(number: Number) -> Value {
    if number.is_f64()
        && let Some(value) = number.as_f64().and_then(scalar::float_value)
    {
        return value;
    }
    Value::Number(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn json_reads_with_places() {
        let documents = read("{\n  \"a\": [1, 2.0, -1.5e1, true, null, \"\\ud83d\\ude00 \\n\"],\n \"b\": {}\n}\n{}");
        let values: Vec<Value> = documents
            .iter()
            .map(|document| document.root.as_ref().expect("it reads").to_value())
            .collect();
        assert_eq!(
            values,
            [json!({"a": [1, 2, -15, true, null, "😀 \n"], "b": {}}), json!({})]
        );
        let entry = documents[0].root.as_ref().and_then(|root| root.get("b")).expect("b");
        assert_eq!((entry.place.line, entry.place.column), (3, 2));
    }

    #[test]
    fn what_is_not_json_is_a_flaw_with_its_place() {
        let table = [
            ("{\"a\": }", 1, 7),
            ("{\"a\" 1}", 1, 6),
            ("{\n\"a\": 1,\n}", 3, 1),
            ("[1 2]", 1, 4),
            ("{\"a\": \"x\n\"}", 1, 7),
            ("{\"a\": 01}", 1, 7),
            ("[", 1, 2),
            ("{\"a\": 1, \"a\": 2}", 1, 10),
            ("\"\\", 1, 1),
        ];
        for (text, line, column) in table {
            let documents = read(text);
            let flaw = &documents[0].flaws[0];
            assert_eq!(
                (flaw.place.line, flaw.place.column),
                (line, column),
                "{text}: {}",
                flaw.message
            );
        }
        assert!(read(&"[".repeat(100_000))[0].flaws[0].message.contains("deep"));
    }
}
