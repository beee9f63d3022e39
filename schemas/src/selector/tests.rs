use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelectorRequirement;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::Kind;

fn labels(text: &str) -> BTreeMap<String, String> {
    text.split(',')
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

#[test]
fn the_query_form_selects_by_every_operator() {
    for (selector, object, expected) in [
        ("", "a=1", true),
        (" ", "", true),
        ("a=1", "a=1", true),
        ("a==1", "a=2", false),
        ("a = 1", "a=1", true),
        ("a=", "a=", true),
        ("a=,b=1", "a=,b=1", true),
        ("a!=1", "a=1", false),
        ("a!=1", "b=1", true),
        ("a in (1,2)", "a=2", true),
        ("a in (1, 2)", "a=3", false),
        ("a in (1,)", "a=", true),
        ("a notin (1,2)", "", true),
        ("a notin (1,2)", "a=1", false),
        ("a", "a=x", true),
        ("a", "b=x", false),
        ("!a", "b=x", true),
        ("! a", "a=x", false),
        ("a=1,!b,c in (x)", "a=1,c=x", true),
        ("a=1,!b,c in (x)", "a=1,b=,c=x", false),
        ("app.kubernetes.io/name=web", "app.kubernetes.io/name=web", true),
        ("n>5", "n=6", true),
        ("n>5", "n=5", false),
        ("n<5", "n=x", false),
        ("in", "in=1", true),
        ("in in (in)", "in=in", true),
    ] {
        let parsed: Selector = selector.parse().unwrap_or_else(|error| panic!("{selector:?}: {error}"));
        assert_eq!(parsed.matches(&labels(object)), expected, "{selector:?} on {object:?}");
    }
}

#[test]
fn a_bad_query_form_is_refused() {
    for text in [
        "=1",
        ",",
        "a,",
        "a b",
        "a in",
        "a in 1",
        "a in (1",
        "a in (1 2)",
        "!",
        "!=1",
        "a=1=2",
        "a=b c",
        "a>x",
        "-a=1",
        "a=-",
        "a/b/c",
        "(a)",
        "a=1,,b",
    ] {
        assert!(text.parse::<Selector>().is_err(), "{text:?}");
    }
}

#[test]
fn label_selectors_follow_the_api() {
    let expression = |operator: &str, values: &[&str]| LabelSelector {
        match_labels: Some(labels("app=web")),
        match_expressions: Some(vec![LabelSelectorRequirement {
            key: "tier".into(),
            operator: operator.into(),
            values: Some(values.iter().map(|value| (*value).to_owned()).collect()),
        }]),
    };
    for (operator, values, object, expected) in [
        ("In", &["a", "b"][..], "app=web,tier=b", Some(true)),
        ("In", &["a"], "app=web", Some(false)),
        ("NotIn", &["a"], "app=web", Some(true)),
        ("Exists", &[], "app=web,tier=", Some(true)),
        ("DoesNotExist", &[], "app=web,tier=", Some(false)),
        ("DoesNotExist", &[], "app=other", Some(false)),
        ("In", &[], "", None),
        ("Exists", &["a"], "", None),
        ("Like", &["a"], "", None),
    ] {
        let selector = Selector::from_label_selector(&expression(operator, values));
        let result = selector.ok().map(|selector| selector.matches(&labels(object)));
        assert_eq!(result, expected, "{operator} {values:?} on {object:?}");
    }
    let empty = Selector::from_label_selector(&LabelSelector::default()).expect("it is valid");
    assert!(empty.matches(&labels("a=1")), "an empty selector matches everything");
    let missing = Selector::from_optional(None).expect("it is valid");
    assert!(!missing.matches(&labels("")), "a missing selector matches nothing");
}

#[test]
fn field_selectors_read_the_object() {
    let pod = Object::from_value(json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a,b", "namespace": "shop"},
        "spec": {"nodeName": "n1", "restartPolicy": "Always"}, "status": {"phase": "Running"},
    }))
    .expect("it is valid");
    for (text, expected) in [
        ("", true),
        ("metadata.namespace=shop", true),
        (r"metadata.name=a\,b", true),
        ("spec.nodeName=n1,status.phase==Running", true),
        ("spec.nodeName!=n1", false),
        ("status.podIP=", true),
        ("spec.hostNetwork=false", true),
        ("status.phase!=Pending,status.phase!=Failed", true),
    ] {
        let selector = FieldSelector::parse(text, Kind::Pod).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(selector.matches(&pod), expected, "{text:?}");
    }
    let selector = FieldSelector::parse("spec.nodeName=n1", Kind::Pod).expect("it is valid");
    assert_eq!(selector.required("spec.nodeName"), Some("n1"));
}

#[test]
fn unknown_fields_are_refused_as_the_api_server_does() {
    for (text, kind, message) in [
        ("spec.foo=x", Kind::Pod, "field label not supported: spec.foo"),
        (
            "status.phase=x",
            Kind::Deployment,
            r#""status.phase" is not a known field selector: only "metadata.name", "metadata.namespace""#,
        ),
        (
            "metadata.name",
            Kind::Pod,
            r#"invalid selector: "metadata.name"; can't understand "metadata.name""#,
        ),
    ] {
        let error = FieldSelector::parse(text, kind).expect_err(text);
        assert_eq!(error.to_string(), message);
    }
    assert!(FieldSelector::parse(r"metadata.name=a\b", Kind::Pod).is_err());
    assert!(FieldSelector::parse("metadata.name=a=b", Kind::Pod).is_err());
}

proptest! {
    #[test]
    fn a_selector_reads_what_it_writes(
        requirements in proptest::collection::vec(("[a-z]{1,3}", 0..6usize, proptest::collection::btree_set("[a-z0-9]{1,3}", 1..3), any::<i64>()), 0..4),
    ) {
        let requirements = requirements.into_iter().map(|(key, test, values, bound)| Requirement { key, test: match test {
            0 => Test::In(values),
            1 => Test::NotIn(values),
            2 => Test::Exists,
            3 => Test::Missing,
            4 => Test::GreaterThan(bound),
            _ => Test::LessThan(bound),
        }}).collect();
        let selector = Selector { requirements, nothing: false };
        prop_assert_eq!(selector.to_string().parse::<Selector>(), Ok(selector));
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[a-c=!,()<> \\\\in.]{0,20}") {
        let _ = text.parse::<Selector>();
        let _ = FieldSelector::parse(&text, Kind::Pod);
    }
}
