//! Wall clocks step; nothing restarts or multiplies for it.

use jiff::SignedDuration;

use crate::{
    harness::pod,
    world::{World, double, pass},
};

#[tokio::test(start_paused = true)]
async fn a_clock_that_steps_restarts_and_multiplies_nothing() {
    let mut world = World::of(vec![pod("p0", double())]).await;
    world.ready(0..1).await;
    for (made, hours) in [(4, -5), (5, 20), (6, -40), (7, 1)] {
        world.clock.step(SignedDuration::from_hours(hours));
        // What ends is made anew at the time that the clock shows now, beside what was made before.
        world.runtime.exit(&world.container("p0", "a").id, 1, false);
        world
            .until("it runs again", "p0", |report| {
                crate::harness::is_ready(report) && report.status["containerStatuses"][0]["restartCount"] == made - 3
            })
            .await;
        let kept = world.container("p0", "b").id;
        pass(700).await;
        assert_eq!(world.runtime.count("create"), made, "after {hours} h");
        assert_eq!(world.alive().len(), 3, "the network and two containers");
        assert_eq!(world.container("p0", "b").id, kept);
        world.restart().await;
        pass(60).await;
        assert_eq!(world.runtime.count("create"), made, "after {hours} h and a restart");
    }
}
