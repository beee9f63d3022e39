use proptest::prelude::*;
use serde_json::json;

use super::*;

#[test]
fn a_json_patch_succeeds_as_a_whole_or_not_at_all() {
    let current = json!({"a": 1, "list": [1, 2]});
    let good = json!([{"op": "replace", "path": "/a", "value": 2}, {"op": "add", "path": "/list/-", "value": 3}]);
    assert_eq!(
        json(&current, &good).expect("it applies"),
        json!({"a": 2, "list": [1, 2, 3]})
    );
    for bad in [
        json!([{"op": "replace", "path": "/a", "value": 2}, {"op": "test", "path": "/a", "value": 1}]),
        json!([{"op": "remove", "path": "/missing"}]),
        json!([{"op": "add", "path": "/list/9", "value": 1}]),
        json!([{"op": "fly", "path": "/a"}]),
        json!({"op": "remove", "path": "/a"}),
    ] {
        assert!(json(&current, &bad).is_err(), "{bad}");
    }
}

#[test]
fn a_merge_patch_replaces_lists_and_removes_by_null() {
    let current = json!({"a": {"b": 1, "c": 2}, "list": [1]});
    let patch = json!({"a": {"b": null, "d": 3}, "list": [2], "new": {"x": null, "y": 1}});
    assert_eq!(
        merge(&current, &patch).expect("it applies"),
        json!({"a": {"c": 2, "d": 3}, "list": [2], "new": {"y": 1}})
    );
    assert!(merge(&current, &json!([1])).is_err());
}

fn deployment(containers: Value) -> Value {
    json!({"spec": {"template": {"spec": {"containers": containers}}}})
}

#[test]
fn lists_merge_by_their_key_or_are_replaced() {
    let two = json!([{"name": "a", "image": "a:1", "args": ["x"]}, {"name": "b", "image": "b:1"}]);
    for (patch, expected) in [
        (
            json!([{"name": "b", "image": "b:2"}]),
            json!([{"name": "a", "image": "a:1", "args": ["x"]}, {"name": "b", "image": "b:2"}]),
        ),
        (
            json!([{"name": "a", "args": ["y"]}]),
            json!([{"name": "a", "image": "a:1", "args": ["y"]}, {"name": "b", "image": "b:1"}]),
        ),
        (
            json!([{"name": "c", "image": "c", "env": null}]),
            json!([{"name": "a", "image": "a:1", "args": ["x"]}, {"name": "b", "image": "b:1"}, {"name": "c", "image": "c"}]),
        ),
        (
            json!([{"name": "a", "$patch": "delete"}]),
            json!([{"name": "b", "image": "b:1"}]),
        ),
        (
            json!([{"$patch": "replace"}, {"name": "c", "image": "c"}]),
            json!([{"name": "c", "image": "c"}]),
        ),
        (
            json!([{"name": "a", "$patch": "replace", "image": "a:2"}]),
            json!([{"name": "a", "image": "a:2"}, {"name": "b", "image": "b:1"}]),
        ),
        (json!([{"name": "x", "$patch": "delete"}]), two.clone()),
    ] {
        let patched = strategic(&deployment(two.clone()), &deployment(patch.clone()), Kind::Deployment);
        assert_eq!(patched.expect("it applies"), deployment(expected), "{patch}");
    }
}

