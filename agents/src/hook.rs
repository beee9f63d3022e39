//! Hooks and probes as actions on a running container: a command, a request, a connection, a pause.

use std::{net::IpAddr, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use k8s_openapi::{
    api::core::v1::{Container as ContainerSpec, HTTPGetAction, LifecycleHandler},
    apimachinery::pkg::util::intstr::IntOrString,
};
use tokio::net::TcpStream;

use crate::{host::Host, pod::Pod};

/// The number of a port that may be named.
#[must_use]
pub(crate) fn port(spec: &ContainerSpec, port: &IntOrString) -> Option<u16> {
    match port {
        IntOrString::Int(number) => u16::try_from(*number).ok(),
        IntOrString::String(name) => spec
            .ports
            .iter()
            .flatten()
            .find(|port| port.name.as_deref() == Some(name))
            .and_then(|port| u16::try_from(port.container_port).ok())
            .or_else(|| name.parse().ok()),
    }
}

/// Runs a lifecycle hook.
///
/// # Errors
/// Says what went wrong, when the action failed or took longer than `limit`.
pub(crate) async fn run(
    host: &Host,
    pod: &Pod,
    spec: &ContainerSpec,
    id: &str,
    handler: &LifecycleHandler,
    limit: Duration,
) -> Result<(), String> {
    if let Some(exec) = &handler.exec {
        let command = exec.command.clone().unwrap_or_default();
        return execute(host, id, &command, limit).await;
    }
    if let Some(get) = &handler.http_get {
        return http_get(host, pod, spec, get, limit).await.map(|_| ());
    }
    if let Some(sleep) = &handler.sleep {
        let seconds = u64::try_from(sleep.seconds).unwrap_or(0);
        tokio::time::sleep(Duration::from_secs(seconds).min(limit)).await;
        return Ok(());
    }
    Ok(())
}

/// Runs a command in a container.
///
/// # Errors
/// With its output, when it did not end with 0 in time.
pub(crate) async fn execute(host: &Host, id: &str, command: &[String], limit: Duration) -> Result<(), String> {
    match host.runtime.exec(id, command, limit).await {
        Ok(result) if result.code == 0 => Ok(()),
        Ok(result) => Err(format!("command exited with {}: {}", result.code, result.output.trim())),
        Err(error) => Err(error.to_string()),
    }
}

/// Requests a path of a pod; anything from 200 to 399 is good. A redirect is not followed.
///
/// # Errors
/// When there is no answer in time, or it is another one.
pub(crate) async fn http_get(
    host: &Host,
    pod: &Pod,
    spec: &ContainerSpec,
    get: &HTTPGetAction,
    limit: Duration,
) -> Result<String, String> {
    if get
        .scheme
        .as_deref()
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"))
    {
        return Err("requests over HTTPS are not supported".to_owned());
    }
    let number = port(spec, &get.port).ok_or_else(|| "the port is not one of the container's".to_owned())?;
    let name = match get.host.as_deref().filter(|name| !name.is_empty()) {
        Some(name) => name.to_owned(),
        None => host
            .address(pod)
            .map(|ip| ip.to_string())
            .ok_or("the pod has no address")?,
    };
    let path = get.path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/");
    let path = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    };
    let mut request = http::Request::builder()
        .uri(path)
        .header(http::header::USER_AGENT, "towline-probe")
        .header(http::header::ACCEPT, "*/*");
    let headers = get.http_headers.as_deref().unwrap_or(&[]);
    if !headers.iter().any(|header| header.name.eq_ignore_ascii_case("host")) {
        request = request.header(http::header::HOST, format!("{name}:{number}"));
    }
    for header in headers {
        request = request.header(&header.name, &header.value);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
    let ask = async {
        let stream = TcpStream::connect((name.as_str(), number))
            .await
            .map_err(|error| error.to_string())?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| error.to_string())?;
        let driver = tokio::spawn(connection);
        let answer = sender.send_request(request).await.map_err(|error| error.to_string());
        let result = match answer {
            Ok(answer) => {
                let status = answer.status();
                // The body is of no interest, but its first part helps who reads the event.
                let body = http_body_util::Limited::new(answer.into_body(), 2048).collect().await;
                let text = body
                    .map(|body| String::from_utf8_lossy(&body.to_bytes()).trim().to_owned())
                    .unwrap_or_default();
                if (200..400).contains(&status.as_u16()) {
                    Ok(text)
                } else {
                    Err(format!("HTTP probe failed with statuscode: {}", status.as_u16()))
                }
            }
            Err(error) => Err(error),
        };
        driver.abort();
        result
    };
    tokio::time::timeout(limit, ask)
        .await
        .unwrap_or_else(|_| Err(format!("no answer from {name}:{number} within {} s", limit.as_secs())))
}

/// Opens a connection and closes it.
///
/// # Errors
/// When nobody listens.
pub(crate) async fn tcp(address: IpAddr, port: u16, limit: Duration) -> Result<(), String> {
    match tokio::time::timeout(limit, TcpStream::connect((address, port))).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(format!("dial tcp {address}:{port}: {error}")),
        Err(_) => Err(format!(
            "dial tcp {address}:{port}: timed out after {} s",
            limit.as_secs()
        )),
    }
}
