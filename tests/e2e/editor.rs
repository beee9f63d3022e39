//! The JSON Schemas in an editor: the real YAML language server, spoken to as editors do
//! (<https://microsoft.github.io/language-server-protocol/>).

use std::{
    collections::HashMap,
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, channel},
};

use anyhow::Context;
use harness::{PATIENCE, binary, have, manifests::deployment, run, skipped, tools};
use serde_json::{Value, json};

/// A language server, and an editor's end of the line to it.
struct Editor {
    child: Child,
    input: ChildStdin,
    messages: Receiver<Value>,
    asked: u64,
    /// The newest diagnostics of each document.
    diagnostics: HashMap<String, Value>,
}

impl Editor {
    fn start(program: &Path) -> anyhow::Result<Self> {
        let mut child = Command::new("node")
            .arg(program)
            .arg("--stdio")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let input = child.stdin.take().context("it has an input")?;
        let mut output = BufReader::new(child.stdout.take().context("it has an output")?);
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            while let Some(message) = read(&mut output) {
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        let mut editor = Self {
            child,
            input,
            messages,
            asked: 0,
            diagnostics: HashMap::new(),
        };
        let capabilities = json!({"textDocument": {"hover": {"contentFormat": ["plaintext"]}}});
        editor.ask(
            "initialize",
            &json!({"processId": null, "rootUri": null, "capabilities": capabilities}),
        )?;
        editor.send(&json!({"method": "initialized", "params": {}}))?;
        Ok(editor)
    }

    fn send(&mut self, message: &Value) -> anyhow::Result<()> {
        let mut message = message.clone();
        message["jsonrpc"] = "2.0".into();
        let text = message.to_string();
        write!(self.input, "Content-Length: {}\r\n\r\n{text}", text.len())?;
        Ok(self.input.flush()?)
    }

    /// The next message that is no request of the server's own; those are answered.
    fn next(&mut self) -> anyhow::Result<Value> {
        loop {
            let message = self
                .messages
                .recv_timeout(PATIENCE)
                .context("the language server is silent")?;
            match (message["method"].as_str(), message.get("id")) {
                (Some("workspace/configuration"), Some(id)) => {
                    // Nothing is to be fetched from the network.
                    let yaml =
                        json!({"validate": true, "hover": true, "completion": true, "schemaStore": {"enable": false}});
                    let items = message["params"]["items"].as_array().cloned().unwrap_or_default();
                    let settings: Vec<Value> = items
                        .iter()
                        .map(|item| {
                            if item["section"] == "yaml" {
                                yaml.clone()
                            } else {
                                json!({})
                            }
                        })
                        .collect();
                    self.send(&json!({"id": id, "result": settings}))?;
                }
                (Some(_), Some(id)) => self.send(&json!({"id": id, "result": null}))?,
                (Some("textDocument/publishDiagnostics"), None) => {
                    let uri = message["params"]["uri"].as_str().unwrap_or_default().to_owned();
                    self.diagnostics.insert(uri, message["params"]["diagnostics"].clone());
                    return Ok(message);
                }
                _ => return Ok(message),
            }
        }
    }

    fn ask(&mut self, method: &str, params: &Value) -> anyhow::Result<Value> {
        self.asked += 1;
        let id = self.asked;
        self.send(&json!({"id": id, "method": method, "params": params}))?;
        loop {
            let message = self.next()?;
            if message["id"] == id {
                return Ok(message["result"].clone());
            }
        }
    }

    /// Opens a file; its address and what is wrong with it: line and column from 1, and the message.
    fn open(&mut self, file: &Path) -> anyhow::Result<(String, Vec<String>)> {
        let uri = format!("file://{}", file.display());
        let document = json!({"uri": uri, "languageId": "yaml", "version": 1, "text": fs::read_to_string(file)?});
        self.send(&json!({"method": "textDocument/didOpen", "params": {"textDocument": document}}))?;
        while !self.diagnostics.contains_key(&uri) {
            self.next()?;
        }
        let found = self.diagnostics[&uri].as_array().cloned().unwrap_or_default();
        let place = |one: &Value, what: &str| one["range"]["start"][what].as_u64().unwrap_or(0) + 1;
        let mut said: Vec<String> = found
            .iter()
            .map(|one| {
                let message = one["message"].as_str().unwrap_or_default();
                format!("{}:{}: {message}", place(one, "line"), place(one, "character"))
            })
            .collect();
        said.sort();
        Ok((uri, said))
    }
}

impl Drop for Editor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(output: &mut impl BufRead) -> Option<Value> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if output.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end().split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.parse().ok()?,
            Some(_) => {}
            None => break,
        }
    }
    let mut text = vec![0; length];
    output.read_exact(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

fn language_server() -> Option<PathBuf> {
    let program = tools().join("editor/node_modules/yaml-language-server/bin/yaml-language-server");
    if !program.exists() {
        skipped("the YAML language server is not there: scripts/test-tools fetches it where npm is installed");
        return None;
    }
    have("node", &["--version"]).then_some(program)
}

#[test]
fn an_editor_completes_explains_and_marks_errors() -> anyhow::Result<()> {
    let Some(program) = language_server() else {
        return Ok(());
    };
    // As the guide has it: the schemas in a folder of the repository, named by each file's first line.
    let dir = tempfile::tempdir()?;
    fs::create_dir_all(dir.path().join(".schemas"))?;
    for (kind, file) in [("Deployment", "deployment.json"), ("all", "all.json")] {
        let schema = run(Command::new(binary("towline")).args(["schema", kind]))?;
        fs::write(dir.path().join(".schemas").join(file), schema)?;
    }
    let shop = dir.path().join("namespaces/shop");
    fs::create_dir_all(&shop)?;
    let mut editor = Editor::start(&program)?;
    for schema in ["deployment.json", "all.json"] {
        let head = format!("# yaml-language-server: $schema=../../.schemas/{schema}\n");
        let put = |name: &str, text: String| {
            let file = shop.join(format!("{name}-{schema}.yaml"));
            fs::write(&file, text).map(|()| file)
        };
        let good = format!("{head}{}          \n", deployment("web", 3, "web:1"));
        let lines: Vec<&str> = good.lines().collect();
        let (uri, said) = editor.open(&put("good", good.clone())?)?;
        assert_eq!(said, [""; 0], "{schema}: nothing is wrong with it");

        let line = lines
            .iter()
            .position(|line| line.contains("replicas:"))
            .context("a line")?;
        let at = json!({"textDocument": {"uri": uri}, "position": {"line": line, "character": 4}});
        let hover = editor.ask("textDocument/hover", &at)?.to_string();
        assert!(hover.contains("How many pods there should be"), "{schema}: {hover}");

        let at = json!({"textDocument": {"uri": uri}, "position": {"line": lines.len() - 1, "character": 10}});
        let offered = editor.ask("textDocument/completion", &at)?;
        let items = offered["items"]
            .as_array()
            .or(offered.as_array())
            .cloned()
            .unwrap_or_default();
        let labels: Vec<&str> = items.iter().filter_map(|item| item["label"].as_str()).collect();
        assert!(
            labels.contains(&"readinessProbe") && labels.contains(&"env"),
            "{schema}: {labels:?}"
        );
        assert!(
            !labels.contains(&"image"),
            "{schema}: what is there is not offered: {labels:?}"
        );

        let bad = good
            .replace("replicas: 3", "replicsa: 3")
            .replace("image: web:1", "image: 1");
        let (_, said) = editor.open(&put("bad", bad)?)?;
        assert_eq!(
            said,
            [
                "19:18: Incorrect type. Expected one of string, null.",
                "7:3: Property replicsa is not allowed."
            ],
            "{schema}"
        );
    }
    Ok(())
}
