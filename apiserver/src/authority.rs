//! Who is who: the certificate authority, the tokens, and the identity behind a request.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use rand::RngCore;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
    date_time_ymd,
};
use rustls::{RootCertStore, ServerConfig, server::WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};
use schemas::Now;
use sha2::{Digest, Sha256};
use store::Store;
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use crate::identity::{ADMINISTRATORS, Authenticator, Identity, NODES};

/// Names under which the parts are kept in the store.
const CA: &str = "ca";
const ADMIN_TOKEN: &str = "admin-token";
const BOOTSTRAP_TOKEN: &str = "bootstrap-token";

const CA_YEARS: i16 = 30;
const LEAF_YEARS: i16 = 10;

/// The generated certificate authority and the tokens of a cluster. Made once, kept in the store, so
/// that another server of the same database takes over with the same.
pub struct Authority {
    ca_pem: String,
    ca_der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    admin_token: String,
    bootstrap_token: String,
}

/// What an agent presents and checks.
#[derive(Clone)]
pub struct NodeCredentials {
    pub certificate_pem: String,
    pub key_pem: String,
    pub ca_pem: String,
}

#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    #[error("the certificate authority cannot be read from the store: {0}")]
    Store(#[from] store::Unavailable),
    #[error("a certificate for {subject:?} cannot be made: {error}")]
    Certificate { subject: String, error: rcgen::Error },
    #[error("the kept certificate authority is not readable: {0}")]
    Kept(String),
    #[error("the TLS configuration is not valid: {0}")]
    Tls(String),
    #[error("{0:?} is not a node name: use a DNS name of lower-case letters, digits, dots and dashes")]
    NodeName(String),
    #[error("the certificate request of node {node:?} is not valid: {error}")]
    Request { node: String, error: rcgen::Error },
}

/// The group of agents that hold only the bootstrap token and may ask for a certificate.
pub const BOOTSTRAPPERS: &str = "system:bootstrappers";

impl Authority {
    /// Reads the authority from the store, or makes it. Of two servers that make one at the same
    /// time, both go on with the one that the store kept.
    ///
    /// # Errors
    /// When the store is away, or what it keeps is not readable.
    pub async fn open(store: &Store, now: Now) -> Result<Self, AuthorityError> {
        let kept = match store.secret(CA).await? {
            Some(kept) => kept,
            None => store.secret_or(CA, new_authority(now)?.into_bytes()).await?,
        };
        let kept = String::from_utf8(kept).map_err(|error| AuthorityError::Kept(error.to_string()))?;
        let unreadable = |error: &dyn std::fmt::Display| AuthorityError::Kept(error.to_string());
        // One text: the certificate first, then the key.
        let split = kept
            .find("-----BEGIN PRIVATE KEY")
            .ok_or_else(|| AuthorityError::Kept("it holds no private key".to_owned()))?;
        let (ca_pem, key_pem) = kept.split_at(split);
        let ca_der = CertificateDer::from_pem_slice(ca_pem.as_bytes()).map_err(|error| unreadable(&error))?;
        let key = KeyPair::from_pem(key_pem).map_err(|error| unreadable(&error))?;
        let issuer = Issuer::from_ca_cert_der(&ca_der, key).map_err(|error| unreadable(&error))?;
        Ok(Self {
            ca_pem: ca_pem.to_owned(),
            ca_der,
            issuer,
            admin_token: token(store, ADMIN_TOKEN).await?,
            bootstrap_token: token(store, BOOTSTRAP_TOKEN).await?,
        })
    }

    /// The certificate of the authority, for clients to check servers by.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The token of the administrator: bearer token of the API, password of the git endpoint.
    #[must_use]
    pub fn admin_token(&self) -> &str {
        &self.admin_token
    }

    /// The token with which an agent asks for its node's certificate.
    #[must_use]
    pub fn bootstrap_token(&self) -> &str {
        &self.bootstrap_token
    }

    /// A TLS configuration whose certificate is good for `hosts` (names and addresses), for
    /// `localhost` and for the in-cluster names. Client certificates are asked for, not demanded.
    ///
    /// # Errors
    /// When no certificate can be made, which only broken keys cause.
    pub fn server_config(&self, hosts: &[String], now: Now) -> Result<Arc<ServerConfig>, AuthorityError> {
        let fixed = [
            "localhost",
            "127.0.0.1",
            "::1",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
        ];
        let names: BTreeSet<&str> = hosts.iter().map(String::as_str).chain(fixed).collect();
        let subject = "towline-server";
        let mut params = leaf(subject, None, now);
        // A host name that no certificate can carry is left out: the others still work.
        params.subject_alt_names = names
            .into_iter()
            .filter_map(|name| match name.parse::<IpAddr>() {
                Ok(address) => Some(SanType::IpAddress(address)),
                Err(_) => Some(SanType::DnsName(name.try_into().ok()?)),
            })
            .collect();
        params.insert_extended_key_usage(ExtendedKeyUsagePurpose::ServerAuth);
        let failed = |error| AuthorityError::Certificate {
            subject: subject.to_owned(),
            error,
        };
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = self.sign(&params, &key).map_err(failed)?;

        let tls = |error: &dyn std::fmt::Display| AuthorityError::Tls(error.to_string());
        let mut roots = RootCertStore::empty();
        roots.add(self.ca_der.clone()).map_err(|error| tls(&error))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .allow_unauthenticated()
            .build()
            .map_err(|error| tls(&error))?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| tls(&error))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(
                vec![certificate.der().clone(), self.ca_der.clone()],
                PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
            )
            .map_err(|error| tls(&error))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// A certificate and key for the agent of a node in this process.
    ///
    /// # Errors
    /// When the name is not one a node can have.
    pub fn node_credentials(&self, node: &str, now: Now) -> Result<NodeCredentials, AuthorityError> {
        let failed = |error| AuthorityError::Certificate {
            subject: format!("system:node:{node}"),
            error,
        };
        let params = node_params(node, now)?;
        let key = KeyPair::generate().map_err(failed)?;
        Ok(NodeCredentials {
            certificate_pem: self.sign(&params, &key).map_err(failed)?.pem(),
            key_pem: key.serialize_pem(),
            ca_pem: self.ca_pem.clone(),
        })
    }

