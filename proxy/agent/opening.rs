//! A run before its request is read: only its head is known, and `on_request` may still turn it away.

use std::sync::Arc;

use super::run::{aborted, rejected};
use super::scene::Scene;
use crate::chat::wire::mint_completion_id;
use crate::error::Result;
use crate::hooks::{Head, Headers, HookRun, Point, RunView, Verdict};

/// A run that is about to begin.
pub struct Opening {
    pub(super) scene: Arc<Scene>,
    pub(super) hooks: HookRun,
    pub(super) id: String,
}

impl Opening {
    /// Opens a run for whoever asks for `model`.
    pub fn new(scene: Scene, model: &str) -> Opening {
        let id = mint_completion_id();
        let scene = Arc::new(scene);
        let view = RunView {
            id: id.clone(),
            agent: scene.agent.name.clone(),
            model: model.to_owned(),
            headers: scene.headers(),
            key: scene.caller.key_id().map(str::to_owned),
            depth: scene.depth as usize,
            ..RunView::default()
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
}
