//! The way in from the network.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use axum::Router;
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;

/// Where to listen, and with which certificate.
#[derive(Debug, Clone)]
pub struct Tls {
    /// The address.
    pub listen: SocketAddr,
    /// The chain of certificates, PEM.
    pub certificate: PathBuf,
    /// The key, PEM.
    pub key: PathBuf,
}

impl Tls {
    /// Answers requests until the handle ends it.
    ///
    /// # Errors
    /// Where certificate, key or address cannot be used.
    pub async fn serve(&self, router: Router, handle: Handle<SocketAddr>) -> io::Result<()> {
        // Fails only where a provider is installed already, which is as good.
        let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let config = RustlsConfig::from_pem_file(&self.certificate, &self.key).await?;
        axum_server::bind_rustls(self.listen, config)
            .handle(handle)
            .serve(router.into_make_service_with_connect_info::<SocketAddr>())
            .await
    }
}
