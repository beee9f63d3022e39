//! Preemption: who goes for whom.

use proptest::prelude::*;

use super::{
    properties::{Dice, drop_waiting},
    reference::{Known, Placed, priority},
    *,
};

fn important(mut pod: Value, priority: i64) -> Value {
    pod["spec"]["priority"] = priority.into();
    pod
}

fn runs(node: &str, name: &str, cpu: &str, priority: i64) -> Value {
    let mut pod = on(node, important(asks(name, json!({"cpu": cpu})), priority));
    pod["status"]["startTime"] = "2026-01-01T00:00:00Z".into();
    pod
}

fn budget(app: &str, allowed: i64) -> Value {
    json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": app, "namespace": "a"},
        "spec": {"selector": {"matchLabels": {"app": app}}},
        "status": {"disruptionsAllowed": allowed, "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1},
    })
}

fn of_app(mut pod: Value, app: &str) -> Value {
    pod["metadata"]["labels"] = json!({"app": app});
    pod
}

/// Names of the pods that are being deleted.
fn going(place: &Place) -> Vec<String> {
    let pods = place.all(Kind::Pod);
    let going = pods.iter().filter(|pod| pod.is_deleting());
    going.map(|pod| pod.name().to_owned()).collect()
}

fn nominated(place: &Place, pod: &str) -> Option<String> {
    let pod = place.get(Kind::Pod, pod);
    super::super::cluster::nominated(&pod).map(std::borrow::Cow::into_owned)
}

#[test]
fn less_important_pods_make_room_gracefully_and_say_why() {
    let mut place = Place::with([node("a", "2", ""), node("b", "1", "")]);
    place.put(runs("a", "low", "1", 0));
    place.put(runs("a", "mid", "1", 5));
    place.put(important(asks("high", json!({"cpu": "1500m"})), 10));
    let plan = place.run();
    assert_eq!(going(&place), ["low", "mid"]);
    assert_eq!(nominated(&place, "high").as_deref(), Some("a"));
    assert_eq!(place.why("high"), "0/2 nodes are available: 2 Insufficient cpu.");
    let low = place.get(Kind::Pod, "low");
    assert_eq!(low.meta.deletion_grace_period_seconds, Some(30));
    let condition = pods::condition(&low, "DisruptionTarget").expect("it says why").clone();
    assert_eq!(condition["reason"], "PreemptionByScheduler");
    assert_eq!(
        condition["message"],
        "default-scheduler: preempting to accommodate a higher priority pod"
    );
    let told: Vec<_> = plan.notes.iter().filter(|note| note.reason == "Preempted").collect();
    assert_eq!(told.len(), 2);
    assert!(told[0].message.starts_with("Preempted by pod uid-high on node a") && !told[0].warning);

    place.settle();
    place.wait(1);
    place.remove(Kind::Pod, "low");
    place.settle();
    assert_eq!(place.node_of("high"), None, "there is not room enough yet");
    assert_eq!(nominated(&place, "high").as_deref(), Some("a"));
    place.remove(Kind::Pod, "mid");
    place.settle();
    assert_eq!(
        place.node_of("high").as_deref(),
        Some("a"),
        "both are gone: no time is lost"
    );
    assert_eq!(nominated(&place, "high"), None);
}

#[test]
fn room_that_is_made_is_not_taken_by_others() {
    let mut place = Place::with([node("a", "1", "")]);
    place.put(runs("a", "low", "1", 0));
    place.put(important(asks("high", json!({"cpu": "1"})), 10));
    place.run();
    place.settle();
    place.wait(1);
    place.put(important(asks("late", json!({"cpu": "1"})), 5));
    place.remove(Kind::Pod, "low");
    place.settle();
    assert_eq!(place.node_of("high").as_deref(), Some("a"));
    assert!(
        place.why("late").contains("1 Insufficient cpu"),
        "{}",
        place.why("late")
    );
}

#[test]
fn a_pod_waits_for_those_on_their_way_out_instead_of_sending_more_away() {
    let mut place = Place::with([node("a", "1", ""), node("b", "1", "")]);
    for name in ["a", "b"] {
        place.put(runs(name, &format!("low-{name}"), "1", 0));
    }
    place.put(important(asks("high", json!({"cpu": "1"})), 10));
    place.settle();
    assert_eq!(going(&place).len(), 1);
    let at = nominated(&place, "high").expect("it is");
    place.wait(400);
    place.put(node("c", "500m", ""));
    place.settle();
    assert_eq!(going(&place).len(), 1);
    assert_eq!(nominated(&place, "high"), Some(at));
    assert!(
        place
            .why("high")
            .ends_with("preemption: not eligible due to a terminating pod on the nominated node."),
        "{}",
        place.why("high")
    );
}

