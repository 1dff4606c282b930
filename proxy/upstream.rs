//! A named server that we call: its address, our credentials for it, what it serves and whether it answers.

pub mod breaker;
pub mod catalog;
pub mod fallback;
mod health;
mod load;
mod native;
pub mod peer;
pub mod queue;
mod retry_budget;

use std::path::Path;
use std::sync::Arc;

use http::HeaderValue;
use url::Url;

use crate::config::document::{self, UpstreamKind};
use crate::demo::Demo;
use crate::error;
use breaker::Breaker;
use catalog::Catalog;
use load::Loads;
use peer::Peers;
use queue::{Place, Queue};
use retry_budget::RetryBudget;

/// One upstream. Plain traffic, which Pingora forwards, and the model calls of runs both go through it.
/// It lives on over a reload that does not change its document.
#[derive(Debug)]
pub struct Upstream {
    /// The name in the configuration.
    pub name: String,
    /// The document that it was built from.
    pub settings: document::Upstream,
    /// The models that it lists, and its state.
    pub catalog: Catalog,
    /// Whether it is left alone for a while.
    pub breaker: Breaker,
    budget: RetryBudget,
    base: Url,
    authorization: Option<HeaderValue>,
    client: reqwest::Client,
    /// For sockets: only HTTP/1.1 can switch protocols.
    sockets: reqwest::Client,
    peers: Peers,
    queue: Option<Arc<Queue>>,
    loads: Loads,
    /// Keeps the built-in server alive as long as somebody calls it.
    _demo: Option<Demo>,
}

