//! Gets, lists, watches and tables.

use super::*;

#[tokio::test]
async fn pages_of_a_list_hold_everything_once() {
    let bench = Bench::start().await;
    for number in 0..25 {
        bench.pod(&format!("p{number:02}"), None).await;
    }
    let mut path = "/api/v1/pods?limit=10".to_owned();
    let (mut names, mut versions, mut pages) = (Vec::new(), Vec::new(), 0);
    loop {
        let list = bench.ok(get(&path)).await;
        names.extend(
            list["items"]
                .as_array()
                .expect("items")
                .iter()
                .map(|item| item["metadata"]["name"].as_str().unwrap_or("").to_owned()),
        );
        versions.push(list["metadata"]["resourceVersion"].clone());
        pages += 1;
        if pages == 1 {
            assert_eq!(list["metadata"]["remainingItemCount"], 15);
            // What changes between pages is left to the watch.
            bench.remove(Key::namespaced(Kind::Pod, "shop", "p00")).await;
        }
        match list["metadata"]["continue"].as_str() {
            Some(token) => path = format!("/api/v1/pods?limit=10&continue={token}"),
            None => break,
        }
    }
    let expected: Vec<String> = (0..25).map(|number| format!("p{number:02}")).collect();
    assert_eq!(names, expected);
    assert_eq!(pages, 3);
    assert!(versions.windows(2).all(|pair| pair[0] == pair[1]), "{versions:?}");
    let version = versions[0].as_str().expect("a version");
    let mut events = bench
        .watch(get(&format!("/api/v1/pods?watch=true&resourceVersion={version}")))
        .await;
    assert_eq!(events.short().await, ("DELETED".to_owned(), "p00".to_owned()));
}

#[tokio::test]
async fn selectors_narrow_lists() {
    let bench = Bench::start().await;
    bench.pod("a", Some("n1")).await;
    bench.pod("b", Some("n2")).await;
    bench.pod("c", None).await;
    for (query, names) in [
        ("", vec!["a", "b", "c"]),
        ("labelSelector=app%3Da", vec!["a"]),
        ("labelSelector=app+in+(a,c)", vec!["a", "c"]),
        ("labelSelector=!app", vec![]),
        ("fieldSelector=spec.nodeName%3Dn2", vec!["b"]),
        ("fieldSelector=spec.nodeName%3D", vec!["c"]),
        ("fieldSelector=metadata.name%3Dc", vec!["c"]),
        (
            "fieldSelector=metadata.name!%3Dc,status.phase%3DRunning",
            vec!["a", "b"],
        ),
        ("fieldSelector=metadata.namespace%3Dother", vec![]),
        ("fieldSelector=spec.nodeName%3Dn1&labelSelector=app%3Db", vec![]),
    ] {
        for base in ["/api/v1/pods", PODS] {
            let list = bench.ok(get(&format!("{base}?{query}"))).await;
            let found: Vec<&str> = list["items"]
                .as_array()
                .expect("items")
                .iter()
                .filter_map(|item| item["metadata"]["name"].as_str())
                .collect();
            assert_eq!(found, names, "{base}?{query}");
        }
    }
}

#[tokio::test]
async fn a_watch_sees_what_its_selector_lets_in() {
    let bench = Bench::start().await;
    bench.pod("a", None).await;
    let mut events = bench
        .watch(get("/api/v1/pods?watch=true&labelSelector=app+in+(a,b)"))
        .await;
    assert_eq!(events.short().await, ("ADDED".to_owned(), "a".to_owned()));
    bench.pod("x", None).await;
    let pod = bench.pod("b", None).await;
    assert_eq!(events.short().await, ("ADDED".to_owned(), "b".to_owned()));
    // A label that no longer matches takes the pod out of view.
    let mut changed = Object::clone(&pod);
    changed.meta.labels = Some([("app".to_owned(), "z".to_owned())].into());
    bench
        .store
        .write_one(Class::Controller, Write::new(Op::Replace(changed)))
        .await
        .expect("it is replaced");
    let gone = events.next().await.expect("an event");
    assert_eq!(gone["type"], "DELETED");
    assert_eq!(
        gone["object"]["metadata"]["labels"]["app"], "b",
        "the last state that was in view"
    );
    assert_eq!(
        gone["object"]["metadata"]["resourceVersion"],
        bench.store.version().to_string(),
        "at the version at which it left"
    );
    bench.remove(Key::namespaced(Kind::Pod, "shop", "a")).await;
    assert_eq!(events.short().await, ("DELETED".to_owned(), "a".to_owned()));
    bench.shutdown.cancel();
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn initial_events_end_with_a_bookmark_and_a_timeout_with_another() {
    let bench = Bench::start().await;
    bench.pod("a", None).await;
    let mut events = bench
        .watch(get(
            "/api/v1/pods?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=1",
        ))
        .await;
    assert_eq!(events.short().await.0, "ADDED");
    let mark = events.next().await.expect("a bookmark");
    assert_eq!(mark["type"], "BOOKMARK");
    assert_eq!(mark["object"]["kind"], "Pod");
    assert_eq!(
        mark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"],
        "true"
    );
    assert_eq!(
        mark["object"]["metadata"]["resourceVersion"],
        bench.store.version().to_string()
    );
    let last = events.next().await.expect("a bookmark at the end");
    assert_eq!(last["type"], "BOOKMARK");
    assert_eq!(last["object"]["metadata"]["annotations"], Value::Null);
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn tables_are_served_for_lists_objects_and_watches() {
    let bench = Bench::start().await;
    bench.pod("a", Some("n1")).await;
    let list = bench.ok(get("/api/v1/pods").accept(TABLE)).await;
    assert_eq!(list["kind"], "Table");
    assert_eq!(list["columnDefinitions"][2]["name"], "Status");
    assert_eq!(list["rows"][0]["cells"][2], "Running");
    assert_eq!(list["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    let whole = bench.ok(get("/api/v1/pods?includeObject=Object").accept(TABLE)).await;
    assert_eq!(whole["rows"][0]["object"]["kind"], "Pod");
    let bare = bench
        .ok(get(&format!("{PODS}/a?includeObject=None")).accept(TABLE))
        .await;
    assert_eq!(bare["rows"][0].get("object"), None);
    let mut events = bench.watch(get("/api/v1/pods?watch=true").accept(TABLE)).await;
    let first = events.next().await.expect("an event");
    assert_eq!(first["object"]["kind"], "Table");
    assert_ne!(first["object"]["columnDefinitions"], json!([]));
    bench.pod("b", None).await;
    let second = events.next().await.expect("an event");
    assert_eq!(second["object"]["columnDefinitions"], json!([]));
    assert_eq!(second["object"]["rows"][0]["cells"][0], "b");
}
