use schemas::quota::Quota;
use serde_json::json;

use super::*;
use crate::simulation::Simulation;

fn quota(status: Value) -> Object {
    let mut value = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q", "namespace": "a", "uid": "u"},
        "spec": {"hard": {"pods": "2", "requests.cpu": "1", "unheard.of": "7"}}});
    if !status.is_null() {
        value["status"] = status;
    }
    Object::from_value(value).expect("it is an object")
}

#[test]
fn a_status_tells_what_is_counted_once() {
    let mut sim = Simulation::new();
    let object = sim.put(quota(Value::Null).to_value());
    let rules = Arc::new(Quota::read(&object).expect("it reads"));
    let used = vec![Quantity::from_value(1), Quantity::from_milli(250), Quantity::ZERO];
    let world = World {
        counted: Counted { quota: rules, used },
        quota: object,
    };
    sim.apply(&plan(&world));
    let told = sim.get(Kind::ResourceQuota, "q");
    assert_eq!(
        told.status_value(),
        Some(json!({
            "hard": {"pods": "2", "requests.cpu": "1", "unheard.of": "7"},
            "used": {"pods": "1", "requests.cpu": "250m"},
        }))
    );
    let again = World { quota: told, ..world };
    assert!(plan(&again).is_empty());
}

#[test]
fn only_what_gives_room_wakes_those_who_were_refused() {
    let with = |pods: &str| quota(json!({"used": {"pods": pods}}));
    let more = |old: &str, new: &str| gives_room(Kind::ResourceQuota, Some(&with(old)), Some(&with(new)));
    assert!(more("2", "1"));
    assert!(!more("1", "2") && !more("2", "2"));
    assert!(gives_room(Kind::ResourceQuota, Some(&with("2")), None));
    assert!(gives_room(Kind::ServiceAccount, None, Some(&with("2"))));
    assert!(!gives_room(Kind::Pod, Some(&with("2")), None));
}