#[test]
fn a_pod_that_finds_another_node_meanwhile_takes_it() {
    let mut place = Place::with([node("a", "1", "")]);
    place.put(runs("a", "low", "1", 0));
    place.put(important(asks("high", json!({"cpu": "1"})), 10));
    place.settle();
    place.wait(1);
    place.put(node("b", "1", ""));
    place.settle();
    assert_eq!(place.node_of("high").as_deref(), Some("b"));
    assert_eq!(nominated(&place, "high"), None);
    place.remove(Kind::Pod, "low");
    place.put(asks("next", json!({"cpu": "1"})));
    place.settle();
    assert_eq!(
        place.node_of("next").as_deref(),
        Some("a"),
        "its room is free for others"
    );
}

#[test]
fn pods_that_may_not_preempt_wait() {
    let mut place = Place::with([node("a", "1", "")]);
    place.put(runs("a", "low", "1", 0));
    let mut polite = important(asks("polite", json!({"cpu": "1"})), 10);
    polite["spec"]["preemptionPolicy"] = "Never".into();
    place.put(polite);
    place.run();
    assert!(going(&place).is_empty());
    assert_eq!(
        place.why("polite"),
        "0/1 nodes are available: 1 Insufficient cpu. preemption: not eligible due to preemptionPolicy=Never."
    );
}

#[test]
fn nobody_goes_for_a_pod_that_would_not_fit_afterwards() {
    let other = |mut pod: Value| {
        pod["metadata"]["labels"] = json!({"app": "x"});
        pod
    };
    let away = json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"labelSelector": {"matchLabels": {"app": "x"}}, "topologyKey": "kubernetes.io/hostname"}]}});
    let mut shy = important(asks("high", json!({"cpu": "1"})), 10);
    shy["spec"]["affinity"] = away;
    let table = [
        // Equal ones hold the room.
        (
            vec![runs("a", "low", "500m", 0), runs("a", "equal", "1500m", 10)],
            important(asks("high", json!({"cpu": "1"})), 10),
            "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 Insufficient cpu.",
        ),
        // One that it must keep away from stays.
        (
            vec![runs("a", "low", "2", 0), other(runs("a", "equal", "0", 10))],
            shy,
            "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: \
             1 node(s) didn't match pod anti-affinity rules.",
        ),
        // The node is too small for it in any case.
        (
            vec![runs("a", "low", "1", 0)],
            important(asks("high", json!({"cpu": "3"})), 10),
            "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: \
             1 Preemption is not helpful for scheduling.",
        ),
    ];
    for (there, high, expected) in table {
        let mut place = Place::with([node("a", "2", "")]);
        there.into_iter().for_each(|pod| place.put(pod));
        place.put(high);
        place.run();
        assert!(going(&place).is_empty());
        assert_eq!(place.why("high"), expected);
    }
}

#[test]
fn those_go_that_matter_least() {
    let started = |mut pod: Value, at: &str| {
        pod["status"]["startTime"] = at.into();
        pod
    };
    // What runs on node a and on node b, and who has to go.
    let table: [(Vec<Value>, &[&str]); 6] = [
        // Fewer violations of budgets, before anything else.
        (
            vec![of_app(runs("a", "one", "2", 0), "web"), runs("b", "two", "2", 9)],
            &["two"],
        ),
        // The lower highest priority.
        (
            vec![
                runs("a", "one", "2", 1),
                runs("b", "two", "1", 0),
                runs("b", "three", "1", 2),
            ],
            &["one"],
        ),
        // The lower sum.
        (
            vec![
                runs("a", "one", "1", 1),
                runs("a", "two", "1", 1),
                runs("b", "three", "1", 1),
                runs("b", "four", "1", 0),
            ],
            &["four", "three"],
        ),
        // Fewer of them: each counts for more than any priority below zero takes away.
        (
            vec![
                runs("a", "one", "2", -5),
                runs("b", "two", "1", -5),
                runs("b", "three", "1", -5),
            ],
            &["one"],
        ),
        // Those that started last.
        (
            vec![
                started(runs("a", "one", "2", 0), "2026-01-01T00:00:00Z"),
                started(runs("b", "two", "2", 0), "2026-01-02T00:00:00Z"),
            ],
            &["two"],
        ),
        // On one node: the more important and the older ones are spared.
        (
            vec![
                started(runs("a", "old", "1", 0), "2026-01-01T00:00:00Z"),
                started(runs("a", "new", "1", 0), "2026-01-02T00:00:00Z"),
                runs("b", "rock", "2", 10),
            ],
            &["new"],
        ),
    ];
    for (there, expected) in table {
        let wanted = if expected == ["new"] { "1" } else { "2" };
        let mut place = Place::with([node("a", "2", ""), node("b", "2", "")]);
        place.put(budget("web", 0));
        there.into_iter().for_each(|pod| place.put(pod));
        place.put(important(asks("high", json!({"cpu": wanted})), 10));
        place.run();
        let mut gone = going(&place);
        gone.sort();
        assert_eq!(gone, expected);
    }
}

