mod judged;
mod told;
mod workloads;

use super::*;

fn problems(file: &str, text: &str) -> Vec<String> {
    let parsed = parse(file, text.as_bytes(), folder_namespace(file));
    parsed
        .problems
        .iter()
        .map(|problem| {
            let mark = if problem.severity == Severity::Error {
                "error"
            } else {
                "warning"
            };
            let place = problem
                .position
                .as_ref()
                .map_or("-".to_owned(), |place| format!("{}:{}", place.line, place.column));
            format!("{place} {mark} {}", problem.message)
        })
        .collect()
}

/// One wrong manifest, and the start and a part of the one problem it must have.
fn one(text: &str, place: &str, part: &str) {
    let found = problems("a.yaml", text);
    assert_eq!(found.len(), 1, "{text}\n{found:#?}");
    assert!(
        found[0].starts_with(&format!("{place} ")) && found[0].contains(part),
        "{text}\nwanted {place} … {part}\nfound  {}",
        found[0]
    );
}

const KUBECTL: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata:
  creationTimestamp: null
  labels:
    app: web
  name: web
spec:
  replicas: 2
  selector:
    matchLabels:
      app: web
  strategy: {}
  template:
    metadata:
      creationTimestamp: null
      labels:
        app: web
    spec:
      containers:
      - image: nginx:1.27
        name: nginx
        ports:
        - containerPort: 80
        resources: {}
status: {}
---
apiVersion: v1
kind: Pod
metadata:
  creationTimestamp: null
  labels:
    run: p
  name: p
spec:
  containers:
  - command:
    - sleep
    - "5"
    env:
    - name: A
      value: b
    image: busybox
    name: p
    ports:
    - containerPort: 80
    resources: {}
  dnsPolicy: ClusterFirst
  restartPolicy: Always
status: {}
---
apiVersion: v1
data:
  a: Yg==
kind: Secret
metadata:
  creationTimestamp: null
  name: s
---
apiVersion: v1
data:
  a: b
  empty:
kind: ConfigMap
metadata:
  creationTimestamp: null
  name: s
---
apiVersion: v1
kind: Namespace
metadata:
  creationTimestamp: null
  name: s
spec: {}
status: {}
"#;

#[test]
fn what_kubectl_prints_passes_without_a_word() {
    let parsed = parse("namespaces/shop/all.yaml", KUBECTL.as_bytes(), Some("shop"));
    assert_eq!(parsed.problems, []);
    let keys: Vec<String> = parsed.objects.iter().map(|object| object.key.to_string()).collect();
    assert_eq!(
        keys,
        [
            "Deployment shop/web",
            "Pod shop/p",
            "Secret shop/s",
            "ConfigMap shop/s",
            "Namespace s"
        ]
    );
    let deployment = &parsed.objects[0];
    assert_eq!((deployment.line, deployment.column), (2, 1));
    assert_eq!(deployment.content["metadata"]["namespace"], "shop");
    assert!(deployment.content.get("status").is_none());
    assert!(deployment.content["metadata"].get("creationTimestamp").is_none());
    assert_eq!(
        parsed.objects[3].content["data"]["empty"], "",
        "a null text is the empty text"
    );
}

#[test]
fn what_a_server_returns_passes_too() {
    let text = r#"{"apiVersion": "v1", "kind": "List", "items": [{
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "a", "namespace": "x", "uid": "u", "resourceVersion": "5", "generation": 2,
                     "creationTimestamp": "2026-01-01T00:00:00Z", "managedFields": [{"manager": "k"}]},
        "spec": {"containers": [{"name": "c", "image": "i", "imagePullPolicy": "IfNotPresent", "resources": {},
                 "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"}],
                 "restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst",
                 "enableServiceLinks": true, "preemptionPolicy": "PreemptLowerPriority", "priority": 0,
                 "securityContext": {}, "schedulerName": "default-scheduler", "serviceAccount": "default",
                 "serviceAccountName": "default"},
        "status": {"phase": "Running"}}]}"#;
    let parsed = parse("a.json", text.as_bytes(), None);
    assert_eq!(parsed.problems, []);
    assert_eq!(parsed.objects[0].key.to_string(), "Pod x/a");
    assert_eq!(parsed.objects[0].line, 1);
}