/// What is wrong with an upstream: the key of its document and why.
pub type BuildFault = (&'static str, String);

impl Upstream {
    /// Builds an upstream from its document; nothing is connected yet. Paths are relative to `root`;
    /// the demo's server and the catalog's questions run on `control`.
    pub fn build(name: &str, settings: document::Upstream, root: &Path, control: &tokio::runtime::Handle) -> Result<Upstream, BuildFault> {
        let demo = match settings.kind {
            UpstreamKind::Demo => Some(Demo::start(control).map_err(|e| ("kind", format!("cannot start the demo: {e}")))?),
            UpstreamKind::Openai => None,
        };
        let base = demo.as_ref().map(Demo::base_url).or(settings.base_url.as_deref()).unwrap_or_default();
        let base = Url::parse(base.trim_end_matches('/')).map_err(|e| ("base_url", format!("not a URL: {e}")))?;
        let authorization = match &settings.api_key {
            None => None,
            Some(key) => {
                let value = HeaderValue::from_str(&format!("Bearer {}", key.expose()));
                let mut value = value.map_err(|_| ("api_key", "has a character that no header may carry".to_owned()))?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        let certificates = match &settings.ca_file {
            None => Vec::new(),
            Some(file) => peer::read_certificates(&root.join(file)).map_err(|e| ("ca_file", e))?,
        };
        let peers = Peers::new(&base, &settings, &certificates).map_err(|e| ("base_url", e))?;
        let fault = |e: reqwest::Error| ("base_url", e.to_string());
        let sockets = client(&settings, &certificates, reqwest::ClientBuilder::http1_only).map_err(fault)?;
        let client = client(&settings, &certificates, |builder| builder).map_err(fault)?;
        let queue = settings.max_concurrent.map(|places| Queue::new(name, places, settings.queue.clone()));
        Ok(Upstream {
            name: name.to_owned(),
            settings,
            catalog: Catalog::default(),
            breaker: Breaker::default(),
            budget: RetryBudget::default(),
            base,
            authorization,
            client,
            sockets,
            peers,
            queue,
            loads: Loads::default(),
            _demo: demo,
        })
    }

    /// Whether this upstream can serve a configuration with this document, so that a reload may keep it.
    pub fn is_same(&self, settings: &document::Upstream) -> bool {
        self.settings == *settings
    }

    /// The path and query that a client's path and query have at this server:
    /// `/v1/x` is `base_url` + `/x`, every other path stands at the origin.
    pub fn path(&self, path_and_query: &str) -> String {
        let base = self.base.path().trim_end_matches('/');
        match path_and_query.strip_prefix("/v1") {
            Some(rest) if rest.is_empty() || rest.starts_with(['/', '?']) => format!("{base}{rest}"),
            _ => path_and_query.to_owned(),
        }
    }

    /// The server's address, for listings.
    pub fn base_url(&self) -> &str {
        self.base.as_str()
    }

    /// The value of `Host` for this server.
    pub fn authority(&self) -> &str {
        self.base.authority()
    }

    /// The server's name or address, without a port.
    pub fn host(&self) -> &str {
        self.base.host_str().unwrap_or_default()
    }

    /// The value of `Authorization` for this server.
    pub fn authorization(&self) -> Option<&HeaderValue> {
        self.authorization.as_ref()
    }

    /// Where Pingora connects.
    pub fn peers(&self) -> &Peers {
        &self.peers
    }

    /// A place among those that may be at this server at once (`max_concurrent`), as soon as it is this key's turn.
    /// `None` where there is no limit. Hold it until the answer is complete.
    pub async fn enter(&self, key: Option<&str>) -> error::Result<Option<Place>> {
        match &self.queue {
            Some(queue) => queue.enter(key).await.map(Some),
            None => Ok(None),
        }
    }

    /// How many wait for a place, where `enter` would wait now.
    pub fn waiting(&self) -> Option<usize> {
        self.queue.as_ref()?.ahead()
    }

    /// As `enter`, where it need not wait: `Err` when it must.
    pub fn try_enter(&self) -> Result<Option<Place>, ()> {
        match &self.queue {
            Some(queue) => queue.try_enter().map(Some).ok_or(()),
            None => Ok(None),
        }
    }

    /// A request to open a socket at the server; the path and query are the server's own. Nothing is added.
    pub fn socket_request(&self, path_and_query: &http::Uri) -> reqwest::RequestBuilder {
        let mut url = self.base.clone();
        url.set_path(path_and_query.path());
        url.set_query(path_and_query.query());
        self.sockets.get(url)
    }

    /// A request of our own to `path` under `base_url`, with our credentials.
    pub fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        self.request_to(method, format!("{}{path}", self.base.as_str().trim_end_matches('/')))
    }

    fn request_to(&self, method: reqwest::Method, url: impl reqwest::IntoUrl) -> reqwest::RequestBuilder {
        let request = self.client.request(method, url);
        match &self.authorization {
            Some(value) => request.header(http::header::AUTHORIZATION, value),
            None => request,
        }
    }
}

fn client(
    settings: &document::Upstream,
    certificates: &[peer::Der],
    adapt: fn(reqwest::ClientBuilder) -> reqwest::ClientBuilder,
) -> reqwest::Result<reqwest::Client> {
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("moongate/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(settings.connect_timeout)
        .pool_idle_timeout(settings.keepalive)
        .redirect(reqwest::redirect::Policy::none())
        .tcp_nodelay(true)
        .no_proxy();
    if !certificates.is_empty() {
        let trusted = certificates.iter().map(|der| reqwest::Certificate::from_der(der));
        builder = builder.tls_certs_only(trusted.collect::<reqwest::Result<Vec<_>>>()?);
    }
    adapt(builder).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream(base_url: &str) -> Upstream {
        crate::tls::install_provider();
        let settings = document::Upstream { base_url: Some(base_url.into()), api_key: Some("k".into()), ..Default::default() };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        Upstream::build("u", settings, Path::new("."), runtime.handle()).unwrap()
    }

    #[test]
    fn maps_paths_under_and_beside_v1() {
        let ours = upstream("http://h:1/api/openai/v1/");
        assert_eq!(ours.path("/v1/chat/completions?a=b"), "/api/openai/v1/chat/completions?a=b");
        assert_eq!(ours.path("/v1?x"), "/api/openai/v1?x");
        assert_eq!(ours.path("/v1x"), "/v1x");
        assert_eq!(ours.path("/api/v0/models"), "/api/v0/models");
        assert_eq!(ours.authority(), "h:1");
        assert_eq!(upstream("http://h").path("/v1/models"), "/models");
    }

    #[test]
    fn its_key_is_in_no_debug_output() {
        let text = format!("{:?}", upstream("http://h/v1"));
        assert!(!text.contains("Bearer"), "{text}");
    }
}
