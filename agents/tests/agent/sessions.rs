//! What the server asks over the second connection.

use agents::control::SessionRefusal;
use schemas::{
    Key, Kind,
    node::{LogOptions, SessionRequest},
};

use crate::{
    harness::is_ready,
    world::{World, uid},
};

async fn log(world: &World, id: &str, options: LogOptions) -> Result<String, SessionRefusal> {
    let request = SessionRequest::Logs {
        id: id.to_owned(),
        pod: Key::namespaced(Kind::Pod, "test", "p0"),
        uid: uid("p0"),
        options,
    };
    let answer = world.control.ask(id, request).await.expect("an agent listens");
    answer.map(|bytes| String::from_utf8(bytes).expect("it is text"))
}

#[tokio::test(start_paused = true)]
async fn logs_of_now_and_before() {
    let world = World::running(1).await;
    world.runtime.exit(&world.container("p0", "app").id, 1, true);
    world
        .until("it was restarted", "p0", |report| {
            is_ready(report) && report.status["containerStatuses"][0]["restartCount"] == 1
        })
        .await;
    let last = LogOptions {
        tail_lines: Some(1),
        ..LogOptions::default()
    };
    let now = log(&world, "1", last).await.expect("there is a log");
    assert!(now.contains(".1 line 3") && now.lines().count() == 1, "{now}");
    let previous = LogOptions {
        previous: true,
        limit_bytes: Some(10),
        ..LogOptions::default()
    };
    let before = log(&world, "2", previous).await.expect("there is one");
    assert_eq!(before.len(), 10);
    let wrong = LogOptions {
        container: Some("x".to_owned()),
        ..LogOptions::default()
    };
    let refused = log(&world, "3", wrong).await;
    assert_eq!(refused.expect_err("there is no such container").status, 400);
}
