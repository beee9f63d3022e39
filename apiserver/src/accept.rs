//! Which form of an answer a client wants.

use crate::status::ApiError;

/// The form of an answer. Only JSON is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// The objects themselves.
    Plain,
    /// A server-side table.
    Table { version: &'static str },
    /// `PartialObjectMetadata`, or a list of them.
    Metadata { version: &'static str },
    /// Aggregated discovery.
    Discovery { version: &'static str },
}

impl Form {
    /// Reads an `Accept` header; the first form that is served wins. No header means plain JSON.
    pub(crate) fn of(accept: Option<&str>) -> Result<Self, ApiError> {
        let Some(accept) = accept.filter(|accept| !accept.trim().is_empty()) else {
            return Ok(Self::Plain);
        };
        accept
            .split(',')
            .find_map(Self::of_media_type)
            .ok_or_else(ApiError::not_acceptable)
    }

    fn of_media_type(text: &str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let media_type = parts.next()?;
        if !matches!(media_type, "application/json" | "application/*" | "*/*") {
            return None;
        }
        let (mut kind, mut group, mut version) = ("", "", "");
        for part in parts {
            match part.split_once('=') {
                Some(("as", value)) => kind = value,
                Some(("g", value)) => group = value,
                Some(("v", value)) => version = value,
                _ => {}
            }
        }
        let known = |versions: &[&'static str]| versions.iter().copied().find(|known| *known == version);
        match (kind, group) {
            ("", _) => Some(Self::Plain),
            ("Table", "meta.k8s.io") => known(&["v1", "v1beta1"]).map(|version| Self::Table { version }),
            ("PartialObjectMetadata" | "PartialObjectMetadataList", "meta.k8s.io") => {
                known(&["v1", "v1beta1"]).map(|version| Self::Metadata { version })
            }
            ("APIGroupDiscoveryList", "apidiscovery.k8s.io") => {
                known(&["v2", "v2beta1"]).map(|version| Self::Discovery { version })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_form_that_is_served_wins() {
        for (accept, form) in [
            (None, Some(Form::Plain)),
            (Some("*/*"), Some(Form::Plain)),
            (Some("application/json"), Some(Form::Plain)),
            (
                Some("application/json;as=Table;v=v1;g=meta.k8s.io,application/json"),
                Some(Form::Table { version: "v1" }),
            ),
            (
                Some("application/json;as=Table;v=v9;g=meta.k8s.io, application/json"),
                Some(Form::Plain),
            ),
            (
                Some("application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"),
                Some(Form::Metadata { version: "v1" }),
            ),
            (
                Some("application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"),
                Some(Form::Discovery { version: "v2" }),
            ),
            (
                Some("application/vnd.kubernetes.protobuf,application/json"),
                Some(Form::Plain),
            ),
            (Some("application/vnd.kubernetes.protobuf"), None),
            (Some("text/html"), None),
        ] {
            assert_eq!(Form::of(accept).ok(), form, "{accept:?}");
        }
    }
}
