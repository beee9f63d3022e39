//! Topology spread.

use super::*;

const HOST: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";

fn constraint(key: &str, skew: i64, extra: Value) -> Value {
    let mut value = json!({
        "topologyKey": key, "maxSkew": skew, "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "x"}},
    });
    for (field, part) in extra.as_object().into_iter().flatten() {
        value[field] = part.clone();
    }
    value
}

fn spread(constraints: Value) -> Value {
    json!({"topologySpreadConstraints": constraints})
}

fn member(name: &str, spec: Value) -> Value {
    pod(name, json!({"app": "x"}), spec)
}

#[test]
fn pods_are_spread_over_zones_within_the_skew() {
    let mut place = Place::with([
        node("a", "8", "z1"),
        node("b", "8", "z1"),
        node("c", "8", "z2"),
        node("d", "8", ""),
    ]);
    for at in 0..4 {
        place.put(member(
            &format!("p{at}"),
            spread(json!([constraint(ZONE, 1, json!({}))])),
        ));
    }
    place.run();
    let counts = place.counts();
    let of = |name: &str| counts.get(name).copied().unwrap_or(0);
    assert_eq!((of("a") + of("b"), of("c"), of("d")), (2, 2, 0), "{counts:?}");
    // The emptier zone is full now.
    place.edit(Kind::Node, "c", |node| node["spec"]["unschedulable"] = true.into());
    place.put(member("q", spread(json!([constraint(ZONE, 1, json!({}))]))));
    place.put(member("r", spread(json!([constraint(ZONE, 1, json!({}))]))));
    place.run();
    assert_eq!(
        place.why("r"),
        "0/4 nodes are available: 1 node(s) didn't match pod topology spread constraints (missing required label), \
         1 node(s) were unschedulable, 2 node(s) didn't match pod topology spread constraints. \
         preemption: 0/4 nodes are available: 2 No preemption victims found for incoming pod, \
         2 Preemption is not helpful for scheduling."
    );
    place.settle();
    place.wait(1);
    place.edit(Kind::Node, "c", |node| node["spec"]["unschedulable"] = false.into());
    place.settle();
    assert_eq!(place.node_of("r").as_deref(), Some("c"));
}

#[test]
fn the_policies_say_which_nodes_count() {
    let tainted = || {
        let mut node = node("t", "8", "z3");
        node["spec"]["taints"] = json!([{"key": "k", "effect": "NoSchedule"}]);
        node
    };
    let in_zones = |zones: Value| {
        json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": ZONE, "operator": "In", "values": zones}]}]}}})
    };
    // One pod of the kind runs in z1 and one in z2; z3 is empty. Does another one fit?
    let table = [
        // A node that a pod may not use by its affinity does not count.
        (json!({}), in_zones(json!(["z1", "z2"])), true),
        (
            json!({"nodeAffinityPolicy": "Ignore"}),
            in_zones(json!(["z1", "z2"])),
            false,
        ),
        // One with a taint counts unless the policy honours it.
        (json!({}), in_zones(json!(["z1", "z2", "z3"])), false),
        (
            json!({"nodeTaintsPolicy": "Honor"}),
            in_zones(json!(["z1", "z2", "z3"])),
            true,
        ),
    ];
    for (extra, affinity, fits) in table {
        let mut place = Place::with([node("a", "8", "z1"), node("b", "8", "z2"), tainted()]);
        place.put(on("a", member("one", json!({}))));
        place.put(on("b", member("two", json!({}))));
        let mut spec = spread(json!([constraint(ZONE, 1, extra.clone())]));
        spec["affinity"] = affinity.clone();
        place.put(member("p", spec));
        place.run();
        assert_eq!(place.node_of("p").is_some(), fits, "{extra} {affinity}");
    }
}

#[test]
fn fewer_domains_than_there_have_to_be_count_as_an_empty_one() {
    for (least, fit) in [(1, 4), (2, 4), (3, 2)] {
        let mut place = Place::with([node("a", "8", "z1"), node("b", "8", "z2")]);
        for at in 0..4 {
            let constraints = json!([constraint(ZONE, 1, json!({"minDomains": least}))]);
            place.put(member(&format!("p{at}"), spread(constraints)));
        }
        place.run();
        assert_eq!(place.counts().values().sum::<usize>(), fit, "{least}");
        if fit == 2 {
            place.settle();
            place.wait(1);
            place.put(node("c", "8", "z3"));
            place.settle();
            assert_eq!(place.counts().values().sum::<usize>(), 4, "a third domain has come");
        }
    }
}