#[test]
fn a_budget_is_violated_only_where_there_is_no_other_choice_and_counts_what_was_chosen_before() {
    let mut place = Place::with(["a", "b", "c"].map(|name| node(name, "1", "")));
    place.put(budget("web", 1));
    for name in ["a", "b"] {
        place.put(of_app(runs(name, &format!("web-{name}"), "1", 0), "web"));
    }
    place.put(runs("c", "other", "1", 5));
    for at in 0..2 {
        place.put(important(asks(&format!("high{at}"), json!({"cpu": "1"})), 10));
    }
    place.run();
    let gone = going(&place);
    assert_eq!(gone.len(), 2);
    assert!(
        gone.contains(&"other".to_owned()),
        "the budget allows one of its pods only: {gone:?}"
    );
    place.put(important(asks("high2", json!({"cpu": "1"})), 10));
    place.settle();
    assert_eq!(going(&place).len(), 3, "now there is no other choice");
}

#[test]
fn more_important_pods_take_room_from_those_it_was_made_for() {
    let mut place = Place::with([node("a", "1", "")]);
    place.put(runs("a", "low", "1", 0));
    place.put(important(asks("mid", json!({"cpu": "1"})), 5));
    place.settle();
    assert_eq!(nominated(&place, "mid").as_deref(), Some("a"));
    place.put(important(asks("high", json!({"cpu": "1"})), 10));
    place.settle();
    assert_eq!(nominated(&place, "high").as_deref(), Some("a"));
    assert_eq!(nominated(&place, "mid"), None);
    place.wait(1);
    place.remove(Kind::Pod, "low");
    place.settle();
    assert_eq!(
        (place.node_of("high").as_deref(), place.node_of("mid")),
        (Some("a"), None)
    );
}

#[test]
fn pods_go_that_are_in_the_way_by_affinity_or_spread() {
    let away = json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"labelSelector": {"matchLabels": {"app": "x"}}, "topologyKey": "kubernetes.io/hostname"}]}});
    let mut place = Place::with([node("a", "4", "")]);
    place.put(of_app(runs("a", "x", "1", 0), "x"));
    place.put(of_app(runs("a", "y", "1", 0), "y"));
    let mut shy = important(asks("shy", json!({"cpu": "1"})), 10);
    shy["spec"]["affinity"] = away;
    place.put(shy);
    place.run();
    assert_eq!(going(&place), ["x"]);

    let spread = json!([{"topologyKey": "topology.kubernetes.io/zone", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "x"}}}]);
    let mut place = Place::with([node("a", "4", "z1"), node("b", "1", "z2")]);
    place.put(of_app(runs("a", "x", "1", 0), "x"));
    place.put(runs("b", "rock", "1", 20));
    let mut even = of_app(important(asks("even", json!({"cpu": "1"})), 10), "x");
    even["spec"]["topologySpreadConstraints"] = spread;
    place.put(even);
    place.run();
    assert_eq!(going(&place), ["x"], "{}", place.why("even"));
}

fn describe(place: &Place, pod: &Object) -> String {
    let spec = pod.body.value()["spec"].clone();
    let cpu = &spec["containers"][0]["resources"]["requests"]["cpu"];
    let (priority, node) = (&spec["priority"], &pod.node);
    let (why, nominated) = (place.why(pod.name()), nominated(place, pod.name()));
    format!(
        "{} {priority} {cpu} on {node:?} nominated {nominated:?} {why}",
        pod.name()
    )
}