#[test]
fn directives_are_obeyed() {
    for (kind, current, patch, expected) in [
        (
            Kind::ConfigMap,
            json!({"data": {"a": "1", "b": "2"}}),
            json!({"data": {"$patch": "replace", "c": "3"}}),
            json!({"data": {"c": "3"}}),
        ),
        (
            Kind::Deployment,
            json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}),
            json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}),
            json!({"spec": {"strategy": {"type": "Recreate"}}}),
        ),
        (
            Kind::Pod,
            json!({"metadata": {"finalizers": ["a", "b"]}}),
            json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["c", "b"]}}),
            json!({"metadata": {"finalizers": ["b", "c"]}}),
        ),
        (
            Kind::Pod,
            json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}, {"name": "x"}]}}),
            json!({"spec": {
                "$setElementOrder/containers": [{"name": "c"}, {"name": "b"}, {"name": "a"}],
                "containers": [{"name": "c"}],
            }}),
            json!({"spec": {"containers": [{"name": "c"}, {"name": "b"}, {"name": "x"}, {"name": "a"}]}}),
        ),
        (
            Kind::Pod,
            json!({"metadata": {"labels": {"a": "b"}}}),
            json!({"metadata": {"labels": {"$patch": "delete"}}}),
            json!({"metadata": {"labels": {}}}),
        ),
        (
            Kind::Service,
            json!({"spec": {"ports": [{"port": 80, "nodePort": 30000}], "selector": {"a": "1"}}}),
            json!({"spec": {"ports": [{"port": 80, "name": "http"}], "selector": {"b": "2"}}}),
            json!({"spec": {"ports": [{"port": 80, "nodePort": 30000, "name": "http"}], "selector": {"a": "1", "b": "2"}}}),
        ),
        (
            Kind::Pod,
            json!({"spec": {"tolerations": [{"key": "a"}]}}),
            json!({"spec": {"tolerations": [{"key": "b"}]}}),
            json!({"spec": {"tolerations": [{"key": "b"}]}}),
        ),
        (
            Kind::Deployment,
            json!({"metadata": {"annotations": {"a": "1"}}}),
            json!({"metadata": {"annotations": {"a": null, "b": null}}}),
            json!({"metadata": {"annotations": {}}}),
        ),
    ] {
        let patched = strategic(&current, &patch, kind).unwrap_or_else(|error| panic!("{patch}: {error}"));
        assert_eq!(patched, expected, "{patch}");
    }
}

#[test]
fn a_bad_patch_is_refused_with_its_place() {
    for (patch, message) in [
        (
            deployment(json!([{"image": "b"}])),
            ".spec.template.spec.containers: an item does not have the merge key \"name\"",
        ),
        (
            deployment(json!([{"name": "a", "$patch": "burn"}])),
            ".spec.template.spec.containers[name=\"a\"]: $patch must be replace, merge or delete, not \"burn\"",
        ),
        (
            json!({"spec": {"strategy": {"$retainKeys": ["type"], "rollingUpdate": {}}}}),
            ".spec.strategy: the patch sets \"rollingUpdate\", which $retainKeys leaves out",
        ),
        (json!([]), "the patch must be a JSON object"),
    ] {
        let current = json!({"spec": {"strategy": {}, "template": {"spec": {"containers": [{"name": "a"}]}}}});
        let error = strategic(&current, &patch, Kind::Deployment).expect_err("it is bad");
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn content_types_tell_patches_apart() {
    for (text, expected) in [
        ("application/json-patch+json", Some(PatchType::Json)),
        ("application/merge-patch+json; charset=utf-8", Some(PatchType::Merge)),
        ("application/strategic-merge-patch+json", Some(PatchType::Strategic)),
        ("application/apply-patch+yaml", Some(PatchType::Apply)),
        ("application/json", None),
    ] {
        assert_eq!(PatchType::from_content_type(text), expected, "{text}");
    }
}

fn plain(depth: u32) -> BoxedStrategy<Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        (0i64..3).prop_map(Value::from),
        "[a-b]{1}".prop_map(Value::from)
    ];
    if depth == 0 {
        return leaf.boxed();
    }
    let names = proptest::sample::select(vec![
        "metadata",
        "labels",
        "finalizers",
        "spec",
        "template",
        "containers",
        "name",
        "image",
        "ports",
        "$patch",
        "$retainKeys",
        "$setElementOrder/containers",
        "$deleteFromPrimitiveList/finalizers",
    ]);
    prop_oneof![
        1 => leaf,
        4 => proptest::collection::btree_map(names, plain(depth - 1), 0..5).prop_map(|map| {
            map.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<serde_json::Map<_, _>>().into()
        }),
        1 => proptest::collection::vec(plain(depth - 1), 0..3).prop_map(Value::from),
    ]
    .boxed()
}

fn has_directive(value: &Value) -> bool {
    match value {
        Value::Object(map) => map
            .iter()
            .any(|(name, value)| name.starts_with('$') || has_directive(value)),
        Value::Array(items) => items.iter().any(has_directive),
        _ => false,
    }
}

proptest! {
    #[test]
    fn no_directive_is_ever_stored(patch in plain(5)) {
        let current = json!({"metadata": {"finalizers": ["a"]}, "spec": {"containers": [{"name": "a"}]}});
        if let Ok(patched) = strategic(&current, &patch, Kind::Pod) {
            prop_assert!(!has_directive(&patched), "{}", patched);
        }
    }
}
