//! Plans and offline validation.

use schemas::Kind;

use crate::harness::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_shows_fields_containers_and_no_secret() {
    let secret = |value: &str| {
        format!("apiVersion: v1\nkind: Secret\nmetadata:\n  name: key\nstringData:\n  password: {value}\n  user: ann\n")
    };
    let world = World::new(|repo| {
        two_shops(repo);
        repo.write("namespaces/a/web.yaml", &deployment("web", "web:1", 1));
        repo.write("namespaces/a/key.yaml", &secret("hunter2"));
        repo.commit("Web");
    })
    .await;
    let before = world.look().await;
    world.repo.git(&["checkout", "-qb", "feature"]);
    world
        .repo
        .write("namespaces/a/web.yaml", &deployment("web", "web:2", 3));
    world.repo.write("namespaces/a/key.yaml", &secret("correct-horse"));
    world.repo.write("namespaces/a/new.yaml", &config("new", "1"));
    world.repo.remove("namespaces/b/two.yaml");
    world.repo.commit("Feature");

    let plan = world.sync.plan(Some("feature")).await.expect("a plan");
    assert_eq!(plan.commit, world.repo.head());
    assert_eq!(plan.created.len(), 1);
    assert_eq!(plan.deleted[0].object, map("b", "two"));
    let web = plan
        .updated
        .iter()
        .find(|updated| updated.declaration.object == key(Kind::Deployment, "a", "web"))
        .expect("web");
    let changes: Vec<String> = web.changes.iter().map(ToString::to_string).collect();
    assert_eq!(
        changes,
        [
            "spec.replicas: 1 -> 3",
            "spec.template.spec.containers[main].image: web:1 -> web:2"
        ]
    );
    let replaced = web.replaced.as_ref().expect("containers are replaced");
    assert_eq!(replaced.containers, ["main"]);
    assert_eq!(replaced.because, ["spec.template.spec.containers[main].image"]);
    for text in [plan.to_string(), serde_json::to_string(&plan).expect("JSON")] {
        assert!(!text.contains("hunter2") && !text.contains("correct-horse"), "{text}");
        assert!(text.contains("stringData.password"), "{text}");
        assert!(!text.contains("stringData.user"), "{text}");
    }
    assert!(
        plan.to_string().ends_with("1 to create, 2 to update, 1 to delete"),
        "{plan}"
    );
    assert_eq!(
        world.store.desired().revision,
        before.revision,
        "a plan changes nothing"
    );

    let same = world.sync.plan(None).await.expect("a plan of the tip");
    assert!(same.is_empty(), "{same}");
    let error = world.sync.plan(Some("no-such-branch")).await.expect_err("no plan");
    assert!(error.to_string().contains("names no commit"), "{error}");
}

#[test]
fn a_folder_is_validated_as_it_would_be_committed() {
    let root = tempfile::tempdir().expect("a folder");
    let repo = Repo::new(&root.path().join("repo"));
    two_shops(&repo);
    repo.write(".towlineignore", "skip.yaml\n");
    repo.write("namespaces/a/skip.yaml", "nonsense");
    repo.write("namespaces/b/kustomization.yaml", "resources: []\n");
    repo.write(
        "namespaces/a/wrong.yaml",
        &config("wrong", "1").replace("name: wrong", "name: wrong\n  namespace: b"),
    );
    let places = |path: &std::path::Path| -> Vec<(String, u32)> {
        let validated = gitsync::validate(path).expect("it can be read");
        assert!(validated.has_errors());
        let positions = validated
            .problems
            .iter()
            .filter_map(|problem| problem.position.as_ref());
        positions.map(|at| (at.file.to_string(), at.line)).collect()
    };
    let shown = |path: &str| repo.dir.join(path).to_string_lossy().into_owned();
    assert_eq!(
        places(&repo.dir),
        [
            (shown("namespaces/a/wrong.yaml"), 5),
            (shown("namespaces/b/kustomization.yaml"), 1)
        ]
    );
    assert_eq!(
        places(&repo.dir.join("namespaces/a")),
        [(shown("namespaces/a/wrong.yaml"), 5)]
    );
    assert_eq!(
        places(&repo.dir.join("namespaces/a/wrong.yaml")),
        [(shown("namespaces/a/wrong.yaml"), 5)]
    );
    let good = gitsync::validate(&repo.dir.join("namespaces/a/one.yaml")).expect("it can be read");
    assert_eq!((good.files, good.objects, good.problems), (1, 1, vec![]));
    assert!(gitsync::validate(&repo.dir.join("nowhere")).is_err());
}
