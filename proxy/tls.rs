//! The one choice of cryptography for all TLS of the process.

/// Makes ring the process' provider, unless one is installed. Called before the first client or listener is built.
pub fn install_provider() {
    // `Err` says that one is installed already, which is what we want.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
