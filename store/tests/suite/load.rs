//! Many writes, and random ones.

use std::sync::Arc;

use store::{Class, Op, Options, Scope, Store, Write, log::Log};

use super::{everything, key, open, pod, shown, status, until};

pub(crate) async fn many_writes_at_once(log: Arc<dyn Log>) {
    let store = open(log.clone()).await;
    let creates = (0..1500)
        .map(|n| Write::new(Op::Create(pod(&format!("p{n:04}"), "i"))))
        .collect();
    let statuses = (0..1500)
        .map(|n| {
            Write::new(Op::Status {
                key: key(&format!("p{n:04}")),
                status: status("Running"),
            })
        })
        .collect();
    let answers = store.write(Class::Controller, creates).await;
    assert!(answers.iter().all(Result::is_ok));
    assert!(answers.windows(2).all(|pair| match pair {
        [Ok(a), Ok(b)] => a.version + 1 == b.version,
        _ => false,
    }));
    let answers = store.write(Class::Status, statuses).await;
    assert!(answers.iter().all(Result::is_ok));
    let before = everything(&store);
    store.close().await;
    assert_eq!(everything(&open(log).await), before);
}

/// A small generator, so that a failure is the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

pub(crate) async fn random_writes_survive_a_restart(log: Arc<dyn Log>) {
    for seed in 0..4 {
        let store = open(log.clone()).await;
        let start = store.version();
        let mut all = store.watch(Scope::all(), None).expect("now");
        let mut dice = Dice(seed);
        for _ in 0..40 {
            let writes = (0..dice.roll(12) + 1)
                .map(|_| {
                    let name = format!("p{}", dice.roll(6));
                    let mut object = pod(&name, &format!("i{}", dice.roll(3)));
                    object.meta.annotations = Some([("n".to_owned(), dice.roll(3).to_string())].into());
                    Write::new(match dice.roll(9) {
                        0 | 1 => Op::Create(object),
                        2 | 3 => Op::Replace(object),
                        4 | 5 => Op::Status {
                            key: key(&name),
                            status: status(&dice.roll(4).to_string()),
                        },
                        6 => Op::Bind {
                            key: key(&name),
                            node: format!("n{}", dice.roll(3)).as_str().into(),
                            status: (dice.roll(2) == 0).then(|| status("Pending")),
                        },
                        7 => Op::Retire {
                            object,
                            status: status(&dice.roll(4).to_string()),
                        },
                        _ => Op::Remove { key: key(&name) },
                    })
                })
                .collect();
            store.write(Class::User, writes).await;
        }
        let end = store.version();
        assert!(end > start + 40, "most writes are accepted");
        let seen = shown(&until(&mut all, end).await);
        let before = everything(&store);
        let indexed = |store: &Store| {
            let view = store.view();
            ["n0", "n1", "n2"].map(|node| view.on_node(node).map(|pod| pod.name().to_owned()).collect::<Vec<_>>())
        };
        let nodes = indexed(&store);
        store.close().await;
        let store = Store::open_with(log.clone(), Options::default()).await.expect("opens");
        assert_eq!(everything(&store), before, "seed {seed}");
        assert_eq!(indexed(&store), nodes, "seed {seed}");
        let mut again = store.watch(Scope::all(), Some(start)).expect("kept");
        assert_eq!(shown(&until(&mut again, end).await), seen, "seed {seed}");
        store.close().await;
    }
}
