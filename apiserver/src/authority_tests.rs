use serde_json::Value;
use store::MemoryLog;

use super::*;

const NOW: Now = Now {
    wall: jiff::Timestamp::UNIX_EPOCH,
    monotonic: Duration::ZERO,
};

async fn open() -> (Store, Authority) {
    let store = Store::open(Arc::new(MemoryLog::default())).await.expect("a store");
    let authority = Authority::open(&store, NOW).await.expect("an authority");
    (store, authority)
}

#[tokio::test]
async fn an_authority_is_made_once() {
    let (store, first) = open().await;
    let second = Authority::open(&store, NOW).await.expect("an authority");
    assert_eq!(first.ca_pem(), second.ca_pem());
    assert_eq!(first.admin_token(), second.admin_token());
    assert_eq!(first.bootstrap_token(), second.bootstrap_token());
    assert_ne!(first.admin_token(), first.bootstrap_token());
    // Signed by the second, checked by the first: the key is the same as well.
    let signed = second.node_credentials("a", NOW).expect("a certificate");
    let der = CertificateDer::from_pem_slice(signed.certificate_pem.as_bytes()).expect("PEM");
    let (_, certificate) = x509_parser::parse_x509_certificate(&der).expect("a certificate");
    let (_, ca) = x509_parser::parse_x509_certificate(&first.ca_der).expect("a certificate");
    assert_eq!(certificate.issuer(), ca.subject());
    let identity = Identity::of_certificate(&der).expect("an identity");
    assert_eq!(identity.node(), Some("a"));
    assert!(!identity.is_administrator());
}

#[tokio::test]
async fn tokens_name_who_carries_them() {
    let (_, authority) = open().await;
    let admin = authority.bearer(authority.admin_token()).expect("the administrator");
    assert!(admin.is_administrator());
    let bootstrap = authority.bearer(authority.bootstrap_token()).expect("an agent");
    assert!(bootstrap.is_in(BOOTSTRAPPERS) && !bootstrap.is_administrator());
    assert!(!bootstrap.is_in(crate::identity::AUTHENTICATED));
    let token = authority.admin_token();
    for wrong in ["", "x", &token[1..], &format!("{token}0"), &token.to_uppercase()] {
        assert_eq!(authority.bearer(wrong), None, "{wrong:?}");
    }
}

#[tokio::test]
async fn a_kubeconfig_holds_all_that_a_client_needs() {
    let (_, authority) = open().await;
    let text = authority.kubeconfig("https://127.0.0.1:6443");
    let config: Value = serde_saphyr::from_str(&text).expect("YAML");
    assert_eq!(config["clusters"][0]["cluster"]["server"], "https://127.0.0.1:6443");
    assert_eq!(config["users"][0]["user"]["token"], authority.admin_token());
    let ca = config["clusters"][0]["cluster"]["certificate-authority-data"]
        .as_str()
        .expect("text");
    assert_eq!(
        BASE64_STANDARD.decode(ca).expect("base64"),
        authority.ca_pem().as_bytes()
    );
}

#[tokio::test]
async fn node_names_are_dns_names_and_odd_host_names_are_left_out() {
    let (_, authority) = open().await;
    for (name, good) in [
        ("worker-1", true),
        ("a.b", true),
        ("", false),
        ("A", false),
        ("a/b", false),
        ("a b", false),
    ] {
        assert_eq!(authority.node_credentials(name, NOW).is_ok(), good, "{name:?}");
    }
    let hosts = ["höst".to_owned(), "10.0.0.1".to_owned(), "good".to_owned()];
    authority.server_config(&hosts, NOW).expect("the good names are enough");
}
