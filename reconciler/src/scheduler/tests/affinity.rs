//! Pods near and away from each other.

use super::*;

fn term(selector: Value, key: &str) -> Value {
    json!({"labelSelector": selector, "topologyKey": key})
}

fn app(name: &str) -> Value {
    json!({"matchLabels": {"app": name}})
}

const HOST: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";

fn near(terms: Value) -> Value {
    json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}})
}

fn away(terms: Value) -> Value {
    json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}})
}

fn zones() -> Place {
    Place::with([node("a", "8", "z1"), node("b", "8", "z1"), node("c", "8", "z2")])
}

#[test]
fn pods_go_near_those_that_they_name() {
    let mut place = zones();
    place.put(on("c", pod("db", json!({"app": "db"}), json!({}))));
    place.put(pod("web", json!({"app": "web"}), near(json!([term(app("db"), ZONE)]))));
    place.put(pod(
        "lost",
        json!({"app": "web"}),
        near(json!([term(app("none"), ZONE)])),
    ));
    place.run();
    assert_eq!(place.node_of("web").as_deref(), Some("c"));
    assert_eq!(
        place.why("lost"),
        "0/3 nodes are available: 3 node(s) didn't match pod affinity rules. \
         preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."
    );
    place.settle();
    place.wait(1);
    place.put(on("a", pod("none", json!({"app": "none"}), json!({}))));
    place.settle();
    assert!(["a", "b"].contains(&place.node_of("lost").as_deref().expect("it has one")));
}

#[test]
fn the_first_of_a_kind_that_wants_to_be_together_goes_anywhere_with_the_label() {
    let mut place = Place::with([node("a", "8", ""), node("b", "8", "z1"), node("c", "8", "z2")]);
    for at in 0..4 {
        place.put(pod(
            &format!("p{at}"),
            json!({"app": "x"}),
            near(json!([term(app("x"), ZONE)])),
        ));
    }
    place.run();
    let counts = place.counts();
    assert_eq!(counts.len(), 1, "{counts:?}");
    assert!(!counts.contains_key("a"), "it has no zone");
}

#[test]
fn all_terms_of_an_affinity_must_hold() {
    let mut place = zones();
    place.put(on("a", pod("one", json!({"app": "db", "tier": "x"}), json!({}))));
    place.put(on("c", pod("two", json!({"app": "db"}), json!({}))));
    let both = json!([term(app("db"), ZONE), term(json!({"matchLabels": {"tier": "x"}}), HOST)]);
    place.put(pod("p", json!({}), near(both)));
    place.run();
    assert_eq!(place.node_of("p").as_deref(), Some("a"));
}

#[test]
fn pods_keep_away_from_those_that_they_name_and_from_those_that_name_them() {
    let mut place = zones();
    place.put(on(
        "a",
        pod("shy", json!({"app": "shy"}), away(json!([term(app("loud"), ZONE)]))),
    ));
    place.put(pod("loud", json!({"app": "loud"}), json!({})));
    place.run();
    assert_eq!(
        place.node_of("loud").as_deref(),
        Some("c"),
        "the one that runs wants it away"
    );
    place.put(pod(
        "careful",
        json!({}),
        away(json!([term(app("shy"), ZONE), term(app("loud"), ZONE)])),
    ));
    place.run();
    assert_eq!(
        place.why("careful"),
        "0/3 nodes are available: 3 node(s) didn't match pod anti-affinity rules. \
         preemption: 0/3 nodes are available: 3 No preemption victims found for incoming pod."
    );
    place.put(pod(
        "louder",
        json!({"app": "loud"}),
        json!({"nodeSelector": {ZONE: "z1"}}),
    ));
    place.run();
    assert_eq!(
        place.why("louder"),
        "0/3 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, \
         2 node(s) didn't satisfy existing pods anti-affinity rules. preemption: 0/3 nodes are available: \
         1 Preemption is not helpful for scheduling, 2 No preemption victims found for incoming pod."
    );
    place.settle();
    place.wait(1);
    place.remove(Kind::Pod, "careful");
    place.remove(Kind::Pod, "shy");
    place.settle();
    assert!(
        place.node_of("louder").is_some(),
        "nobody minds any more: {}",
        place.why("louder")
    );
}

#[test]
fn one_of_a_kind_for_each_host() {
    let mut place = zones();
    for at in 0..4 {
        place.put(pod(
            &format!("p{at}"),
            json!({"app": "x"}),
            away(json!([term(app("x"), HOST)])),
        ));
    }
    place.run();
    assert_eq!(place.counts().into_values().collect::<Vec<_>>(), [1, 1, 1]);
    assert!(
        place
            .why("p3")
            .contains("3 node(s) didn't match pod anti-affinity rules")
    );
    place.settle();
    place.wait(1);
    place.put(node("d", "8", "z9"));
    place.settle();
    assert_eq!(place.node_of("p3").as_deref(), Some("d"));
}

