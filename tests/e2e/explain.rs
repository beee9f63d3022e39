//! `towline explain`: which commit replaced a container, and what a pod waits for.

use harness::{
    Cluster, PATIENCE, have_docker,
    manifests::{WEB_1, WEB_2, deployment},
    run_any, wait,
};
use serde_json::Value;

#[test]
fn a_rollout_is_explained_by_field_commit_and_line() -> anyhow::Result<()> {
    if !have_docker() {
        return Ok(());
    }
    let cluster = Cluster::start()?;
    let repository = &cluster.repository;
    let file = "namespaces/shop/web.yaml";
    repository.write(file, &deployment("web", 1, WEB_1))?;
    repository.commit("The first shop")?;
    cluster.sync(0);
    repository.write(file, &deployment("web", 1, WEB_2))?;
    let newer = repository.commit("A newer shop")?;
    cluster.sync(0);
    let text = deployment("web", 1, WEB_2);
    let line = 1 + text
        .lines()
        .position(|line| line.contains(WEB_2))
        .expect("the image is there");
    let said = cluster.towline(&["explain", "deploy/web", "-n", "shop"])?;
    for part in [
        "Deployment shop/web: converged",
        &format!("declared at {file}:1 by {} \"A newer shop\"", &newer[..10]),
        "Replaced web by",
        &format!("spec.template.spec.containers[web].image: {WEB_1} -> {WEB_2}  {file}:{line}"),
        "\"The first shop\"",
        "Nothing waits.",
    ] {
        assert!(said.contains(part), "{part:?} is not in\n{said}");
    }

    // A pod of an image that nobody has: by itself, and as a part of its Deployment.
    repository.write(file, &deployment("web", 1, "towline.local/none:1"))?;
    repository.commit("A shop that is not there")?;
    let explain = |object: &str| -> Result<Value, String> {
        let said = cluster.towline(&["explain", object, "-n", "shop", "-o", "json"]);
        serde_json::from_str(&said.map_err(|error| error.to_string())?).map_err(|error| error.to_string())
    };
    let pod = wait("the pod to be explained", PATIENCE, || {
        let told = explain("deployment/web")?;
        let waiting = told["waiting"].as_array().into_iter().flatten();
        let pulls = |waiting: &&Value| {
            waiting["reason"]
                .as_str()
                .is_some_and(|word| word.contains("ImagePull"))
        };
        let mut found = waiting.filter(pulls);
        let name = found
            .next()
            .and_then(|waiting| waiting["object"]["name"].as_str().map(str::to_owned));
        name.ok_or_else(|| told.to_string())
    });
    let told = explain("deployment/web").map_err(anyhow::Error::msg)?;
    assert_eq!(
        (&told["pods"]["new"], &told["pods"]["old"]),
        (&1.into(), &1.into()),
        "{told}"
    );
    let progress = &told["waiting"][0];
    assert_eq!(progress["reason"], "Progressing", "{told}");
    assert!(progress["until"]["at"].is_string(), "{told}");
    let told = explain(&format!("pod/{pod}")).map_err(anyhow::Error::msg)?;
    assert_eq!(told["declared"]["object"]["name"], "web", "{told}");
    assert_eq!(
        told["changes"][0]["by"]["subject"], "A shop that is not there",
        "{told}"
    );
    let help = told["waiting"].to_string();
    assert!(help.contains("check that towline.local/none:1 exists"), "{told}");

    for (object, space, fault) in [
        ("deploy/web", "default", "there is one in the namespace shop: -n shop"),
        ("deploy/nobody", "shop", "there is no Deployment shop/nobody"),
        ("configmap/web", "shop", "has no containers"),
        ("web", "shop", "KIND/NAME"),
    ] {
        let (code, said) = run_any(&mut cluster.command(&["explain", object, "-n", space]))?;
        assert!(code == 2 && said.contains(fault), "{object}: {code} {said}");
    }
    Ok(())
}
