use schemas::Kind;

use super::*;
use crate::simulation::start;

fn note(name: &str, message: &str) -> EventSpec {
    EventSpec {
        involved: Key::namespaced(Kind::Pod, "a", name),
        involved_uid: "u".into(),
        field_path: None,
        warning: false,
        reason: "Scheduled".to_owned(),
        message: message.to_owned(),
        component: "default-scheduler".to_owned(),
        host: None,
    }
}

#[test]
fn repeated_things_are_counted_in_one_event() {
    let mut pending = Pending::default();
    pending.add(vec![note("p", "x"), note("p", "x"), note("p", "y")], start());
    let world = pending.take(|_| None);
    assert!(pending.is_empty());
    let mut ids = Ids::seeded(1);
    let first = plan(&world, start(), &mut ids);
    let writes = |plan: &Plan| match &plan.steps[0] {
        crate::plan::Step::Write { writes, .. } => writes.clone(),
        other => panic!("{other:?}"),
    };
    let mut counts: Vec<i64> = Vec::new();
    let mut stored = Vec::new();
    for write in writes(&first) {
        let Op::Create(event) = write.op else {
            panic!("it is new")
        };
        counts.push(event.body.value()["count"].as_i64().unwrap_or(0));
        stored.push(Arc::new(event));
    }
    counts.sort_unstable();
    assert_eq!(counts, [1, 2]);
    pending.add(vec![note("p", "x")], start());
    let again = pending.take(|key| stored.iter().find(|event| event.key() == *key).cloned());
    let writes = writes(&plan(&again, start(), &mut ids));
    let Op::Replace(event) = &writes[0].op else {
        panic!("it is there")
    };
    assert_eq!(event.body.value()["count"], 3);
}

#[test]
fn one_object_cannot_flood_the_store() {
    let mut pending = Pending::default();
    let notes = |from: usize| (from..from + 100).map(|at| note("p", &format!("{at}"))).collect();
    pending.add(notes(0), start());
    pending.add(vec![note("other", "x")], start());
    assert_eq!(pending.take(|_| None).told.len(), BURST as usize + 1);
    pending.add(notes(100), start().after(INTERVAL * 2));
    assert_eq!(pending.take(|_| None).told.len(), 2, "two intervals give two back");
}
