//! Where Pingora connects for an upstream: its addresses, resolved and remembered, and the options of each connection.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use pingora::protocols::tls::CaType;
use pingora::upstreams::peer::HttpPeer;
use pingora::utils::tls::{WrappedX509, parse_x509};
use rustls::pki_types::pem::PemObject;
use url::{Host, Url};

use crate::config::document;
use crate::error::{Error, Kind, Result};

/// A certificate in DER.
pub type Der = Vec<u8>;

/// How long resolved addresses are used before the name is looked up again.
const RESOLVED_FOR: Duration = Duration::from_secs(10);

/// The addresses of one upstream.
#[derive(Debug)]
pub struct Peers {
    host: Host,
    port: u16,
    template: Template,
    resolved: ArcSwapOption<Resolved>,
    /// The address that answered last: `localhost` has two, of which many servers listen on one.
    preferred: AtomicUsize,
}

#[derive(Debug)]
struct Resolved {
    at: Instant,
    peers: Vec<HttpPeer>,
}

/// What all peers of an upstream share.
#[derive(Debug)]
struct Template {
    tls: bool,
    sni: String,
    certificates: Option<Arc<CaType>>,
    connect_timeout: Duration,
    read_timeout: Duration,
    keepalive: Duration,
    /// Pooled connections are one upstream's own: another one with the same address may trust other certificates.
    group: u64,
}

static GROUPS: AtomicU64 = AtomicU64::new(1);

impl Peers {
    /// Reads the address of an upstream. `Err` says what is wrong with it.
    pub fn new(base: &Url, settings: &document::Upstream, certificates: &[Der]) -> Result<Peers, String> {
        let host = base.host().ok_or("has no host")?.to_owned();
        let port = base.port_or_known_default().ok_or("has no port")?;
        let wrapped = certificates.iter().map(|der| WrappedX509::new(der.clone(), parse_x509));
        let certificates: Vec<_> = wrapped.collect();
        let template = Template {
            tls: base.scheme() == "https",
            sni: host.to_string(),
            certificates: (!certificates.is_empty()).then(|| certificates.into()),
            connect_timeout: settings.connect_timeout,
            // Pingora has one clock for every read.
            read_timeout: settings.first_byte_timeout,
            keepalive: settings.keepalive,
            group: GROUPS.fetch_add(1, Ordering::Relaxed),
        };
        Ok(Peers { host, port, template, resolved: ArcSwapOption::empty(), preferred: AtomicUsize::new(0) })
    }

    /// Which address a request tries first; for its later attempts it counts on from there.
    pub fn first(&self) -> usize {
        self.preferred.load(Ordering::Relaxed)
    }

    /// The peer at this position. Positions go round: there is one for each number.
    pub async fn pick(&self, position: usize) -> Result<Box<HttpPeer>> {
        let resolved = match self.resolved.load_full() {
            Some(resolved) if resolved.at.elapsed() < RESOLVED_FOR => resolved,
            _ => self.resolve().await?,
        };
        let peer = resolved.peers.get(position % resolved.peers.len().max(1));
        peer.cloned().map(Box::new).ok_or_else(|| self.unreachable())
    }

    /// How many addresses there are to try.
    pub fn count(&self) -> usize {
        self.resolved.load().as_ref().map_or(1, |resolved| resolved.peers.len())
    }

    /// The address at this position reached the server: later requests begin with it.
    pub fn prefer(&self, position: usize) {
        if self.first() != position {
            self.preferred.store(position % self.count().max(1), Ordering::Relaxed);
        }
    }

    async fn resolve(&self) -> Result<Arc<Resolved>> {
        let mut addresses: Vec<SocketAddr> = match &self.host {
            Host::Ipv4(ip) => vec![(IpAddr::from(*ip), self.port).into()],
            Host::Ipv6(ip) => vec![(IpAddr::from(*ip), self.port).into()],
            Host::Domain(name) => {
                let found = tokio::net::lookup_host((name.as_str(), self.port)).await;
                found.map_err(|e| self.unreachable().source(e))?.collect()
            }
        };
        // Local model servers listen on IPv4 far more often than on IPv6.
        addresses.sort_by_key(SocketAddr::is_ipv6);
        addresses.dedup();
        let peers = addresses.iter().map(|address| self.template.peer(*address)).collect();
        let resolved = Arc::new(Resolved { at: Instant::now(), peers });
        self.resolved.store(Some(resolved.clone()));
        Ok(resolved)
    }

    fn unreachable(&self) -> Error {
        Error::new(Kind::UpstreamUnreachable, "The upstream's address could not be found.")
    }
}

impl Template {
    fn peer(&self, address: SocketAddr) -> HttpPeer {
        let mut peer = HttpPeer::new(address, self.tls, self.sni.clone());
        peer.group_key = self.group;
        peer.options.connection_timeout = Some(self.connect_timeout);
        peer.options.total_connection_timeout = Some(self.connect_timeout);
        peer.options.read_timeout = Some(self.read_timeout);
        peer.options.write_timeout = Some(self.read_timeout);
        peer.options.idle_timeout = Some(self.keepalive);
        peer.options.ca.clone_from(&self.certificates);
        peer
    }
}

/// Reads the certificates of a PEM file. `Err` says what is wrong with the file.
pub fn read_certificates(file: &Path) -> Result<Vec<Der>, String> {
    let certificates = rustls::pki_types::CertificateDer::pem_file_iter(file).map_err(|e| format!("cannot be read: {e}"))?;
    let certificates: Vec<Der> = certificates
        .map(|certificate| certificate.map(|der| der.to_vec()))
        .collect::<Result<_, _>>()
        .map_err(|e| format!("is not a PEM file: {e}"))?;
    match certificates.iter().find(|der| x509_parser::parse_x509_certificate(der).is_err()) {
        Some(_) => Err("has a certificate that cannot be read".into()),
        None if certificates.is_empty() => Err("has no certificate".into()),
        None => Ok(certificates),
    }
}
