//! A run before its request is read: only its head is known, and `on_request` may still turn it away.

use std::sync::Arc;

use super::run::{aborted, rejected};
use super::scene::Scene;
use crate::chat::Object;
use crate::chat::request::ChatRequest;
use crate::error::Result;
use crate::hooks::{Head, Headers, HookRun, Point, RunView, Verdict};
use crate::sessions::name;

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
            // A session that is none is refused when the request is read.
            session: scene.session_of_headers().ok().flatten(),
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

    /// Lets the hooks know whom the request is for, now that it is read. Returns it. `Err` names where a session is none.
    pub(super) fn identify(&mut self, request: &ChatRequest) -> Result<Client> {
        let caller = &self.scene.caller;
        let of_metadata = request.rest.get("metadata").and_then(|metadata| metadata.get("session_id")?.as_str());
        let session = match self.scene.session_of_headers()? {
            Some(session) => Some(session),
            None => name::check(of_metadata.or(request.session.as_deref()).unwrap_or_default(), "metadata.session_id")?,
        };
        let client = Client { user: caller.user().map(str::to_owned).or_else(|| user(&request.rest)), session };
        self.hooks.set_client(client.user.clone(), client.session.clone());
        Ok(client)
    }
}

impl Scene {
    /// The session that the client's headers name: the configured ones first, then Open WebUI's chat.
    fn session_of_headers(&self) -> Result<Option<String>> {
        session(&self.headers(), self.around.sessions.headers().iter().map(String::as_str).chain([self.caller.chat_header()]))
    }
}

/// OpenAI's `user`, and the name of the same in newer clients.
fn user(fields: &Object) -> Option<String> {
    ["user", "safety_identifier"].iter().find_map(|name| said(fields.get(*name)?.as_str()?))
}

fn session<'a>(headers: &Headers, mut names: impl Iterator<Item = &'a str>) -> Result<Option<String>> {
    let found = names.find_map(|wanted| headers.iter().find(|(name, value)| name == wanted && !value.trim().is_empty()));
    found.map_or(Ok(None), |(name, value)| name::check(value, name))
}

fn said(text: &str) -> Option<String> {
    (!text.trim().is_empty()).then(|| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_client_says_who_its_user_is_and_which_conversation_it_is() {
        let fields = |value: Value| value.as_object().cloned().unwrap();
        assert_eq!(user(&fields(json!({ "user": " ada ", "safety_identifier": "x" }))), Some("ada".into()));
        assert_eq!(user(&fields(json!({ "user": "", "safety_identifier": "x" }))), Some("x".into()));
        assert_eq!(user(&fields(json!({ "user": 7 }))), None);
        let headers =
            vec![("x-chat".to_owned(), "c".to_owned()), ("x-empty".to_owned(), " ".to_owned()), ("x-bad".to_owned(), "a\tb".to_owned())];
        let session = |names: &[&str]| session(&headers, names.iter().copied());
        assert_eq!(session(&["x-empty", "x-chat"]).unwrap(), Some("c".into()));
        assert_eq!(session(&["x-other"]).unwrap(), None);
        assert_eq!(session(&["x-bad", "x-chat"]).unwrap_err().param.as_deref(), Some("x-bad"));
    }
}