#[test]
fn namespaces_come_from_metadata_then_folder_then_default() {
    let table = [
        ("namespaces/shop/web.yaml", Some("shop")),
        ("namespaces/shop/deep/er/web.yaml", Some("shop")),
        ("clusters/prod/namespaces/shop/web.yaml", Some("shop")),
        ("namespaces/a/namespaces/b/web.yaml", Some("b")),
        ("namespaces/web.yaml", None),
        ("web.yaml", None),
        ("shop/web.yaml", None),
        ("", None),
    ];
    for (file, namespace) in table {
        assert_eq!(folder_namespace(file), namespace, "{file}");
    }
    let config = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n";
    let key = |file: &str, text: &str| {
        parse(file, text.as_bytes(), folder_namespace(file)).objects[0]
            .key
            .to_string()
    };
    assert_eq!(key("a.yaml", config), "ConfigMap default/a");
    assert_eq!(key("namespaces/shop/a.yaml", config), "ConfigMap shop/a");
    assert_eq!(key("a.yaml", &format!("{config}  namespace: own\n")), "ConfigMap own/a");
    assert_eq!(
        key("namespaces/own/a.yaml", &format!("{config}  namespace: own\n")),
        "ConfigMap own/a"
    );
    let found = problems("namespaces/shop/a.yaml", &format!("{config}  namespace: own\n"));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with("5:3 error") && found[0].contains("namespaces/own/"),
        "{found:?}"
    );
    let found = problems(
        "a.yaml",
        "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: a\n  namespace: b\n",
    );
    assert!(
        found[0].starts_with("5:3 error metadata.namespace: a Namespace belongs to no namespace"),
        "{found:?}"
    );
}

#[test]
fn files_of_many_documents_and_lists_are_read_whole() {
    let text = "# a comment\n---\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\n# nothing here\n---\n\
                apiVersion: v1\nkind: ConfigMapList\nitems:\n- metadata: {name: b}\n- metadata: {name: c}\n---\n\
                apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Namespace\n  metadata: {name: d}\n";
    let parsed = parse("a.yaml", text.as_bytes(), None);
    assert_eq!(parsed.problems, []);
    let found: Vec<(String, u32)> = parsed
        .objects
        .iter()
        .map(|object| (object.key.name.to_string(), object.line))
        .collect();
    assert_eq!(
        found,
        [("a".into(), 4), ("b".into(), 13), ("c".into(), 14), ("d".into(), 19)]
    );
    for empty in ["", "\n", "---\n", "# only\n# comments\n", "---\n---\n...\n"] {
        let parsed = parse("a.yaml", empty.as_bytes(), None);
        assert!(
            parsed.objects.is_empty() && parsed.problems.is_empty(),
            "{empty:?}: {:?}",
            parsed.problems
        );
    }
}

#[test]
fn one_bad_document_hides_no_other() {
    let good = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: NAME}\n";
    let text = format!(
        "{}---\na: [\n---\n{}---\nkind: What\n---\n{}",
        good.replace("NAME", "a"),
        good.replace("NAME", "b"),
        good.replace("NAME", "c")
    );
    let parsed = parse("a.yaml", text.as_bytes(), None);
    assert_eq!(parsed.objects.len(), 3);
    assert_eq!(parsed.problems.len(), 2, "{:?}", parsed.problems);
    assert_eq!(parsed.problems[1].position.as_ref().map(|place| place.line), Some(11));
}

