//! `GET …/pods/NAME/log`: which container, then its node's stream.

use std::borrow::Cow;

use async_trait::async_trait;
use http::StatusCode;
use schemas::{Key, Kind, Object, Part, Uid, labels::DEFAULT_CONTAINER, node::LogOptions};

use crate::{
    exchange::{self, ByteStream, Response},
    query::Query,
    sessions::Sessions,
    status::ApiError,
};

/// Where the logs of containers come from.
#[async_trait]
pub trait LogSource: Send + Sync + 'static {
    /// The log of one container (`options.container` names it) of a pod on `node`.
    async fn logs(&self, node: &str, pod: Key, uid: Uid, options: LogOptions) -> Result<ByteStream, ApiError>;
}

#[async_trait]
impl LogSource for Sessions {
    async fn logs(&self, node: &str, pod: Key, uid: Uid, options: LogOptions) -> Result<ByteStream, ApiError> {
        Ok(Self::logs(self, node, pod, uid, options).await?)
    }
}

/// What is asked of a node for one request.
#[derive(Debug, PartialEq)]
pub struct LogRequest {
    pub node: String,
    pub options: LogOptions,
}

/// Reads the query of a log request.
pub fn options(query: &Query) -> Result<LogOptions, ApiError> {
    let options = LogOptions {
        container: query.text("container").map(str::to_owned),
        follow: query.flag("follow")?,
        previous: query.flag("previous")?,
        timestamps: query.flag("timestamps")?,
        since_seconds: query.parsed("sinceSeconds")?,
        since_time: query.parsed("sinceTime")?,
        tail_lines: query.parsed("tailLines")?,
        limit_bytes: query.parsed("limitBytes")?,
    };
    if options.since_seconds.is_some() && options.since_time.is_some() {
        return Err(ApiError::bad_request(
            "at most one of `sinceTime` or `sinceSeconds` may be specified",
        ));
    }
    for (name, value, least) in [
        ("tailLines", options.tail_lines, 0),
        ("sinceSeconds", options.since_seconds, 1),
        ("limitBytes", options.limit_bytes, 1),
    ] {
        if value.is_some_and(|value| value < least) {
            return Err(ApiError::bad_request(format!("{name} must be at least {least}")));
        }
    }
    Ok(options)
}

/// Chooses the container and checks that there is a log to read.
pub fn request(pod: &Object, mut options: LogOptions) -> Result<LogRequest, ApiError> {
    let named = |list: &str| -> Vec<Cow<'_, str>> {
        let containers = pod.body.at(list).into_iter().flat_map(Part::items);
        containers
            .filter_map(|container| container.get("name")?.text())
            .collect()
    };
    let (containers, inits) = (named("spec/containers"), named("spec/initContainers"));
    let is_one = |list: &[Cow<'_, str>], name: &str| list.iter().any(|one| one == name);
    let name = pod.name();
    let container = match &options.container {
        Some(container) => {
            if !is_one(&containers, container) && !is_one(&inits, container) {
                return Err(ApiError::bad_request(format!(
                    "container {container} is not valid for pod {name}"
                )));
            }
            container.clone()
        }
        None => match (containers.as_slice(), pod.annotation(DEFAULT_CONTAINER)) {
            (_, Some(default)) if is_one(&containers, default) => default.to_owned(),
            ([one], _) => one.clone().into_owned(),
            (many, _) => {
                let mut message = format!(
                    "a container name must be specified for pod {name}, choose one of: [{}]",
                    many.join(" ")
                );
                if !inits.is_empty() {
                    message.push_str(&format!(" or one of the init containers: [{}]", inits.join(" ")));
                }
                return Err(ApiError::bad_request(message));
            }
        },
    };
    let Some(node) = pod.node.as_deref() else {
        return Err(ApiError::bad_request(format!(
            "pod {name} does not have a host assigned"
        )));
    };
    check_state(pod, &container, options.previous)?;
    options.container = Some(container);
    Ok(LogRequest {
        node: node.to_owned(),
        options,
    })
}

/// A container that never ran has no log, and one that never ended has no previous one.
fn check_state(pod: &Object, container: &str, previous: bool) -> Result<(), ApiError> {
    let found = pod.status.as_ref().and_then(|status| {
        ["containerStatuses", "initContainerStatuses"]
            .iter()
            .find_map(|list| status.at(list)?.items().find(|entry| entry.has("name", container)))
    });
    let name = pod.name();
    let Some(found) = found else {
        // The agent may know more than its last report.
        return Ok(());
    };
    let ended = found.at("lastState/terminated").is_some();
    if previous {
        return if ended {
            Ok(())
        } else {
            Err(ApiError::bad_request(format!(
                "previous terminated container {container:?} in pod {name:?} not found"
            )))
        };
    }
    if let Some(waiting) = found.at("state/waiting")
        && !ended
    {
        let reason = waiting.get("reason").and_then(Part::word).unwrap_or("");
        let why = match reason {
            "ErrImagePull" | "ImagePullBackOff" | "ErrImageNeverPull" | "InvalidImageName" => {
                "trying and failing to pull image".to_owned()
            }
            "" => "waiting to start".to_owned(),
            reason => format!("waiting to start: {reason}"),
        };
        return Err(ApiError::bad_request(format!(
            "container {container:?} in pod {name:?} is {why}"
        )));
    }
    Ok(())
}