    /// Signs an agent's request. Of the request only the public key counts: the name and the uses
    /// are the server's choice.
    ///
    /// # Errors
    /// When the name is not one a node can have, or the request is not a valid one.
    pub fn sign_node(&self, node: &str, request_pem: &str, now: Now) -> Result<String, AuthorityError> {
        let invalid = |error| AuthorityError::Request {
            node: node.to_owned(),
            error,
        };
        let params = node_params(node, now)?;
        let request = CertificateSigningRequestParams::from_pem(request_pem).map_err(invalid)?;
        let certificate = self.sign(&params, &request.public_key).map_err(invalid)?;
        Ok(certificate.pem())
    }

    fn sign(&self, params: &CertificateParams, key: &impl PublicKeyData) -> Result<Certificate, rcgen::Error> {
        params.signed_by(key, &self.issuer)
    }

    /// Compares with every token, in a time that depends on none of them.
    fn of_token(&self, bearer: &str) -> Option<Identity> {
        let given = Sha256::digest(bearer.as_bytes());
        let mut found = 0_u8;
        for (number, token) in [(1, &self.admin_token), (2, &self.bootstrap_token)] {
            let same: Choice = Sha256::digest(token.as_bytes()).as_slice().ct_eq(given.as_slice());
            found.conditional_assign(&number, same);
        }
        match found {
            1 => Some(Identity::new("admin", [ADMINISTRATORS])),
            // Built by hand, so that it is not in the group of those who are authenticated: it may
            // ask for a certificate and nothing else.
            2 => Some(Identity {
                user: "system:bootstrap".to_owned(),
                groups: vec![BOOTSTRAPPERS.to_owned()],
            }),
            _ => None,
        }
    }

    /// A kubeconfig for the administrator, with everything embedded.
    #[must_use]
    pub fn kubeconfig(&self, server_url: &str) -> String {
        format!(
            "apiVersion: v1\n\
             kind: Config\n\
             clusters:\n\
             - name: towline\n\
             \x20 cluster:\n\
             \x20   server: {server_url}\n\
             \x20   certificate-authority-data: {ca}\n\
             users:\n\
             - name: admin\n\
             \x20 user:\n\
             \x20   token: {token}\n\
             contexts:\n\
             - name: towline\n\
             \x20 context:\n\
             \x20   cluster: towline\n\
             \x20   user: admin\n\
             current-context: towline\n",
            ca = BASE64_STANDARD.encode(&self.ca_pem),
            token = self.admin_token,
        )
    }
}

impl Authenticator for Authority {
    fn bearer(&self, token: &str) -> Option<Identity> {
        self.of_token(token)
    }
}

fn node_params(node: &str, now: Now) -> Result<CertificateParams, AuthorityError> {
    if !schemas::labels::is_dns_subdomain(node) {
        return Err(AuthorityError::NodeName(node.to_owned()));
    }
    let mut params = leaf(&format!("system:node:{node}"), Some(NODES), now);
    params.insert_extended_key_usage(ExtendedKeyUsagePurpose::ClientAuth);
    Ok(params)
}

fn leaf(common_name: &str, organization: Option<&str>, now: Now) -> CertificateParams {
    let mut params = base(common_name, organization, now, LEAF_YEARS);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params
}

fn base(common_name: &str, organization: Option<&str>, now: Now, years: i16) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    if let Some(organization) = organization {
        name.push(DnType::OrganizationName, organization);
    }
    params.distinguished_name = name;
    // From the first day of the year before: hosts whose clocks disagree by a little still join.
    let year = now.wall.to_zoned(jiff::tz::TimeZone::UTC).year();
    params.not_before = date_time_ymd(i32::from(year - 1), 1, 1);
    params.not_after = date_time_ymd(i32::from(year + years), 1, 1);
    let mut serial = [0; 16];
    rand::rng().fill_bytes(&mut serial);
    // A serial number is positive: its first bit is not set.
    serial[0] &= 0x7f;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params
}

fn new_authority(now: Now) -> Result<String, AuthorityError> {
    let subject = "towline-ca";
    let failed = |error| AuthorityError::Certificate {
        subject: subject.to_owned(),
        error,
    };
    let mut params = base(subject, None, now, CA_YEARS);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = params.self_signed(&key).map_err(failed)?;
    Ok(format!("{}{}", certificate.pem(), key.serialize_pem()))
}

async fn token(store: &Store, name: &str) -> Result<String, AuthorityError> {
    let kept = match store.secret(name).await? {
        Some(kept) => kept,
        None => {
            let mut bytes = [0; 32];
            rand::rng().fill_bytes(&mut bytes);
            store.secret_or(name, hex::encode(bytes).into_bytes()).await?
        }
    };
    String::from_utf8(kept).map_err(|error| AuthorityError::Kept(error.to_string()))
}

/// How long a node may be silent before another machine may take its name. The same as the time
/// after which the node controller calls it unknown.
pub(crate) const NODE_SILENCE: Duration = Duration::from_secs(50);

#[cfg(test)]
#[path = "authority_tests.rs"]
mod tests;
