//! What is told of claims, and of annotations that are Towline's own.

use serde_json::json;

use super::{super::*, problems};

#[test]
fn a_claim_that_no_local_volume_fits_is_told() {
    let claim = |more: &str| {
        format!(
            "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {{name: a}}\nspec:\n  resources: {{requests: {{storage: 1Gi}}}}\n  {more}\n"
        )
    };
    for mode in ["ReadWriteMany", "ReadOnlyMany"] {
        let found = problems("a.yaml", &claim(&format!("accessModes: [{mode}]")));
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(
            found[0].contains("6:17")
                && found[0].contains(" warning ")
                && found[0].contains(&format!("cannot be {mode}")),
            "{found:#?}"
        );
        for by_hand in ["volumeName: shared", "storageClassName: \"\""] {
            let text = claim(&format!("accessModes: [{mode}]\n  {by_hand}"));
            assert_eq!(problems("a.yaml", &text), Vec::<String>::new());
        }
    }
    assert_eq!(
        problems("a.yaml", &claim("accessModes: [ReadWriteOnce]")),
        Vec::<String>::new()
    );
}

#[test]
fn the_annotations_that_towline_writes_are_known_where_it_writes_them() {
    let warned = |kind: Kind, name: &str| {
        let content = json!({"apiVersion": kind.info().api_version(), "kind": kind.info().name, "metadata": {
            "name": "a", "annotations": {name: "x"},
        }});
        let found = validate::object(kind, &content);
        found
            .iter()
            .any(|finding| format!("{finding:?}").contains("does not know this annotation"))
    };
    for name in [crate::labels::MACHINE, crate::labels::AGENT] {
        assert!(!warned(Kind::Node, name), "{name}");
        assert!(warned(Kind::ConfigMap, name), "{name}");
    }
    assert!(!warned(Kind::Namespace, crate::labels::IMPLICIT));
    assert!(warned(Kind::Node, "towline.dev/machine"));
}

#[test]
fn a_revert_is_for_what_rolls_out() {
    let text =
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n  annotations: {towline.dev/on-failure: revert}\n";
    let found = problems("a.yaml", text);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(
        found[0].contains(" warning ") && found[0].contains("a ConfigMap has no rollout"),
        "{found:#?}"
    );
}
