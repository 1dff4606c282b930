//! Where tools and scripts may connect to: the one door through which their HTTP requests leave.
//!
//! A host that the operator wrote down is trusted. A host that came from a model (an argument, a script's value, a
//! redirect) may not be private, loopback, metadata, or reserved. Such a name is resolved once, inside the client:
//! every address of the answer is checked, and the connection goes to an address that was.

mod address;

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, StatusCode};
use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder, Response};
use url::{Host, Url};

use crate::config::document;

/// How many redirects are followed.
const MAX_REDIRECTS: usize = 5;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The rule of `egress` with the clients that enforce it. Cheap to clone.
#[derive(Clone)]
pub struct Egress {
    rules: Arc<Rules>,
    /// For addresses that the operator wrote down. Honors the environment's proxies.
    trusting: Client,
    /// For all others: its resolver refuses names with private addresses. Never through a proxy, which would resolve anew.
    guarded: Client,
}

/// A request on its way out.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// The method.
    pub method: Method,
    /// Where to.
    pub url: Url,
    /// The headers. On a redirect to another origin all but `accept`, `content-type` and `user-agent` are dropped.
    pub headers: HeaderMap,
    /// The body.
    pub body: Option<Bytes>,
    /// Whose word the url's host is.
    pub trust: Trust,
}

/// Whose word the host of a url is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// The operator wrote it into the configuration.
    Operator,
    /// It came from a model, a script, or a server.
    Nobody,
}

/// Why there is no answer. `Display` is a sentence that a model may read.
#[derive(Debug)]
pub enum Refusal {
    /// The rule forbids it.
    Forbidden(Forbidden),
    /// The redirects have no end, or lead nowhere.
    Redirect(String),
    /// The connection or the exchange failed.
    Failed(reqwest::Error),
}

/// The rule forbids a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forbidden(String);

impl Egress {
    /// The rule as configured. `Err` has a sentence for each entry of `egress.allow` that is neither network nor host, with its key.
    pub fn new(config: &document::Egress) -> Result<Egress, Vec<(String, String)>> {
        Egress::with_lookup(config, Arc::new(|host| Box::pin(system_lookup(host))))
    }

    fn with_lookup(config: &document::Egress, lookup: Arc<Lookup>) -> Result<Egress, Vec<(String, String)>> {
        let rules = Arc::new(Rules::parse(&config.allow)?);
        let failed = |e: reqwest::Error| vec![("egress".to_owned(), format!("no HTTP client could be made: {e}"))];
        let trusting = client().redirect(Policy::none()).build().map_err(failed)?;
        let resolver = Guard { rules: rules.clone(), lookup };
        let guarded = client().redirect(Policy::none()).no_proxy().dns_resolver(resolver).build().map_err(failed)?;
        Ok(Egress { rules, trusting, guarded })
    }

    /// Sends a request and follows its redirects, each hop under the rule. Any final status is an answer.
    /// Dropping the future closes the connection.
    pub async fn send(&self, mut outgoing: Outgoing) -> Result<Response, Refusal> {
        let origin = (outgoing.trust == Trust::Operator).then(|| outgoing.url.clone());
        for _ in 0..=MAX_REDIRECTS {
            let trusted = origin.as_ref().is_some_and(|origin| same_place(origin, &outgoing.url));
            if !trusted {
                self.rules.check_url(&outgoing.url).map_err(Refusal::Forbidden)?;
            }
            let client = if trusted { &self.trusting } else { &self.guarded };
            let mut request = client.request(outgoing.method.clone(), outgoing.url.clone()).headers(outgoing.headers.clone());
            if let Some(body) = &outgoing.body {
                request = request.body(body.clone());
            }
            let response = request.send().await.map_err(Refusal::from)?;
            match redirect_target(&response)? {
                Some(target) => follow(&mut outgoing, response.status(), target),
                None => return Ok(response),
            }
        }
        Err(Refusal::Redirect(format!("the server redirects more than {MAX_REDIRECTS} times")))
    }
}

