//! What LM Studio's own listing of its models adds to the one in OpenAI's form: which are loaded, and how long a context they take.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::{Method, RequestBuilder};
use serde_json::Value;

use super::Upstream;
use super::catalog::id;
use crate::chat::Object;
use crate::config::document::UpstreamKind;

/// Where it is, at the server's origin.
pub(super) const PATH: &str = "/api/v0/models";

/// What is taken from it: `loaded` or `not-loaded`, and tokens.
const FIELDS: [&str; 3] = ["state", "max_context_length", "loaded_context_length"];

/// How long a listing may wait for it.
const TIMEOUT: Duration = Duration::from_millis(500);

/// Whether a server has such a listing.
#[derive(Debug, Default)]
pub struct Native {
    is_known: AtomicBool,
    is_missing: AtomicBool,
}

impl Native {
    /// Another server may have come in the place of one that was down.
    pub fn forget(&self) {
        self.is_known.store(false, Ordering::Relaxed);
        self.is_missing.store(false, Ordering::Relaxed);
    }
}

impl Upstream {
    /// Adds what the server tells of these models beside their names. One that has no such listing is asked once.
    pub(super) async fn describe(&self, models: &mut [Object]) {
        let native = &self.catalog.native;
        if self.settings.kind == UpstreamKind::Demo || native.is_missing.load(Ordering::Relaxed) {
            return;
        }
        let Ok(Some(listing)) = tokio::time::timeout(TIMEOUT, self.native_listing()).await else {
            // A server that had it once may be slow for once.
            let is_known = native.is_known.load(Ordering::Relaxed);
            native.is_missing.store(!is_known, Ordering::Relaxed);
            return;
        };
        native.is_known.store(true, Ordering::Relaxed);
        for model in models {
            let Some(told) = listing.iter().filter_map(Value::as_object).find(|told| id(told) == id(model)) else { continue };
            for field in FIELDS {
                if let Some(value) = told.get(field) {
                    model.entry(field).or_insert_with(|| value.clone());
                }
            }
        }
    }

    async fn native_listing(&self) -> Option<Vec<Value>> {
        listing(self.request_to(Method::GET, self.base.join(PATH).ok()?)).await
    }
}

/// The listing that this question gets; `None` where there is none.
pub(super) async fn listing(question: RequestBuilder) -> Option<Vec<Value>> {
    let answer = question.send().await.ok()?;
    let mut body: Value = if answer.status().is_success() { answer.json().await.ok()? } else { return None };
    match body.get_mut("data")?.take() {
        Value::Array(listing) => Some(listing),
        _ => None,
    }
}