#[test]
fn duplicates_name_both_places() {
    let text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n";
    let mut objects = parse("one.yaml", text.as_bytes(), None).objects;
    objects.extend(parse("two.yaml", format!("\n\n{text}").as_bytes(), None).objects);
    let found = duplicates(&objects);
    assert_eq!(found.len(), 1);
    assert_eq!(
        found[0].position.as_ref().map(|place| (&*place.file, place.line)),
        Some(("two.yaml", 3))
    );
    assert!(
        found[0].message.contains("first in one.yaml on line 1"),
        "{}",
        found[0].message
    );
}

#[test]
fn a_path_is_found_again_in_the_bytes() {
    let parsed = parse("a.yaml", KUBECTL.as_bytes(), None);
    let at = serde_json::json!({"spec": {"template": {"spec": {"containers": [{"image": 1}]}}}});
    let finding = validate::structure(Kind::Deployment, &at)
        .into_iter()
        .find(|finding| finding.path.to_string() == "spec.template.spec.containers[0].image")
        .expect("a wrong type");
    let place = locate(&parsed.objects[0], KUBECTL.as_bytes(), &finding.path).expect("it is there");
    assert_eq!((place.line, place.column), (22, 9));
}

#[test]
fn documents_that_are_no_manifests_say_so() {
    one("- 1\n- 2\n", "1:1", "this is not a manifest");
    one("just words\n", "1:1", "this is not a manifest");
    one("services:\n  web: {}\n", "1:1", ".towlineignore");
    one(
        "kind: Deployment\nmetadata: {name: a}\n",
        "1:1",
        "apiVersion is missing: for a Deployment it is apps/v1",
    );
    one("apiVersion: v1\nmetadata: {name: a}\n", "1:1", "kind is missing");
    one("apiVersion: 1\nkind: Pod\n", "1:1", "apiVersion must be a text");
    one(
        "apiVersion: extensions/v1beta1\nkind: Deployment\n",
        "2:1",
        "its apiVersion is apps/v1",
    );
    one("apiVersion: v1\nkind: Deployment\n", "2:1", "its apiVersion is apps/v1");
    one(
        "apiVersion: apps/v1\nkind: Deploymnet\n",
        "2:1",
        "did you mean Deployment?",
    );
    one(
        "apiVersion: example.com/v1\nkind: Database\n",
        "2:1",
        "reported, not applied",
    );
    one(
        "apiVersion: serving.example.dev/v1\nkind: Service\n",
        "2:1",
        "reported, not applied",
    );
    one(
        "apiVersion: v1\nkind: Node\nmetadata: {name: one}\n",
        "2:1",
        "written by Towline itself",
    );
    one("apiVersion: v1\nkind: List\nitems: 5\n", "3:8", "items must be a list");
    one(
        "apiVersion: v1\nkind: List\nitems:\n- 5\n",
        "4:3",
        "this is not a manifest",
    );
}

#[test]
fn broken_text_says_where() {
    one("a: b: c\n", "1:5", "not valid YAML");
    one(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  x: a\n  x: b\n",
        "6:3",
        "\"x\" stands twice",
    );
}

#[test]
fn bytes_that_are_not_text_say_where() {
    let found = parse("a.yaml", b"a: 1\nb: \xff\n", None);
    let place = found.problems[0].position.as_ref().expect("a place");
    assert_eq!((place.line, place.column), (2, 4));
}

#[test]
fn secrets_are_never_shown() {
    let value = "hunter2hunter2";
    let texts = [
        format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: a}}\ndata: {{p: {value}x}}\n"),
        format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: a}}\ndata: [{value}]\n"),
        format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: a}}\nstringData: {{p: [{value}]}}\n"),
        format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: a, labels: {{l: '{value} '}}}}\n"),
        format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: a}}\nimmutable: {value}\n"),
        format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: a}}\nstringData: {{p: \"{value}\n"),
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: a}}\nstringData: {{p: \"{value}\", .dockerconfigjson: '{value}'}}\n"
        ),
        format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: a}}\nstringData:\n  p: {value}: {value}\n"),
    ];
    for text in &texts {
        let found = problems("a.yaml", text);
        assert!(!found.is_empty(), "{text}");
        assert!(found.iter().all(|problem| !problem.contains("hunter2")), "{found:?}");
    }
    let number = "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData: {pin: 4711}\n";
    let found = problems("a.yaml", number);
    assert!(found.len() == 1 && !found[0].contains("4711"), "{found:?}");
}

