//! A run before its request is read: only its head is known, and `on_request` may still turn it away.

use std::sync::Arc;

use serde_json::Value;

use super::run::{aborted, rejected};
use super::scene::Scene;
use crate::chat::Object;
use crate::chat::request::ChatRequest;
use crate::error::Result;
use crate::hooks::{Head, Headers, HookRun, Point, RunView, Verdict};

/// Whom a run is for, as the client says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Client {
    pub(super) user: Option<String>,
    /// The conversation.
    pub(super) session: Option<String>,
}

/// A run that is about to begin.
pub struct Opening {
    pub(super) scene: Arc<Scene>,
    pub(super) hooks: HookRun,
    pub(super) id: String,
}

impl Opening {
    /// Opens a run for whoever asks for `model`. `id` is the answer's, too.
    pub fn new(scene: Scene, id: String, model: &str) -> Opening {
        let scene = Arc::new(scene);
        let view = RunView {
            id: id.clone(),
            agent: scene.agent.name.clone(),
            model: model.to_owned(),
            headers: scene.headers(),
            key: scene.caller.key_id().map(str::to_owned),
            user: scene.caller.user().map(str::to_owned),
            session: session(&scene.headers(), scene.caller.chat_header(), None),
            depth: scene.depth as usize,
        };
        let hooks = scene.agent.hooks.begin(view, scene.clone());
        Opening { scene, hooks, id }
    }

    /// Lets `on_request` see the head of a client's request, before its messages are decoded.
    pub async fn announce(&mut self, method: &str, path: &str, model: &str) -> Result<()> {
        if !self.scene.agent.hooks.has(Point::OnRequest) {
            return Ok(());
        }
        let headers = Headers::clone(&self.scene.headers());
        let mut head = Head { method: method.into(), path: path.into(), model: model.into(), headers };
        match self.hooks.on_request(&mut head).await? {
            Verdict::Continue => {}
            Verdict::Answer(never) => match never {},
            Verdict::Reject(message) => return Err(rejected(message)),
            Verdict::Abort(status, message) => return Err(aborted(status, message)),
        }
        let headers = Arc::new(head.headers);
        self.scene.set_headers(headers.clone());
        self.hooks.set_headers(headers);
        Ok(())
    }

    /// Lets the hooks know whom the request is for, now that it is read. Returns it.
    pub(super) fn identify(&mut self, request: &ChatRequest) -> Client {
        let caller = &self.scene.caller;
        let session = session(&self.scene.headers(), caller.chat_header(), request.rest.get("metadata"));
        let session = session.or_else(|| said(request.session.as_deref()?));
        let client = Client { user: caller.user().map(str::to_owned).or_else(|| user(&request.rest)), session };
        self.hooks.set_client(client.user.clone(), client.session.clone());
        client
    }
}

/// OpenAI's `user`, and the name of the same in newer clients.
fn user(fields: &Object) -> Option<String> {
    ["user", "safety_identifier"].iter().find_map(|name| said(fields.get(*name)?.as_str()?))
}

/// The conversation: `x-session-id`, Open WebUI's chat, or `metadata.session_id`.
fn session(headers: &Headers, chat_header: &str, metadata: Option<&Value>) -> Option<String> {
    let header = |wanted: &str| said(&headers.iter().find(|(name, _)| name == wanted)?.1);
    header("x-session-id").or_else(|| header(chat_header)).or_else(|| said(metadata?.get("session_id")?.as_str()?))
}

fn said(text: &str) -> Option<String> {
    (!text.trim().is_empty()).then(|| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_client_says_who_its_user_is_and_which_conversation_it_is() {
        let fields = |value: Value| value.as_object().cloned().unwrap();
        assert_eq!(user(&fields(json!({ "user": " ada ", "safety_identifier": "x" }))), Some("ada".into()));
        assert_eq!(user(&fields(json!({ "user": "", "safety_identifier": "x" }))), Some("x".into()));
        assert_eq!(user(&fields(json!({ "user": 7 }))), None);
        let headers = |name: &str| vec![(name.to_owned(), "h".to_owned())];
        let metadata = json!({ "session_id": "m" });
        assert_eq!(session(&headers("x-session-id"), "x-chat", Some(&metadata)), Some("h".into()));
        assert_eq!(session(&headers("x-chat"), "x-chat", None), Some("h".into()));
        assert_eq!(session(&headers("x-other"), "x-chat", Some(&metadata)), Some("m".into()));
        assert_eq!(session(&Vec::new(), "x-chat", None), None);
    }
}
