use super::*;

fn now(seconds: i64) -> Now {
    Now {
        wall: jiff::Timestamp::from_second(1_700_000_000 + seconds).expect("a time"),
        monotonic: Duration::from_secs(u64::try_from(seconds).expect("a time after the start")),
    }
}

fn registration(machine: &str) -> Registration {
    Registration {
        name: "a".into(),
        machine_id: machine.into(),
        agent: machine.replace('m', "a").into(),
        labels: [("zone".to_owned(), "z".to_owned())].into(),
        pod_range: "10.1.0.0/24".into(),
        status: json!({}),
    }
}

fn condition<'a>(status: &'a Value, kind: &str) -> &'a Value {
    conditions(status)
        .iter()
        .find(|one| kind_of(one) == kind)
        .unwrap_or(&Value::Null)
}

#[test]
fn a_name_is_free_for_its_agent_and_for_others_once_it_is_silent() {
    let held = node(None, &registration("m1"), now(0), "u");
    for (machine, agent, silence, claimed) in [
        ("m1", Some("a1"), 0, Claim::Free),
        ("m1", None, 0, Claim::Free),
        ("m1", Some("a2"), 0, Claim::OtherAgent),
        ("m1", Some("a2"), 49, Claim::OtherAgent),
        ("m1", Some("a2"), 50, Claim::Free),
        ("m2", Some("a2"), 0, Claim::OtherMachine),
        ("m2", Some("a1"), 49, Claim::OtherMachine),
        ("m2", None, 50, Claim::Free),
        ("", None, 0, Claim::OtherMachine),
    ] {
        assert_eq!(
            claim(Some(&held), machine, agent, Duration::from_secs(silence)),
            claimed,
            "{machine} {agent:?} {silence}"
        );
    }
    assert_eq!(claim(None, "m2", Some("a2"), Duration::ZERO), Claim::Free);
    // A node of before agents said who they are.
    let older = Registration {
        agent: "".into(),
        ..registration("m1")
    };
    let older = node(None, &older, now(0), "u");
    assert_eq!(claim(Some(&older), "m1", Some("a1"), Duration::ZERO), Claim::Free);
}

#[test]
fn an_agent_without_an_id_gets_that_of_its_machine_and_no_other() {
    let held = node(None, &registration("m1"), now(0), "u");
    for (existing, machine, agent) in [
        (Some(&held), "m1", "a1"),
        (Some(&held), "m2", "new"),
        (None, "m1", "new"),
    ] {
        let proposed = Identity {
            machine_id: machine.to_owned(),
            agent: "new".into(),
        };
        assert_eq!(&*identity(existing, proposed).agent, agent, "{machine}");
    }
}

#[test]
fn a_second_registration_changes_nothing_and_keeps_what_others_set() {
    let mut first = node(None, &registration("m1"), now(0), "u");
    first
        .meta
        .labels
        .get_or_insert_default()
        .insert("other".into(), "x".into());
    let mut body = first.body.value();
    body["spec"]["unschedulable"] = true.into();
    first.body = Body::new(body);
    let second = node(Some(&first), &registration("m1"), now(9), "v");
    assert!(is_same(&first, &second));
    assert_eq!(second.uid(), "u".into());
    assert_eq!(second.label(labels::HOSTNAME), Some("a"));
    assert_eq!(second.label("other"), Some("x"));
    assert_eq!(second.body.value()["spec"]["podCIDR"], "10.1.0.0/24");
    assert!(!is_same(&first, &node(Some(&first), &registration("m2"), now(9), "v")));
}

#[test]
fn a_heartbeat_that_says_nothing_new_writes_nothing() {
    let reported = json!({"capacity": {"cpu": "2"}, "conditions": [
        {"type": "MemoryPressure", "status": "False", "lastHeartbeatTime": "2020-01-01T00:00:00Z"},
    ]});
    let first = status(None, Some(reported.clone()), Some(&[]), now(0)).expect("it is new");
    assert_eq!(condition(&first, "Ready")["status"], "True");
    assert_eq!(status(Some(&first), None, Some(&[]), now(10)), None);
    assert_eq!(status(Some(&first), Some(reported), Some(&[]), now(20)), None);
}

#[test]
fn ready_follows_the_agent_and_unknown_ends_with_a_heartbeat() {
    let ready = |word: &str| json!({"conditions": [{"type": "Ready", "status": word, "reason": "R"}]});
    // What is stored, what the agent reports, what is written; none for nothing.
    for (stored, reported, written) in [
        ("Unknown", None, Some("True")),
        ("False", None, None),
        ("True", Some("False"), Some("False")),
        ("False", Some("True"), Some("True")),
    ] {
        let stored = status(None, Some(ready(stored)), None, now(0)).expect("it is new");
        let found = status(Some(&stored), reported.map(ready), None, now(10));
        let found = found
            .as_ref()
            .map(|status| condition(status, "Ready")["status"].clone());
        assert_eq!(found, written.map(Value::from), "{stored} {reported:?}");
    }
}

#[test]
fn conditions_of_others_stay_and_transitions_are_stamped_by_the_server() {
    let stored = json!({"conditions": [
        {"type": "NetworkUnavailable", "status": "False", "lastTransitionTime": "2020-01-01T00:00:00Z",
         "lastHeartbeatTime": "2020-01-01T00:00:00Z"},
    ]});
    let next = status(Some(&stored), Some(json!({"capacity": {}})), None, now(0)).expect("it changes");
    assert_eq!(condition(&next, "NetworkUnavailable"), &stored["conditions"][0]);
    assert_eq!(condition(&next, "Ready")["lastTransitionTime"], "2023-11-14T22:13:20Z");
}

#[test]
fn unclaimed_pods_are_named_until_they_are_gone_or_kept() {
    let pod = |number: u32, kept: bool| Unclaimed {
        key: schemas::Key::namespaced(Kind::Pod, "n", &format!("p{number}")),
        uid: format!("u{number}").as_str().into(),
        containers: vec!["c".to_owned()],
        kept,
    };
    let said = |status: &Value| {
        let condition = condition(status, UNCLAIMED);
        let text = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
        (text("status"), text("message"))
    };
    let many: Vec<Unclaimed> = (0..12).map(|number| pod(number, false)).collect();
    let first = status(None, None, Some(&many), now(0)).expect("it is new");
    let (value, message) = said(&first);
    assert!(
        value == "True" && message.contains("n/p9 (u9) and 2 more; `towline unclaimed`"),
        "{message}"
    );
    let kept = status(Some(&first), None, Some(&[pod(3, true)]), now(10)).expect("it changes");
    let (value, message) = said(&kept);
    assert!(value == "False" && message.contains("n/p3 (u3)"), "{message}");
    let none = status(Some(&kept), None, Some(&[]), now(20)).expect("it changes");
    assert_eq!(said(&none).0, "False");
    assert_eq!(
        condition(&none, UNCLAIMED)["lastTransitionTime"],
        "2023-11-14T22:13:30Z"
    );
    assert_eq!(status(Some(&none), None, Some(&[]), now(30)), None);
}
