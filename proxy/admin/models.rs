//! `GET /v1/models` and `/v1/models/{id}`: agents, aliases and the models of all upstreams, each id once.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::access::Caller;
use crate::downstream::Answer;
use crate::error::Result;
use crate::route::unknown_model;
use crate::snapshot::Snapshot;

/// The listing that this caller may see, or one entry of it. A dead upstream delays it by no more than the catalog's timeout.
pub async fn answer(snapshot: &Snapshot, caller: &Caller, id: Option<&str>) -> Result<Answer> {
    join_all(snapshot.upstreams.iter().map(|upstream| upstream.refresh_catalog())).await;
    let models = snapshot.routes.list(caller);
    match id {
        None => Ok(Answer::json(&json!({ "object": "list", "data": models }))),
        Some(id) => {
            let model = models.iter().find(|model| model.get("id").and_then(Value::as_str) == Some(id));
            model.map(Answer::json).ok_or_else(|| unknown_model(id))
        }
    }
}
