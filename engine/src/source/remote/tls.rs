//! TLS of clients: the cryptography provider, and the trusted certificates. Nothing is installed for the process: a
//! provider that the program has installed is used, otherwise ring.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};
use rustls_platform_verifier::Verifier;

use crate::source::Refusal;

/// Trusts the system's certificates, and `roots`.
pub(super) fn with(roots: &[CertificateDer<'static>]) -> Result<ClientConfig, Refusal> {
    let unusable = |error: rustls::Error| Refusal::Connection(error.to_string());
    let (provider, builder) = builder();
    let verifier = Verifier::new_with_extra_roots(roots.iter().cloned(), provider).map_err(unusable)?;
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    Ok(over_http(builder.with_no_client_auth()))
}

/// Trusts no server: for connections without TLS.
pub(super) fn without_roots() -> ClientConfig {
    over_http(builder().1.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

fn builder() -> (Arc<CryptoProvider>, ConfigBuilder<ClientConfig, WantsVerifier>) {
    let provider = CryptoProvider::get_default().cloned().unwrap_or_else(|| Arc::new(ring::default_provider()));
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
    (provider, builder.with_safe_default_protocol_versions().expect("ring and its like have both versions"))
}

fn over_http(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}