#[test]
fn a_redacted_pair_says_changed_or_unchanged() {
    let secret = |a: &str| serde_json::json!({"data": {"a": a, "b": "same"}, "type": "Opaque"});
    let (old, new) = validate::redact_pair(Kind::Secret, &secret("one"), &secret("two"));
    assert_ne!(old["data"]["a"], new["data"]["a"]);
    assert_eq!(old["data"]["b"], new["data"]["b"]);
    let all = format!("{old}{new}{}", validate::redact(Kind::Secret, &secret("one")));
    assert!(
        !all.contains("one") && !all.contains("two") && !all.contains("same"),
        "{all}"
    );
    let config = secret("one");
    assert_eq!(validate::redact(Kind::ConfigMap, &config), config);
}

#[test]
fn a_bomb_is_refused_quickly() {
    let mut bomb =
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\nx0: &x0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n"
            .to_owned();
    for level in 1..10 {
        bomb += &format!(
            "x{level}: &x{level} [{}]\n",
            vec![format!("*x{}", level - 1); 9].join(", ")
        );
    }
    let began = std::time::Instant::now();
    let found = problems("a.yaml", &bomb);
    assert!(found[0].contains("aliases of this file"), "{found:?}");
    let found = problems("a.yaml", &"[{a: ".repeat(100_000));
    assert!(found[0].contains("deep"), "{found:?}");
    let found = problems("a.yaml", &format!("a: {}", "x".repeat(MOST_BYTES)));
    assert!(found[0].contains("at most"), "{found:?}");
    assert!(began.elapsed().as_secs() < 1, "{:?}", began.elapsed());
}

#[test]
fn many_problems_are_counted_not_all_told() {
    let text = "a: 1\n---\n".repeat(500);
    let parsed = parse("a.yaml", text.as_bytes(), None);
    assert_eq!(parsed.problems.len(), MOST_PROBLEMS + 1);
    assert!(
        parsed
            .problems
            .last()
            .is_some_and(|problem| problem.message.contains("300 more"))
    );
}

proptest::proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..400)) {
        let _ = parse("a.yaml", &bytes, Some("x"));
        let _ = parse("a.json", &bytes, None);
    }

    #[test]
    fn arbitrary_yaml_never_panics(text in "([a-c:&*!|>'\"{}\\[\\],#\\- \n~0-9]|apiVersion: v1\nkind: Pod\n|metadata:|spec:|---\n|<<: ){0,60}") {
        let _ = parse("a.yaml", text.as_bytes(), None);
        let _ = parse("a.json", text.as_bytes(), None);
    }

    /// Any JSON under the top of any kind is judged without a panic.
    #[test]
    fn arbitrary_objects_never_panic(kind in 0..KINDS.len(), body in json(), spec in json()) {
        let info = &KINDS[kind];
        let mut object = serde_json::json!({"apiVersion": info.api_version(), "kind": info.name, "metadata": {"name": "a"}});
        if let Value::Object(body) = body {
            object.as_object_mut().expect("it is one").extend(body);
        }
        object["spec"] = spec;
        let text = object.to_string();
        let _ = parse("a.json", text.as_bytes(), None);
        let _ = validate::changes(info.kind, &object, &Value::Null);
    }
}

fn json() -> impl proptest::strategy::Strategy<Value = Value> {
    use proptest::prelude::*;
    let names = "spec|template|containers|volumes|name|env|ports|resources|metadata|labels|selector|data|rules|limits";
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z%-]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 60, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(names, inner, 0..5).prop_map(Value::from_iter),
        ]
    })
}
