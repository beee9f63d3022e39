//! What is told of annotations that are Towline's own.

use serde_json::json;

use super::super::*;

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
