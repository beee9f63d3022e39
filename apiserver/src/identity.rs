//! Who sends a request.

use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

/// May do everything.
pub const ADMINISTRATORS: &str = "system:masters";
/// Node agents: each sees its own node's objects only.
pub const NODES: &str = "system:nodes";
/// Everybody who is known.
pub const AUTHENTICATED: &str = "system:authenticated";

/// Who sends a request, as a token or a client certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub user: String,
    pub groups: Vec<String>,
}

/// Knows tokens.
pub trait Authenticator: Send + Sync + 'static {
    /// Who carries this bearer token. Must compare in constant time.
    fn bearer(&self, token: &str) -> Option<Identity>;
}

impl Identity {
    /// A person or program of some groups; `system:authenticated` is added.
    #[must_use]
    pub fn new<S: Into<String>>(user: impl Into<String>, groups: impl IntoIterator<Item = S>) -> Self {
        let mut groups: Vec<String> = groups.into_iter().map(Into::into).collect();
        if !groups.iter().any(|group| group == AUTHENTICATED) {
            groups.push(AUTHENTICATED.to_owned());
        }
        Self {
            user: user.into(),
            groups,
        }
    }

    /// Reads a client certificate that the TLS layer has verified: the common name is the user, the
    /// organizations are the groups.
    #[must_use]
    pub fn of_certificate(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let user = parsed.subject().iter_common_name().next()?.as_str().ok()?.to_owned();
        let groups: Vec<String> = parsed
            .subject()
            .iter_organization()
            .filter_map(|organization| organization.as_str().ok().map(str::to_owned))
            .collect();
        (!user.is_empty()).then(|| Self::new(user, groups))
    }

    #[must_use]
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|member| member == group)
    }

    #[must_use]
    pub fn is_administrator(&self) -> bool {
        self.is_in(ADMINISTRATORS)
    }

    /// The node that this identity is the agent of.
    #[must_use]
    pub fn node(&self) -> Option<&str> {
        if !self.is_in(NODES) {
            return None;
        }
        self.user.strip_prefix("system:node:").filter(|name| !name.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_members_of_the_group_are_nodes() {
        for (user, groups, node) in [
            ("system:node:a", vec![NODES], Some("a")),
            ("system:node:", vec![NODES], None),
            ("system:node:a", vec![], None),
            ("a", vec![NODES], None),
        ] {
            assert_eq!(Identity::new(user, groups).node(), node, "{user}");
        }
    }

    #[test]
    fn a_certificate_names_user_and_groups() {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut parameters = rcgen::CertificateParams::new(vec![]).expect("parameters");
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        parameters
            .distinguished_name
            .push(rcgen::DnType::CommonName, "system:node:a");
        parameters
            .distinguished_name
            .push(rcgen::DnType::OrganizationName, NODES);
        let certificate = parameters.self_signed(&key).expect("a certificate");
        let identity = Identity::of_certificate(certificate.der()).expect("an identity");
        assert_eq!(identity.node(), Some("a"));
        assert!(identity.is_in(AUTHENTICATED));
        assert!(!identity.is_administrator());
    }
}