/// What the slow way does: the node and the victims.
fn expected(known: &Known, pod: &Placed) -> Option<(String, Vec<String>)> {
    let candidates = known.nodes.iter().filter_map(|facts| {
        let (victims, violations) = known.victims(pod, facts)?;
        let highest = victims
            .iter()
            .map(|it| i64::from(priority(&it.spec)))
            .max()
            .unwrap_or(i64::MIN);
        let sum: i64 = victims.iter().map(|it| i64::from(priority(&it.spec)) + (1 << 31)).sum();
        let first = victims.iter().filter(|it| i64::from(priority(&it.spec)) == highest);
        let first = first.map(|it| {
            it.object
                .status
                .as_ref()
                .and_then(|status| status.at("startTime")?.text().map(|text| text.into_owned()))
        });
        let first = first.min_by_key(|start| (start.is_none(), start.clone())).flatten();
        let started = std::cmp::Reverse((first.is_none(), first));
        let tie = known.ties[&*facts.name];
        let names: Vec<String> = victims.iter().map(|it| it.object.name().to_owned()).collect();
        Some((
            (violations, highest, sum, victims.len(), started, tie),
            facts.name.to_string(),
            names,
        ))
    });
    candidates
        .min_by(|a, b| a.0.cmp(&b.0))
        .map(|(_, node, names)| (node, names))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// One important pod after the other, each on what the ones before left.
    #[test]
    fn who_goes_is_who_the_slow_way_sends(seed in any::<u64>()) {
        let mut dice = Dice::new(seed);
        let mut place = dice.place();
        for app in ["x", "y"] {
            let mut budget = budget(app, dice.roll(3) as i64);
            budget["metadata"]["namespace"] = "a".into();
            place.put(budget);
        }
        for at in 0..14 {
            let mut pod = dice.pod(&format!("p{at}"), 3);
            pod["metadata"]["namespace"] = "a".into();
            pod["status"]["startTime"] = format!("2026-01-01T00:00:{:02}Z", dice.roll(5)).into();
            place.put(pod);
        }
        place.settle();
        drop_waiting(&mut place);
        // What they sent away has gone.
        for name in going(&place) {
            place.remove(Kind::Pod, &name);
        }
        place.settle();
        for at in 0..4 {
            let name = format!("q{at}");
            let mut pod = dice.pod(&name, 5);
            pod["metadata"]["namespace"] = "a".into();
            place.put(pod);
            let known = Known::of(&place);
            let own = Placed::new(&place.get(Kind::Pod, &name), "", false);
            let before = going(&place);
            place.run();
            let gone: Vec<String> = going(&place).into_iter().filter(|name| !before.contains(name)).collect();
            match known.choose(&own) {
                Ok(node) => {
                    prop_assert_eq!(place.node_of(&name), Some(node), "seed {}", seed);
                    prop_assert!(gone.is_empty());
                }
                Err(_) => match expected(&known, &own) {
                    None => {
                        prop_assert!(gone.is_empty(), "seed {}: {:?} went in vain", seed, gone);
                        prop_assert_eq!(nominated(&place, &name), None);
                    }
                    Some((node, mut victims)) => {
                        victims.sort();
                        prop_assert_eq!((nominated(&place, &name), gone), (Some(node), victims), "seed {}", seed);
                    }
                },
            }
            // What was chosen to go goes, budgets are counted anew, and room is taken.
            if dice.roll(2) == 0 {
                place.wait(1);
                for name in going(&place) {
                    place.remove(Kind::Pod, &name);
                }
                place.settle();
            }
            for pod in place.all(Kind::Pod).iter().filter(|pod| pod.node.is_none()) {
                if super::super::cluster::nominated(pod).is_none() {
                    place.remove(Kind::Pod, pod.name());
                }
            }
            for app in ["x", "y"] {
                let allowed = dice.roll(3) as i64;
                place.edit(Kind::PodDisruptionBudget, app, |budget| budget["status"]["disruptionsAllowed"] = allowed.into());
            }
            place.settle();
        }
    }

    /// Many at once: nobody goes in vain, and in the end everyone has the room that was made for them.
    #[test]
    fn room_that_is_made_is_used(seed in any::<u64>()) {
        let mut dice = Dice::new(seed);
        let mut place = Place::new();
        for at in 0..dice.roll(4) + 1 {
            place.put(node(&format!("n{at}"), &(dice.roll(3) + 1).to_string(), ""));
        }
        for at in 0..10 {
            let cpu = format!("{}m", 250 * (dice.roll(4) + 1));
            place.put(important(asks(&format!("p{at}"), json!({"cpu": cpu})), dice.roll(3) as i64));
        }
        place.settle();
        for round in 0..30 {
            if round < 3 {
                for at in 0..dice.roll(4) {
                    let cpu = format!("{}m", 250 * (dice.roll(4) + 1));
                    place.put(important(asks(&format!("q{round}-{at}"), json!({"cpu": cpu})), dice.roll(6) as i64));
                }
                place.settle();
            }
            place.wait(11);
            place.settle();
            for name in going(&place) {
                place.remove(Kind::Pod, &name);
                place.settle();
            }
        }
        prop_assert!(going(&place).is_empty(), "seed {}: it does not end", seed);
        for pod in place.all(Kind::Pod).iter().filter(|pod| pod.node.is_none()) {
            let all: Vec<String> = place.all(Kind::Pod).iter().map(|pod| describe(&place, pod)).collect();
            prop_assert_eq!(nominated(&place, pod.name()), None, "seed {}: {}: {:#?}", seed, pod.name(), all);
        }
        // No node is given more than it has.
        for node in place.all(Kind::Node) {
            let board = &place.cluster().board;
            let at = board.find(node.name()).expect("it is there");
            let (seat, facts) = board.seat(at).expect("it is there");
            prop_assert!(seat.used.resources.basic[0] <= facts.allocatable.basic[0]);
        }
    }
}