#[test]
fn namespaces_are_named_selected_or_the_own_one() {
    let space = |name: &str, team: &str| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"team": team, "kubernetes.io/metadata.name": name}}});
    let with = |extra: Value| {
        let mut term = term(app("db"), HOST);
        for (key, value) in extra.as_object().into_iter().flatten() {
            term[key] = value.clone();
        }
        away(json!([term]))
    };
    let team = |name: &str| json!({"matchLabels": {"team": name}});
    // Which of the two databases, in the own namespace and in another, count.
    let table = [
        (json!({}), (true, false)),
        (json!({"namespaces": ["other"]}), (false, true)),
        (json!({"namespaces": ["a", "other"]}), (true, true)),
        (json!({"namespaceSelector": {}}), (true, true)),
        (json!({"namespaceSelector": team("blue")}), (false, true)),
        (json!({"namespaceSelector": team("none")}), (false, false)),
        (
            json!({"namespaces": ["a"], "namespaceSelector": team("blue")}),
            (true, true),
        ),
    ];
    for (extra, (own, other)) in table {
        let mut place = Place::with([node("one", "8", ""), node("two", "8", ""), node("three", "1", "")]);
        place.put(space("a", "red"));
        place.put(space("other", "blue"));
        place.put(on("one", pod("db1", json!({"app": "db"}), json!({}))));
        let mut elsewhere = on("two", pod("db2", json!({"app": "db"}), json!({})));
        elsewhere["metadata"]["namespace"] = "other".into();
        place.put(elsewhere);
        place.put(pod("p", json!({}), with(extra.clone())));
        place.run();
        let went = place.node_of("p").expect("there is always one");
        let free: Vec<&str> = [("one", !own), ("two", !other), ("three", true)]
            .into_iter()
            .filter(|(_, free)| *free)
            .map(|(name, _)| name)
            .collect();
        assert!(free.contains(&&*went), "{extra}: {went}, not one of {free:?}");
        if free.len() > 1 {
            assert_ne!(went, "three", "the emptier ones come first");
        }
    }
    let mut place = Place::with([node("one", "8", "")]);
    place.put(space("other", "red"));
    let mut elsewhere = on("one", pod("db", json!({"app": "db"}), json!({})));
    elsewhere["metadata"]["namespace"] = "other".into();
    place.put(elsewhere);
    place.put(pod("p", json!({}), with(json!({"namespaceSelector": team("red")}))));
    place.settle();
    assert_eq!(place.node_of("p"), None);
    place.wait(1);
    place.put(space("other", "blue"));
    place.settle();
    assert!(place.node_of("p").is_some(), "a label of the namespace changed");
}

#[test]
fn label_keys_narrow_a_term_to_the_pods_own_values() {
    let keyed = |field: &str, revision: &str, name: &str| {
        let mut term = term(app("web"), HOST);
        term[field] = json!(["rev"]);
        pod(name, json!({"app": "web", "rev": revision}), away(json!([term])))
    };
    let mut place = Place::with([node("one", "8", "")]);
    place.put(on("one", pod("old", json!({"app": "web", "rev": "1"}), json!({}))));
    place.put(keyed("matchLabelKeys", "2", "next"));
    place.put(keyed("matchLabelKeys", "1", "same"));
    place.run();
    assert_eq!(
        place.node_of("next").as_deref(),
        Some("one"),
        "the old one is of another revision"
    );
    assert_eq!(place.node_of("same"), None);
    let mut place = Place::with([node("one", "8", "")]);
    place.put(on("one", pod("old", json!({"app": "web", "rev": "1"}), json!({}))));
    place.put(keyed("mismatchLabelKeys", "1", "same"));
    place.run();
    assert_eq!(
        place.node_of("same").as_deref(),
        Some("one"),
        "its own revision is left aside"
    );
}

#[test]
fn wishes_of_both_sides_count_in_scores() {
    let wish = |kind: &str, weight: i64, target: &str| {
        json!({"affinity": {kind: {"preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": weight, "podAffinityTerm": term(app(target), HOST)}]}}})
    };
    // The pod that runs, the pod that comes, and whether they end up together.
    let table = [
        (json!({}), wish("podAffinity", 100, "x"), true),
        (json!({}), wish("podAntiAffinity", 100, "x"), false),
        (wish("podAffinity", 100, "y"), json!({}), true),
        (wish("podAntiAffinity", 100, "y"), json!({}), false),
        (near(json!([term(app("y"), HOST)])), json!({}), true),
    ];
    for (runs, comes, together) in table {
        // The one that runs makes its node the fuller one: alone that would keep others away.
        let mut place = Place::with([node("a", "8", ""), node("b", "8", "")]);
        place.put(on("a", pod("x", json!({"app": "x"}), runs.clone())));
        place.put(pod("y", json!({"app": "y"}), comes.clone()));
        place.run();
        let went = place.node_of("y").expect("it has one");
        assert_eq!(went == "a", together, "{runs} {comes}");
    }
}

#[test]
fn pods_of_a_stateful_set_are_told_apart_once_somebody_asks() {
    let member = |at: usize| {
        let name = format!("db-{at}");
        pod(
            &name,
            json!({"app": "db", "statefulset.kubernetes.io/pod-name": name}),
            json!({"hostname": name}),
        )
    };
    let mut place = zones();
    for at in 0..3 {
        place.put(member(at));
    }
    place.run();
    let first = json!({"matchLabels": {"statefulset.kubernetes.io/pod-name": "db-1"}});
    place.put(pod("p", json!({}), near(json!([term(first, HOST)]))));
    place.settle();
    assert_eq!(place.node_of("p"), place.node_of("db-1"));
}