/// Answers a log request for a pod that was found.
pub async fn answer(source: &dyn LogSource, pod: &Object, query: &Query) -> Result<Response, ApiError> {
    let LogRequest { node, options } = request(pod, options(query)?)?;
    let key = Key {
        kind: Kind::Pod,
        ..pod.key()
    };
    let pieces = source.logs(&node, key, pod.uid(), options).await?;
    let mut response = exchange::stream("text/plain; charset=utf-8", pieces);
    *response.status_mut() = StatusCode::OK;
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(status: Value) -> Object {
        Object::from_value(json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "a"},
            "spec": {"nodeName": "n", "containers": [{"name": "web"}], "initContainers": [{"name": "init"}]},
            "status": status,
        }))
        .expect("a pod")
    }

    fn two() -> Object {
        let mut pod = Object::from_value(json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "a"},
            "spec": {"nodeName": "n", "containers": [{"name": "web"}, {"name": "side"}]},
        }))
        .expect("a pod");
        pod.node = Some("n".into());
        pod
    }

    fn ask(query: &str) -> LogOptions {
        options(&Query::parse(query)).expect("options")
    }

    #[test]
    fn the_container_is_chosen_or_asked_for() {
        let chosen = |pod: &Object, query: &str| {
            request(pod, ask(query)).map(|request| request.options.container.unwrap_or_default())
        };
        assert_eq!(chosen(&pod(json!({})), "").expect("one"), "web");
        assert_eq!(chosen(&pod(json!({})), "container=init").expect("one"), "init");
        let error = chosen(&two(), "").expect_err("two");
        assert_eq!(
            error.message,
            "a container name must be specified for pod p, choose one of: [web side]"
        );
        assert_eq!(error.code, StatusCode::BAD_REQUEST);
        let mut default = two();
        default.meta.annotations = Some([(DEFAULT_CONTAINER.to_owned(), "side".to_owned())].into());
        assert_eq!(chosen(&default, "").expect("the default"), "side");
        assert_eq!(
            chosen(&two(), "container=no").expect_err("unknown").message,
            "container no is not valid for pod p"
        );
        let mut unbound = pod(json!({}));
        unbound.node = None;
        assert_eq!(
            chosen(&unbound, "").expect_err("no node").message,
            "pod p does not have a host assigned"
        );
    }

    #[test]
    fn a_container_that_never_ran_has_no_log() {
        let waiting = |reason: &str| {
            pod(json!({"containerStatuses": [{"name": "web", "state": {"waiting": {"reason": reason}}}]}))
        };
        for (reason, message) in [
            (
                "ContainerCreating",
                r#"container "web" in pod "p" is waiting to start: ContainerCreating"#,
            ),
            (
                "ImagePullBackOff",
                r#"container "web" in pod "p" is trying and failing to pull image"#,
            ),
        ] {
            let error = request(&waiting(reason), ask("")).expect_err("nothing ran");
            assert_eq!(error.message, message);
        }
        let crashed = pod(json!({"containerStatuses": [{
            "name": "web", "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            "lastState": {"terminated": {"exitCode": 1}}}]}));
        assert!(request(&crashed, ask("")).is_ok());
        assert!(request(&crashed, ask("previous=true")).is_ok());
        let running = pod(json!({"containerStatuses": [{"name": "web", "state": {"running": {}}}]}));
        assert!(request(&running, ask("")).is_ok());
        assert!(request(&running, ask("previous=true")).is_err());
    }

    #[test]
    fn options_are_checked() {
        for query in [
            "tailLines=-1",
            "sinceSeconds=0",
            "limitBytes=0",
            "tailLines=x",
            "follow=maybe",
            "sinceSeconds=5&sinceTime=2026-01-01T00:00:00Z",
        ] {
            assert!(options(&Query::parse(query)).is_err(), "{query}");
        }
        let options = ask("follow=true&tailLines=10&timestamps=true&sinceTime=2026-01-01T00:00:00Z");
        assert!(options.follow && options.timestamps);
        assert_eq!(options.tail_lines, Some(10));
    }
}
