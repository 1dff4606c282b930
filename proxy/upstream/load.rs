//! Loads models at LM Studio before they are asked, with options that no chat can carry. Requests for the same model share one load.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Upstream;
use super::catalog::root_cause;
use super::native;
use crate::config::document::LoadOptions;
use crate::metrics::METRICS;

/// Where LM Studio loads a model, at the server's origin. It answers when the model is there.
const PATH: &str = "/api/v1/models/load";

/// A load that is under way, or over. Whoever waits drives it; one who leaves does not end it for the others.
type Loading = Shared<BoxFuture<'static, Result<(), String>>>;

/// The loads of one upstream.
#[derive(Debug, Default)]
pub(super) struct Loads {
    /// By model; as many as `preload` has.
    latest: Mutex<HashMap<String, Loading>>,
    /// The server has come, or come back, and was not told yet what to load.
    is_due: AtomicBool,
}

impl Loads {
    /// The server has come, or come back: what it had loaded is unknown.
    pub(super) fn begin_anew(&self) {
        self.is_due.store(true, Ordering::Relaxed);
    }
}

impl Upstream {
    /// Whether the server has this model and said, when it was last asked, that it is not loaded.
    pub fn is_cold(&self, model: &str) -> bool {
        self.catalog.is_cold(model)
    }

    /// The model answers, so it is loaded, whoever did it.
    pub fn has_answered(&self, model: &str) {
        if self.is_cold(model) {
            self.catalog.warm(model, None);
        }
    }

    /// Whether the models of `preload` are to be loaded now: once after each time that the server came up.
    pub fn is_preload_due(&self) -> bool {
        !self.settings.preload.is_empty() && self.loads.is_due.swap(false, Ordering::Relaxed)
    }

    /// Loads the models of `preload` that are not loaded, one after the other.
    pub async fn preload(&self) {
        for model in self.settings.preload.keys() {
            self.make_ready(model).await;
        }
    }

    /// Loads a model of `preload` that is not loaded; others are the server's own business. Returns when it is, or the server has failed to,
    /// which is logged: it may still load the model in its own way when it is asked. Takes `first_byte_timeout` at the most.
    pub async fn make_ready(&self, model: &str) {
        let Some(options) = self.settings.preload.get(model).filter(|_| self.is_cold(model)) else { return };
        if self.loading(model, options).await.is_ok() {
            self.catalog.warm(model, options.context_length);
        }
    }

    fn loading(&self, model: &str, options: &LoadOptions) -> Loading {
        let mut latest = self.loads.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let under_way = latest.get(model).filter(|loading| loading.peek().is_none());
        if let Some(loading) = under_way {
            return loading.clone();
        }
        let loading = self.load(model, options).shared();
        latest.insert(model.to_owned(), loading.clone());
        loading
    }

    fn load(&self, model: &str, options: &LoadOptions) -> BoxFuture<'static, Result<(), String>> {
        let at_origin = |path| self.base.join(path).map_err(|error| error.to_string());
        let question = at_origin(native::PATH).map(|url| self.request_to(Method::GET, url));
        let order = at_origin(PATH).map(|url| self.request_to(Method::POST, url).json(&order(model, options)));
        let (upstream, model, patience) = (self.name.clone(), model.to_owned(), self.settings.first_byte_timeout);
        async move {
            let began = Instant::now();
            let loading = async { obey(question?, order?, &model).await };
            let loaded = tokio::time::timeout(patience, loading).await;
            let loaded = loaded.unwrap_or_else(|_| Err(format!("not within {} s", patience.as_secs_f64())));
            METRICS.upstream_load(&upstream, loaded.is_ok());
            match &loaded {
                Ok(()) => tracing::info!(upstream, model, "the model is loaded after {:.1} s", began.elapsed().as_secs_f64()),
                Err(why) => tracing::warn!(upstream, model, "the model was not loaded: {why}"),
            }
            loaded
        }
        .boxed()
    }
}

/// What the server is told.
fn order(model: &str, options: &LoadOptions) -> Value {
    let mut order = json!({ "model": model });
    let LoadOptions { context_length, eval_batch_size, flash_attention, num_experts, offload_kv_cache_to_gpu } = options;
    let fields = [
        ("context_length", context_length.map(Value::from)),
        ("eval_batch_size", eval_batch_size.map(Value::from)),
        ("flash_attention", flash_attention.map(Value::from)),
        ("num_experts", num_experts.map(Value::from)),
        ("offload_kv_cache_to_gpu", offload_kv_cache_to_gpu.map(Value::from)),
    ];
    for (name, value) in fields {
        if let Some(value) = value {
            order[name] = value;
        }
    }
    order
}

/// Sends the order unless the model is loaded by now: LM Studio would load it a second time.
async fn obey(question: RequestBuilder, order: RequestBuilder, model: &str) -> Result<(), String> {
    let is_loaded = |listed: &Value| listed["id"] == model && listed["state"] == "loaded";
    if native::listing(question).await.is_some_and(|models| models.iter().any(is_loaded)) {
        return Ok(());
    }
    let answer = order.send().await.map_err(|error| root_cause(&error))?;
    let status = answer.status();
    let body = answer.json::<Value>().await.unwrap_or_default();
    // LM Studio answers to a path that it does not know with a status of 200, too.
    match body.get("error") {
        Some(error) => Err(error["message"].as_str().or(error.as_str()).map_or_else(|| error.to_string(), str::to_owned)),
        None if !status.is_success() => Err(format!("POST {PATH} answered {status}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_set_is_said() {
        let options = LoadOptions { context_length: Some(16384), flash_attention: Some(true), ..LoadOptions::default() };
        assert_eq!(order("m", &options), json!({ "model": "m", "context_length": 16384, "flash_attention": true }));
        assert_eq!(order("m", &LoadOptions::default()), json!({ "model": "m" }));
    }
}
