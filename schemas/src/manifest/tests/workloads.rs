//! What is said of the kinds that make pods, beside Deployments.

use super::problems;

/// A manifest of a kind that makes pods. `spec` stands beside its template.
fn workload(api_version: &str, kind: &str, spec: &str) -> String {
    format!(
        "apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: web}}\nspec:\n  {spec}\n  template:\n    metadata: {{labels: {{app: web}}}}\n    \
         spec: {{containers: [{{name: web, image: \"web:1\"}}]}}\n"
    )
}

/// Each manifest has exactly one error, with these words in it.
fn all_wrong(api_version: &str, kind: &str, table: &[(&str, &str)]) {
    for (spec, part) in table {
        let found = problems("a.yaml", &workload(api_version, kind, spec));
        assert_eq!(found.len(), 1, "{kind} {spec}\n{found:#?}");
        assert!(
            found[0].contains(" error ") && found[0].contains(part),
            "{kind} {spec}\n{found:#?}"
        );
    }
}

fn all_fine(api_version: &str, kind: &str, specs: &[&str]) {
    for spec in specs {
        let found = problems("a.yaml", &workload(api_version, kind, spec));
        assert_eq!(found, Vec::<String>::new(), "{kind} {spec}");
    }
}

#[test]
fn replication_controllers_select_by_plain_labels() {
    all_fine(
        "v1",
        "ReplicationController",
        &["replicas: 2", "selector: {app: web}", "minReadySeconds: 5"],
    );
    all_wrong(
        "v1",
        "ReplicationController",
        &[
            ("selector: {app: other}", "do not match spec.selector"),
            ("selector: {app: web, tier: a}", "do not match spec.selector"),
            ("selector: {}", "would select every pod"),
            ("replicas: -1", "-1 must be from 0"),
        ],
    );
    let bare = "apiVersion: v1\nkind: ReplicationController\nmetadata: {name: a}\nspec: {template: {spec: {containers: [{name: a, image: a}]}}}";
    let found = problems("a.yaml", bare);
    assert!(
        found.len() == 1 && found[0].contains("where the template has no labels"),
        "{found:#?}"
    );
}

#[test]
fn daemon_sets_say_how_they_roll() {
    let select = |more: &str| format!("selector: {{matchLabels: {{app: web}}}}\n  {more}");
    let fine = [
        "minReadySeconds: 5",
        "updateStrategy: {}",
        "updateStrategy: {type: OnDelete}",
        "updateStrategy: {rollingUpdate: {maxUnavailable: 30%}}",
        "updateStrategy: {rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}",
        "revisionHistoryLimit: 0",
    ]
    .map(select);
    all_fine("apps/v1", "DaemonSet", &fine.each_ref().map(String::as_str));
    let wrong = [
        (
            "updateStrategy: {type: Recreate}",
            "not one of its values: RollingUpdate, OnDelete",
        ),
        (
            "updateStrategy: {rollingUpdate: {maxSurge: 1}}",
            "set maxUnavailable to 0",
        ),
        (
            "updateStrategy: {rollingUpdate: {maxUnavailable: 0}}",
            "nothing could be replaced",
        ),
        (
            "updateStrategy: {rollingUpdate: {maxUnavailable: 101%}}",
            "at most 100%",
        ),
        (
            "updateStrategy: {rollingUpdate: {maxUnavailable: some}}",
            "or a percentage",
        ),
        ("replicas: 2", "there is no such field"),
    ]
    .map(|(spec, part)| (select(spec), part));
    let wrong: Vec<(&str, &str)> = wrong.iter().map(|(spec, part)| (spec.as_str(), *part)).collect();
    all_wrong("apps/v1", "DaemonSet", &wrong);
    all_wrong(
        "apps/v1",
        "DaemonSet",
        &[("selector: {matchLabels: {app: other}}", "do not match spec.selector")],
    );
    let revision = "apiVersion: apps/v1\nkind: ControllerRevision\nmetadata: {name: a}\nrevision: 1\n";
    let found = problems("a.yaml", revision);
    assert!(found.len() == 1 && found[0].contains(" error "), "{found:#?}");
}

#[test]
fn stateful_sets_say_how_they_are_numbered_and_rolled_and_what_they_claim() {
    let select = |more: &str| format!("selector: {{matchLabels: {{app: web}}}}\n  serviceName: web\n  {more}");
    let claim = "{metadata: {name: data}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}";
    let fine = [
        "replicas: 3".to_owned(),
        "podManagementPolicy: Parallel".to_owned(),
        "ordinals: {start: 5}".to_owned(),
        "updateStrategy: {type: OnDelete}".to_owned(),
        "updateStrategy: {rollingUpdate: {partition: 2, maxUnavailable: 50%}}".to_owned(),
        "persistentVolumeClaimRetentionPolicy: {whenDeleted: Delete}".to_owned(),
        format!("volumeClaimTemplates: [{claim}]"),
        format!(
            "volumeClaimTemplates: [{}]",
            claim.replacen('{', "{apiVersion: v1, kind: PersistentVolumeClaim, status: {}, ", 1)
        ),
    ]
    .map(|spec| select(&spec));
    all_fine("apps/v1", "StatefulSet", &fine.each_ref().map(String::as_str));
    let wrong = [
        (
            "podManagementPolicy: Ordered".to_owned(),
            "not one of its values: OrderedReady, Parallel",
        ),
        ("ordinals: {start: -1}".to_owned(), "-1 must be from 0"),
        (
            "updateStrategy: {type: OnDelete, rollingUpdate: {}}".to_owned(),
            "may not stand with the type OnDelete",
        ),
        (
            "updateStrategy: {rollingUpdate: {partition: -1}}".to_owned(),
            "-1 must be from 0",
        ),
        (
            "updateStrategy: {rollingUpdate: {maxUnavailable: 0}}".to_owned(),
            "nothing could be replaced",
        ),
        (
            "persistentVolumeClaimRetentionPolicy: {whenScaled: Keep}".to_owned(),
            "not one of its values: Retain, Delete",
        ),
        (
            "volumeClaimTemplates: [{metadata: {name: data}}]".to_owned(),
            "spec: is required",
        ),
        (
            format!("volumeClaimTemplates: [{}]", claim.replace("name: data", "name: Data")),
            "is not a DNS label",
        ),
        (
            format!(
                "volumeClaimTemplates: [{}]",
                claim.replace("metadata: {name: data}, ", "")
            ),
            "metadata: is required",
        ),
        (
            format!("volumeClaimTemplates: [{}]", claim.replace("[ReadWriteOnce]", "[]")),
            "accessModes: is required",
        ),
        (
            format!(
                "volumeClaimTemplates: [{}]",
                claim.replace("accessModes", "volumeMode: Block, accessModes")
            ),
            "volumes are directories",
        ),
    ]
    .map(|(spec, part)| (select(&spec), part));
    let wrong: Vec<(&str, &str)> = wrong.iter().map(|(spec, part)| (spec.as_str(), *part)).collect();
    all_wrong("apps/v1", "StatefulSet", &wrong);
}