#[test]
fn what_is_being_deleted_and_what_is_of_another_namespace_does_not_count() {
    let mut place = Place::with([node("a", "8", "z1"), node("b", "1", "z2")]);
    let mut going = on("a", member("going", json!({})));
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    going["metadata"]["deletionGracePeriodSeconds"] = 30.into();
    place.put(going);
    let mut elsewhere = on("a", member("elsewhere", json!({})));
    elsewhere["metadata"]["namespace"] = "other".into();
    place.put(elsewhere);
    place.put(member("p", spread(json!([constraint(ZONE, 1, json!({}))]))));
    place.run();
    assert_eq!(
        place.node_of("p").as_deref(),
        Some("a"),
        "the larger node is as empty as the other"
    );
}

#[test]
fn a_pod_that_its_own_constraint_does_not_count_goes_where_the_skew_allows() {
    let mut place = Place::with([node("a", "8", "z1"), node("b", "1", "z2")]);
    place.put(on("a", member("one", json!({}))));
    let constraints = spread(json!([constraint(ZONE, 1, json!({}))]));
    place.put(pod("p", json!({"app": "other"}), constraints));
    place.run();
    assert_eq!(
        place.node_of("p").as_deref(),
        Some("a"),
        "one and none are within the skew"
    );
}

#[test]
fn label_keys_count_pods_of_the_same_revision_only() {
    let mut place = Place::with([node("a", "8", "z1"), node("b", "1", "z2")]);
    for at in 0..2 {
        place.put(on(
            "a",
            pod(&format!("old{at}"), json!({"app": "x", "rev": "1"}), json!({})),
        ));
    }
    let constraints = spread(json!([constraint(
        ZONE,
        1,
        json!({"matchLabelKeys": ["rev", "absent"]})
    )]));
    place.put(pod("p", json!({"app": "x", "rev": "2"}), constraints));
    place.run();
    assert_eq!(place.node_of("p").as_deref(), Some("a"), "old ones are left aside");
}

#[test]
fn several_constraints_hold_together() {
    let mut place = Place::with([node("a", "8", "z1"), node("b", "8", "z1"), node("c", "8", "z2")]);
    for at in 0..4 {
        let constraints = json!([constraint(ZONE, 1, json!({})), constraint(HOST, 1, json!({}))]);
        place.put(member(&format!("p{at}"), spread(constraints)));
    }
    place.run();
    let counts = place.counts();
    assert_eq!(counts.values().sum::<usize>(), 4, "{counts:?}");
    assert_eq!(counts["c"], 2, "{counts:?}");
}

#[test]
fn soft_constraints_prefer_the_emptier_domain() {
    let mut place = Place::with([
        node("a", "64", "z1"),
        node("b", "64", "z1"),
        node("c", "64", "z2"),
        node("d", "64", ""),
    ]);
    for at in 0..4 {
        place.put(on("a", member(&format!("there{at}"), json!({}))));
    }
    let soft = constraint(ZONE, 1, json!({"whenUnsatisfiable": "ScheduleAnyway"}));
    place.put(member("p", spread(json!([soft]))));
    place.run();
    assert_eq!(
        place.node_of("p").as_deref(),
        Some("c"),
        "one without the label scores nothing"
    );
}

#[test]
fn pods_of_one_controller_are_spread_although_nobody_said_so() {
    let owned = |name: &str, uid: &str| {
        let mut pod = member(name, json!({}));
        pod["metadata"]["ownerReferences"] = json!([
            {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": uid, "controller": true}]);
        pod
    };
    // The node of other zones and hosts is much fuller; still it comes next.
    let mut place = Place::with([node("a", "64", "z1"), node("b", "64", "z2")]);
    place.put(on("b", asks("full", json!({"cpu": "32", "memory": "4Gi"}))));
    place.put(on("a", owned("one", "r")));
    place.put(owned("two", "r"));
    place.put(owned("other", "s"));
    place.run();
    assert_eq!(place.node_of("two").as_deref(), Some("b"));
    assert_eq!(
        place.node_of("other").as_deref(),
        Some("a"),
        "of another controller there is none yet"
    );
}
