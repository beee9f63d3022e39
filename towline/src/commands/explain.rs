//! `towline explain`: why an object's containers were replaced, and what its pods wait for.

use std::process::ExitCode;

use apiserver::explain::{
    Declared, Explanation, Restart,
    changes::{Change, Effect, Field},
    waiting::Waiting,
};
use jiff::{SignedDuration, Timestamp};
use owo_colors::OwoColorize;
use schemas::{Key, origin::Author};
use serde_json::Value;

use crate::{
    cli::ExplainArgs,
    client::Server,
    commands::{encode, object},
    output,
};

/// Longer values are cut: the file has the whole.
const VALUE: usize = 80;

pub(crate) async fn run(args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    let (kind, name) = object(&args.object)?;
    let server = Server::find(&args.client)?;
    let path = format!(
        "/towline/v1/explain?kind={}&name={}&namespace={}",
        kind.info().plural,
        encode(name),
        encode(&args.namespace)
    );
    let explanation: Explanation = server.json("GET", &path, Vec::new()).await?;
    output::print(args.output.output, &explanation, |explanation| {
        for line in lines(explanation, Timestamp::now()) {
            output::line(line);
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The answer for people.
fn lines(told: &Explanation, now: Timestamp) -> Vec<String> {
    let mut lines = Vec::new();
    let mut head = told.object.bold().to_string();
    if let Some(outcome) = told.outcome {
        head.push_str(&format!(": {}", output::outcome(outcome)));
        if !told.reason.is_empty() {
            head.push_str(&format!(", {}", told.reason));
        }
    }
    lines.push(head);
    lines.push(match &told.declared {
        Some(declared) => indent(&declaration(declared, &told.object, now)),
        None => indent("git does not declare it: who made it is not known here"),
    });
    let pods = told.pods;
    if pods.new + pods.old > 0 {
        let old = match pods.old {
            0 => String::new(),
            old => format!(", {old} of an older template"),
        };
        lines.push(indent(&format!("{}{old}", output::count(pods.new, "pod"))));
    }
    for change in &told.changes {
        lines.push(String::new());
        lines.extend(changed(change, now));
    }
    if !told.restarts.is_empty() {
        section(&mut lines, "Started again in the same pod");
        lines.extend(told.restarts.iter().map(|restart| indent(&restarted(restart, now))));
    }
    if !told.waiting.is_empty() {
        section(&mut lines, "Waiting");
        for waiting in &told.waiting {
            lines.extend(waits(waiting, &told.object, now));
        }
    }
    if !told.warnings.is_empty() {
        section(&mut lines, "Warnings of the last hour");
        for warning in &told.warnings {
            let times = if warning.count > 1 {
                format!(" ({} times)", warning.count)
            } else {
                String::new()
            };
            let ago = warning.at.map(|at| format!(", {}", ago(at, now))).unwrap_or_default();
            lines.push(indent(&format!(
                "{}  {}: {}{times}{ago}",
                warning.object, warning.reason, warning.message
            )));
        }
    }
    if told.waiting.is_empty() && told.restarts.is_empty() {
        lines.push(String::new());
        lines.push("Nothing waits.".to_owned());
    }
    lines
}

fn section(lines: &mut Vec<String>, title: &str) {
    lines.push(String::new());
    lines.push(title.bold().to_string());
}

fn indent(text: &str) -> String {
    format!("  {text}")
}

fn declaration(declared: &Declared, object: &Key, now: Timestamp) -> String {
    let by = declared
        .by
        .as_ref()
        .map(|by| format!(" by {}", credit(by, now)))
        .unwrap_or_default();
    let place = format!("declared at {}:{}{by}", declared.file, declared.line);
    if declared.object == *object {
        place
    } else {
        format!("from {}, {place}", declared.object)
    }
}

/// `1a2b3c4d5e "Use the new image", Ada, 3 minutes ago`.
fn credit(by: &Author, now: Timestamp) -> String {
    format!(
        "{} {:?}, {}, {}",
        by.commit.short().yellow(),
        by.subject,
        by.author.split(" <").next().unwrap_or_default(),
        ago(by.at, now)
    )
}

fn changed(change: &Change, now: Timestamp) -> Vec<String> {
    let title = match change.effect {
        Effect::Made => "Declared first".to_owned(),
        Effect::Replaced => format!("Replaced {}", change.containers.join(", ")),
        Effect::NewPods => "Changed for pods that are made from now on".to_owned(),
        Effect::NextRun => "Changed from its next run on".to_owned(),
        Effect::InPlace => "Changed, nothing was replaced".to_owned(),
    };
    let by = match (&change.by, &change.set) {
        (Some(by), _) => format!(" by {}", credit(by, now)),
        (None, Some(set)) => set.since.map(|at| format!(", {}", ago(at, now))).unwrap_or_default(),
        (None, None) => String::new(),
    };
    let mut lines = vec![format!("{}{by}", title.bold())];
    if let Some(set) = &change.set {
        lines.push(indent(&format!("{} {}, revision {}", set.kind, set.name, set.revision)));
    }
    for field in &change.fields {
        lines.push(indent(&field_line(field, change, now)));
    }
    lines
}

fn field_line(field: &Field, change: &Change, now: Timestamp) -> String {
    let place = match (&change.file, field.line) {
        (Some(file), Some(line)) => format!("  {file}:{line}"),
        _ => String::new(),
    };
    // Told where it is another commit than the one that the change is told with.
    let other = field.by.as_ref().filter(|by| change.by.as_ref() != Some(*by));
    let other = other.map(|by| format!("  by {}", credit(by, now))).unwrap_or_default();
    let FieldText { path, old, new } = FieldText::of(field);
    format!("{path}: {old} -> {new}{}{other}", place.dimmed())
}

struct FieldText {
    path: String,
    old: String,
    new: String,
}

impl FieldText {
    fn of(field: &Field) -> Self {
        Self {
            path: field.change.path.clone(),
            old: shown(field.change.old.as_ref()),
            new: shown(field.change.new.as_ref()),
        }
    }
}

fn shown(value: Option<&Value>) -> String {
    let text = match value {
        None => return "(none)".to_owned(),
        Some(Value::String(text)) if !text.is_empty() && !text.contains(char::is_whitespace) => text.clone(),
        Some(value) => value.to_string(),
    };
    if text.chars().count() <= VALUE {
        return text;
    }
    let cut: String = text.chars().take(VALUE).collect();
    format!("{cut}…")
}

fn restarted(restart: &Restart, now: Timestamp) -> String {
    let ended = match (&*restart.reason, restart.exit_code) {
        ("", code) => format!("exit code {code}"),
        (reason, code) => format!("{reason}, exit code {code}"),
    };
    let message = restart
        .message
        .as_ref()
        .map(|text| format!(": {text}"))
        .unwrap_or_default();
    let at = restart.at.map(|at| format!(", {}", ago(at, now))).unwrap_or_default();
    format!(
        "{} container {}: {}, last ended with {ended}{message}{at}",
        restart.pod,
        restart.container,
        output::count(usize::try_from(restart.times).unwrap_or(0), "restart"),
    )
}

fn waits(waiting: &Waiting, object: &Key, now: Timestamp) -> Vec<String> {
    let name = match (&waiting.container, waiting.object == *object) {
        (Some(container), _) => format!("{} container {container}", waiting.object.name),
        (None, true) => waiting.object.to_string(),
        (None, false) => format!("{} {}", waiting.object.kind.info().singular(), waiting.object.name),
    };
    let mut lines = vec![indent(&format!("{name}: {}", waiting.reason.yellow()))];
    let mut more = |text: String| lines.push(format!("    {text}"));
    if waiting.message != waiting.reason {
        more(waiting.message.clone());
    }
    if let Some(since) = waiting.since {
        more(format!("since {}", ago(since, now)));
    }
    if let Some(until) = &waiting.until {
        more(format!("{} {}", ahead(until.at, now), until.what));
    }
    if !waiting.help.is_empty() {
        more(format!("{} {}", "help:".green(), waiting.help));
    }
    lines
}

fn ago(at: Timestamp, now: Timestamp) -> String {
    match span(now.duration_since(at)) {
        Some(span) => format!("{span} ago"),
        None => "just now".to_owned(),
    }
}

fn ahead(at: Timestamp, now: Timestamp) -> String {
    match span(at.duration_since(now)) {
        Some(span) => format!("in {span}"),
        None => "now".to_owned(),
    }
}

/// The largest unit of a span of time, in whole numbers; none for less than a second.
fn span(time: SignedDuration) -> Option<String> {
    let seconds = usize::try_from(time.as_secs()).ok().filter(|seconds| *seconds > 0)?;
    Some(match seconds {
        0..120 => output::count(seconds, "second"),
        120..7_200 => output::count(seconds / 60, "minute"),
        7_200..172_800 => output::count(seconds / 3_600, "hour"),
        _ => output::count(seconds / 86_400, "day"),
    })
}

#[cfg(test)]
mod tests {
    use schemas::report::Outcome;
    use serde_json::json;

    use super::*;

    fn told(value: Value) -> String {
        let told: Explanation = serde_json::from_value(value).expect("an explanation");
        let now = "2026-01-01T00:10:00Z".parse().expect("a time");
        let text = lines(&told, now).join("\n");
        anstream::adapter::strip_str(&text).to_string()
    }

    #[test]
    fn a_rollout_that_waits_reads_well() {
        let ada = json!({"commit": "1a2b3c4d5e6f", "author": "Ada <ada@example.org>", "subject": "A newer image",
            "at": "2026-01-01T00:07:00Z"});
        let ben = json!({"commit": "99999999999", "author": "Ben <ben@example.org>", "subject": "Louder",
            "at": "2025-12-30T00:00:00Z"});
        let web = json!({"kind": "Deployment", "namespace": "shop", "name": "web"});
        let text = told(json!({
            "object": web, "outcome": Outcome::Progressing, "reason": "1 of 2 replicas are updated",
            "declared": {"object": web, "file": "shop/web.yaml", "line": 3, "by": ada},
            "pods": {"new": 1, "old": 2},
            "changes": [
                {"by": ada, "file": "shop/web.yaml", "effect": "replaced", "containers": ["web", "log"],
                 "set": {"kind": "ReplicaSet", "name": "web-2", "revision": 2, "since": null},
                 "fields": [
                    {"path": "spec.template.spec.containers[web].image", "old": "web:1", "new": "web:2", "line": 17, "by": ada},
                    {"path": "spec.template.spec.containers[web].env[LOUD].value", "old": null, "new": "very much", "line": 20, "by": ben},
                 ]},
                {"by": ben, "file": "shop/web.yaml", "effect": "made", "containers": [], "fields": [], "set": null},
            ],
            "restarts": [{"pod": "web-2-a", "container": "log", "times": 1, "reason": "OOMKilled", "exitCode": 137,
                "message": null, "at": "2026-01-01T00:09:00Z"}],
            "waiting": [{"object": {"kind": "Pod", "namespace": "shop", "name": "web-2-a"}, "container": "web",
                "reason": "ImagePullBackOff", "message": "no such image", "since": "2026-01-01T00:08:00Z",
                "until": {"at": "2026-01-01T00:17:00Z", "what": "the rollout fails"}, "help": "check the image"}],
            "warnings": [{"object": "Pod/web-2-a", "reason": "Failed", "message": "no such image", "count": 3, "at": null}],
        }));
        let expected = "\
Deployment shop/web: progressing, 1 of 2 replicas are updated
  declared at shop/web.yaml:3 by 1a2b3c4d5e \"A newer image\", Ada, 3 minutes ago
  1 pod, 2 of an older template

Replaced web, log by 1a2b3c4d5e \"A newer image\", Ada, 3 minutes ago
  ReplicaSet web-2, revision 2
  spec.template.spec.containers[web].image: web:1 -> web:2  shop/web.yaml:17
  spec.template.spec.containers[web].env[LOUD].value: (none) -> \"very much\"  shop/web.yaml:20  by 9999999999 \"Louder\", Ben, 2 days ago

Declared first by 9999999999 \"Louder\", Ben, 2 days ago

Started again in the same pod
  web-2-a container log: 1 restart, last ended with OOMKilled, exit code 137, 60 seconds ago

Waiting
  web-2-a container web: ImagePullBackOff
    no such image
    since 2 minutes ago
    in 7 minutes the rollout fails
    help: check the image

Warnings of the last hour
  Pod/web-2-a  Failed: no such image (3 times)";
        assert_eq!(text, expected, "\n{text}");
    }

    #[test]
    fn what_is_well_is_short() {
        let text = told(json!({
            "object": {"kind": "Pod", "namespace": "shop", "name": "web-1"}, "outcome": null, "reason": "",
            "declared": null, "pods": {"new": 1, "old": 0}, "changes": [], "restarts": [], "waiting": [], "warnings": [],
        }));
        assert!(text.ends_with("Nothing waits."), "{text}");
        assert!(text.contains("git does not declare it"), "{text}");
    }
}