/// A builder with what all of moongate's tool clients share: the TLS provider, the agent's name, a bounded connect.
pub fn client() -> ClientBuilder {
    crate::tls::install_provider();
    Client::builder()
        .user_agent(concat!("moongate/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(Duration::from_secs(30))
        .referer(false)
}

/// The address that a redirect names, or `None` when the response is an answer.
fn redirect_target(response: &Response) -> Result<Option<Url>, Refusal> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let Some(location) = response.headers().get(header::LOCATION) else { return Ok(None) };
    let text = location.to_str().map_err(|_| Refusal::Redirect("the server redirects to something unreadable".into()))?;
    match response.url().join(text) {
        Ok(target) => Ok(Some(target)),
        Err(e) => Err(Refusal::Redirect(format!("the server redirects to something that is not an address: {e}"))),
    }
}

/// What a browser does: 303, and 301 or 302 after a POST, become a GET without the body.
fn follow(outgoing: &mut Outgoing, status: StatusCode, target: Url) {
    let becomes_get = match status.as_u16() {
        303 => outgoing.method != Method::HEAD,
        301 | 302 => outgoing.method == Method::POST,
        _ => false,
    };
    if becomes_get {
        outgoing.method = Method::GET;
        outgoing.body = None;
        outgoing.headers.remove(header::CONTENT_TYPE);
    }
    if !same_place(&outgoing.url, &target) {
        // Any header may be a credential: only what describes the message crosses over.
        let keep = [header::ACCEPT, header::CONTENT_TYPE, header::USER_AGENT];
        outgoing.headers =
            keep.into_iter().filter_map(|name| outgoing.headers.get(&name).map(|value: &HeaderValue| (name, value.clone()))).collect();
    }
    outgoing.url = target;
}

/// The same host and port; a step up from http to https on the usual ports counts as the same.
fn same_place(a: &Url, b: &Url) -> bool {
    let upgraded =
        a.scheme() == "http" && b.scheme() == "https" && a.port_or_known_default() == Some(80) && b.port_or_known_default() == Some(443);
    let same = a.scheme() == b.scheme() && a.port_or_known_default() == b.port_or_known_default();
    a.host() == b.host() && (same || upgraded)
}

/// `egress.allow`, understood.
#[derive(Debug, Default)]
struct Rules {
    networks: Vec<IpNet>,
    /// In lower case, without a trailing dot.
    hosts: Vec<String>,
}

impl Rules {
    fn parse(allow: &[String]) -> Result<Rules, Vec<(String, String)>> {
        let mut rules = Rules::default();
        let mut faults = Vec::new();
        for (i, entry) in allow.iter().enumerate() {
            let text = entry.trim();
            if let Ok(network) = text.parse::<IpNet>() {
                rules.networks.push(network);
            } else if let Ok(address) = text.parse::<IpAddr>() {
                rules.networks.push(address.into());
            } else if let Ok(Host::Domain(host)) = Host::parse(text.strip_prefix("*.").unwrap_or(text)) {
                let below = if text.starts_with("*.") { "*." } else { "" };
                rules.hosts.push(format!("{below}{}", plain(&host)));
            } else {
                let message = format!("`{entry}` is neither a network such as 10.0.0.0/8 nor a host such as intranet.example");
                faults.push((format!("egress.allow[{i}]"), message));
            }
        }
        if faults.is_empty() { Ok(rules) } else { Err(faults) }
    }

    /// Refuses what can be refused without a lookup: the scheme, and addresses written as numbers in any spelling.
    fn check_url(&self, url: &Url) -> Result<(), Forbidden> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Forbidden(format!("only http and https addresses may be reached, not {}:", url.scheme())));
        }
        match url.host() {
            Some(Host::Ipv4(v4)) => self.check_address(&v4.to_string(), v4.into()),
            Some(Host::Ipv6(v6)) => self.check_address(&v6.to_string(), v6.into()),
            Some(Host::Domain(_)) => Ok(()),
            None => Err(Forbidden("the address has no host".into())),
        }
    }

    fn check_address(&self, host: &str, address: IpAddr) -> Result<(), Forbidden> {
        let address = address.to_canonical();
        if self.networks.iter().any(|network| network.contains(&address)) {
            return Ok(());
        }
        match address::private(address) {
            Some(what) => Err(Forbidden(format!("{host} may not be reached: it is {what}"))),
            None => Ok(()),
        }
    }

    fn allows_host(&self, host: &str) -> bool {
        let host = plain(host);
        self.hosts.iter().any(|allowed| match allowed.strip_prefix("*.") {
            Some(domain) => host.strip_suffix(domain).is_some_and(|name| name.ends_with('.')),
            None => *allowed == host,
        })
    }
}

fn plain(host: &str) -> String {
    host.trim_end_matches('.').to_ascii_lowercase()
}

type Lookup = dyn Fn(String) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>> + Send + Sync;

async fn system_lookup(host: String) -> io::Result<Vec<SocketAddr>> {
    Ok(tokio::net::lookup_host((host, 0)).await?.collect())
}

/// The guarded client's resolver. One private address among an answer's spoils all of it.
struct Guard {
    rules: Arc<Rules>,
    lookup: Arc<Lookup>,
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let host = name.as_str().to_owned();
        let rules = self.rules.clone();
        let lookup = (self.lookup)(host.clone());
        Box::pin(async move {
            let addresses = lookup.await?;
            if !rules.allows_host(&host) {
                for address in &addresses {
                    rules.check_address(&host, address.ip())?;
                }
            }
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

impl From<reqwest::Error> for Refusal {
    fn from(error: reqwest::Error) -> Self {
        let mut cause = std::error::Error::source(&error);
        while let Some(e) = cause {
            if let Some(forbidden) = e.downcast_ref::<Forbidden>() {
                return Refusal::Forbidden(forbidden.clone());
            }
            cause = e.source();
        }
        Refusal::Failed(error)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Forbidden(forbidden) => forbidden.fmt(f),
            Refusal::Redirect(message) => f.write_str(message),
            Refusal::Failed(error) => f.write_str(&words(error)),
        }
    }
}

/// What went wrong, for people and models: without the url, which may carry secrets of the configuration.
pub fn words(error: &reqwest::Error) -> String {
    let what = if error.is_timeout() {
        "the server took too long"
    } else if error.is_connect() {
        "no connection to the server"
    } else {
        "the exchange with the server failed"
    };
    let mut cause = std::error::Error::source(error);
    let mut text = String::new();
    while let Some(e) = cause {
        text = e.to_string();
        cause = e.source();
    }
    if text.is_empty() { what.to_owned() } else { format!("{what}: {text}") }
}

impl std::error::Error for Refusal {}

impl fmt::Display for Forbidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Forbidden {}

#[cfg(test)]
mod tests;
