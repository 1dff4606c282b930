//! Requests that a run may answer, chats and responses: from their body to the end of the answer. And the responses that are kept.

use std::sync::Arc;

use http::Method;
use pingora::proxy::Session;
use serde_json::json;

use super::forward::Destination;
use super::{Context, Gateway, require_json};
use crate::access::Caller;
use crate::agent::Agent;
use crate::agent::opening::Opening;
use crate::agent::run::Run;
use crate::agent::scene::Scene;
use crate::agent::surroundings::{Models, Route, Target};
use crate::agent::voice::Voice;
use crate::chat::completion::Completion;
use crate::chat::encoder::Encoder;
use crate::chat::peek::Peek;
use crate::chat::request::{ChatRequest, missing};
use crate::chat::wire::mint_completion_id;
use crate::config::Progress;
use crate::downstream::answer::Manner;
use crate::downstream::{Answer, answer, body, client, visible_headers};
use crate::error::{Error, Kind, Result};
use crate::responses::encoder::{Response, mint_response_id};
use crate::responses::request::Request;

/// In which of OpenAI's protocols a client asks, and is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Chat,
    Responses,
}

/// What a client asks an agent.
struct Asked<'a> {
    protocol: Protocol,
    /// The agent's name, as the client wrote it.
    model: &'a str,
    body: &'a [u8],
}

impl Gateway {
    /// A request to a model: an agent's run, or plain traffic.
    pub(super) async fn begin_run(
        &self,
        session: &mut Session,
        context: &mut Context,
        caller: &Caller,
        protocol: Protocol,
    ) -> Result<bool> {
        let body = body::read(session, context.max_body()).await?;
        let peek = Peek::parse(&body)?;
        let model = peek.model.as_deref().ok_or_else(|| missing("model"))?;
        let Route { target, rename } = context.snapshot.routes.find(model, caller)?;
        self.admit(context, caller, target.agent(), body.len())?;
        match target {
            Target::Agent(agent) if client::is_background(&session.req_header().headers, caller, &body) => {
                context.forward(session, caller, Destination::model_of(&agent), body, &peek).await
            }
            // An upstream may offer more over this API than a chat has words for.
            Target::Agent(alias) if alias.is_plain() && protocol == Protocol::Responses => {
                context.forward(session, caller, Destination::model_of(&alias), body, &peek).await
            }
            Target::Agent(agent) => {
                context.run_of(&agent);
                require_json(session.req_header())?;
                body::finish(session).await?;
                // Boxed, so that plain requests do not carry its size.
                Box::pin(self.run(session, context, agent, caller, Asked { protocol, model, body: &body })).await?;
                Ok(true)
            }
            Target::Upstream(upstream) => context.forward(session, caller, Destination::new(upstream, rename), body, &peek).await,
        }
    }

    async fn run(&self, session: &mut Session, context: &mut Context, agent: Arc<Agent>, caller: &Caller, asked: Asked<'_>) -> Result<()> {
        let Asked { protocol, model, body } = asked;
        let head = session.req_header();
        let progress = client::progress(&head.headers, caller, agent.progress)?;
        let form = client::form(progress, &head.headers, caller);
        let (method, path) = (head.method.to_string(), head.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned());
        let (around, headers) = (context.snapshot.around.clone(), Arc::new(visible_headers(&head.headers, caller)));
        let scene = Scene::new(agent.clone(), around, caller.clone(), self.turns.clone(), context.ledger.clone(), headers);
        let id = match protocol {
            Protocol::Chat => mint_completion_id(),
            Protocol::Responses => mint_response_id(),
        };
        let mut opening = Opening::new(scene, id.clone(), model);
        answer::unless_gone(session, opening.announce(&method, &path, model)).await?;
        let (request, tells_tools, encoder): (ChatRequest, bool, Box<dyn Encoder>) = match protocol {
            Protocol::Chat => {
                let request = ChatRequest::parse(body)?;
                let form = form.filter(|_| request.stream);
                let encoder = Completion::new(id, &request, form);
                (request, form.is_some(), Box::new(encoder))
            }
            Protocol::Responses => {
                let mut request = Request::parse(body, &self.responses, caller.scope())?;
                let encoder = Response::new(id, &mut request, &agent.name, &self.responses, caller.scope());
                // The protocol has items for the tools of a server, so every client is told unless it says that it must not be.
                (request.chat, progress != Progress::None, Box::new(encoder))
            }
        };
        agent.check_available()?;
        let manner = Manner { streamed: request.stream, encoder };
        let (voice, heard) = Voice::new(tells_tools);
        let mut run = Run::begin(opening, request, voice)?;
        answer::unless_gone(session, run.recall()).await?;
        context.extra.session = run.has_no_session().then_some("unavailable");
        context.answered = true;
        answer::stream(session, &context.extra, &agent, run, heard, manner).await
    }

    /// A response by its id: one that is kept here for this caller, else the upstream's.
    pub(super) async fn begin_kept(&self, session: &mut Session, context: &mut Context, caller: &Caller, id: &str) -> Result<bool> {
        let Some(kept) = self.responses.find(caller.scope(), id) else { return self.begin_other(session, context, caller).await };
        let head = session.req_header();
        if head.method == Method::DELETE {
            self.responses.remove(caller.scope(), id);
            return context.answer(session, Answer::json(&json!({ "id": id, "object": "response", "deleted": true }))).await;
        }
        if head.uri.query().is_some_and(|query| query.split('&').any(|pair| pair == "stream=true")) {
            return Err(Error::new(Kind::UnsupportedValue, "A response that is kept is not streamed again.").param("stream"));
        }
        context.answer(session, Answer::json(&kept.response)).await
    }
}
