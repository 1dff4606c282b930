//! Which models an upstream lists. Routing uses what is known and never asks; a listing asks.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use reqwest::Method;
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::Upstream;
use super::breaker::Failure;
use super::native::Native;
use crate::chat::Object;

/// Where a server lists its models, under its `base_url`.
const LISTING: &str = "/models";

/// How long a server may take to list its models.
pub const LIST_TIMEOUT: Duration = Duration::from_secs(2);

/// The newest listing of an upstream's models.
#[derive(Debug, Default)]
pub struct Catalog {
    listing: ArcSwap<Listing>,
    pub(super) native: Native,
    /// When the server was asked last; held while it is asked, so that many who want to know ask once.
    asked: Mutex<Option<Instant>>,
}

/// How long an answer counts as new.
const FRESH: Duration = Duration::from_secs(1);

/// What an upstream said when it was last asked.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    /// The models as the upstream describes them; those of the last good answer while it is down.
    pub models: Vec<Object>,
    /// Whether it answered.
    pub state: State,
}

/// Whether an upstream answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum State {
    /// It was not asked yet.
    #[default]
    Unknown,
    /// It answered.
    Up,
    /// It did not, and why.
    Down(String),
}

impl Catalog {
    /// What is known now.
    pub fn listing(&self) -> Arc<Listing> {
        self.listing.load_full()
    }

    /// Whether the upstream lists a model of this name.
    pub fn has(&self, model: &str) -> bool {
        self.listing.load().models.iter().any(|listed| id(listed) == Some(model))
    }

    /// Whether the upstream said of this model that it is not loaded.
    pub(super) fn is_cold(&self, model: &str) -> bool {
        self.listing.load().models.iter().any(|listed| id(listed) == Some(model) && is_not_loaded(listed))
    }

    /// The model was loaded, or has answered, since the upstream was asked; with this context, where that is known.
    pub(super) fn warm(&self, model: &str, context_length: Option<u32>) {
        self.listing.rcu(|listing| {
            let mut listing = Listing::clone(listing);
            for listed in listing.models.iter_mut().filter(|listed| id(listed) == Some(model) && is_not_loaded(listed)) {
                listed.insert("state".into(), "loaded".into());
                if let Some(length) = context_length {
                    listed.insert("loaded_context_length".into(), length.into());
                }
            }
            listing
        });
    }
}

impl Upstream {
    /// Asks the server for its models and remembers the answer. Takes `LIST_TIMEOUT` at the most; never fails: a failure is a state.
    /// An answer of the last second is taken for new.
    pub async fn refresh_catalog(&self) {
        let mut asked = self.catalog.asked.lock().await;
        if asked.is_some_and(|asked| asked.elapsed() < FRESH) {
            return;
        }
        self.ask_for_models().await;
        *asked = Some(Instant::now());
    }

    /// The same, if the server was not asked for as long as its `health.interval`; while its breaker is open, as long as that waits, too.
    pub async fn refresh_when_due(&self) {
        let last = *self.catalog.asked.lock().await;
        let interval = self.settings.health.interval;
        let interval = self.breaker.wait().map_or(interval, |wait| wait.min(interval));
        if last.is_none_or(|asked| asked.elapsed() >= interval) {
            self.refresh_catalog().await;
        }
    }

    async fn ask_for_models(&self) {
        let answer = tokio::time::timeout(LIST_TIMEOUT, self.examine()).await;
        let answer = answer.unwrap_or_else(|_| Err(format!("no answer within {} s", LIST_TIMEOUT.as_secs())));
        let old = self.catalog.listing();
        let new = match answer {
            Ok(mut models) => {
                self.healthy();
                if old.state != State::Up {
                    self.catalog.native.forget();
                    self.loads.begin_anew();
                }
                self.describe(&mut models).await;
                Listing { models, state: State::Up }
            }
            Err(why) => Listing { models: old.models.clone(), state: State::Down(why) },
        };
        match (&old.state, &new.state) {
            (State::Unknown | State::Up, State::Down(why)) => tracing::warn!(upstream = self.name, "upstream is down: {why}"),
            (State::Down(_), State::Up) => tracing::info!(upstream = self.name, "upstream is up again"),
            _ => {}
        }
        self.catalog.listing.store(Arc::new(new));
    }

    /// How the server is: its models when it is well. What it says at `health.path` counts; by default that is the listing itself.
    async fn examine(&self) -> Result<Vec<Object>, String> {
        let path = self.settings.health.path.as_str();
        if path == LISTING {
            return self.list_models().await;
        }
        self.get(path).await?;
        // A server may be well and have no listing.
        Ok(self.list_models().await.unwrap_or_else(|_| self.catalog.listing().models.clone()))
    }

    async fn get(&self, path: &str) -> Result<reqwest::Response, String> {
        let answer = self.request(Method::GET, path).send().await.map_err(|error| {
            let why = root_cause(&error);
            if error.is_connect() {
                self.failed(Failure::Connect, &why);
            }
            why
        })?;
        let status = answer.status();
        if status.is_success() { Ok(answer) } else { Err(format!("GET {path} answered {status}")) }
    }

    async fn list_models(&self) -> Result<Vec<Object>, String> {
        let body: Value = self.get(LISTING).await?.json().await.map_err(|_| "GET /models did not answer JSON".to_owned())?;
        let items = body.get("data").and_then(Value::as_array).ok_or("GET /models answered without a `data` list")?;
        Ok(items.iter().filter_map(Value::as_object).filter(|model| id(model).is_some()).cloned().collect())
    }
}

fn is_not_loaded(listed: &Object) -> bool {
    listed.get("state").is_some_and(|state| state == "not-loaded")
}

/// The model's name.
pub fn id(model: &Object) -> Option<&str> {
    model.get("id").and_then(Value::as_str)
}

/// The innermost reason of a failed request: `Connection refused` rather than `error sending request`.
pub fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
