//! A run of an agent that is Python code: a worker runs it, and everything that it asks of models and tools comes back to this run.

mod asks;

use std::collections::HashMap;

use futures_util::StreamExt;
use futures_util::future::{AbortHandle, Abortable};
use futures_util::stream::FuturesUnordered;

use self::asks::{Asked, Asking};
use super::run::Run;
use crate::chat::{Delta, Reply};
use crate::error::{Error, Kind, Result};
use crate::python::call::{Event, Outcome};
use crate::python::frames::{Piece, RunOrder, Trouble, TroubleKind};

/// Works on the run's request until the reply is complete.
pub async fn drive(run: &mut Run) -> Result<()> {
    let order = run.order();
    let scene = run.scene.clone();
    let unavailable = |why| scene.agent.unavailable(why);
    let python = scene.agent.python.as_ref().ok_or_else(|| unavailable("no Python".into()))?;
    let mut call = python.run(&order).await.map_err(unavailable)?;
    let (hooks, voice) = (run.hooks.clone(), run.voice.clone());
    let asking = Asking { scene: scene.clone(), hooks, voice, defaults: run.defaults(), asks: call.asks() };
    let mut open = FuturesUnordered::new();
    let mut handles: HashMap<u64, AbortHandle> = HashMap::new();
    let mut reply = Reply::default();
    // Why a model failed: the code may deal with it, or fail for it.
    let mut failed_model = None;
    loop {
        let event = tokio::select! {
            Some(answered) = open.next(), if !open.is_empty() => {
                // `Err` is an ask that the code forgot.
                if let Ok((ask, outcome)) = answered {
                    handles.remove(&ask);
                    match outcome? {
                        Asked::Answered => {}
                        Asked::ModelFailed(error) => failed_model = Some(error),
                    }
                }
                continue;
            }
            event = call.next() => event,
        };
        match event {
            Event::Piece(piece) => {
                let mut delta = delta(piece);
                run.read_chunk(&mut delta).await?;
                reply.push(&delta);
                run.say(delta).await?;
            }
            Event::Ask(ask, what) => {
                let (handle, registration) = AbortHandle::new_pair();
                handles.insert(ask, handle);
                let asking = &asking;
                open.push(Abortable::new(async move { (ask, asking.answer(ask, what).await) }, registration));
            }
            Event::Forget(ask) => {
                if let Some(handle) = handles.remove(&ask) {
                    handle.abort();
                }
            }
            Event::Ended(Outcome::Result(_)) => {
                run.read_last_chunks(&mut reply).await?;
                return run.conclude(0, "stop".into()).await;
            }
            Event::Ended(Outcome::Failed(trouble)) => return Err(failure(&scene.agent.name, trouble, failed_model)),
            Event::Ended(Outcome::Lost(how)) => {
                let message = format!("The agent '{}' was cut off: its Python worker ended.", scene.agent.name);
                return Err(Error::new(Kind::AgentError, message).source(how));
            }
        }
    }
}

impl Run {
    fn order(&mut self) -> RunOrder {
        let scene = &self.scene;
        let agent = &scene.agent;
        RunOrder {
            agent: agent.name.clone(),
            model: agent.model.clone(),
            messages: std::mem::take(&mut self.request.messages),
            max_turns: agent.policies.max_tool_hops.saturating_add(1),
            tools: scene.offer.definitions().into_iter().filter_map(|mut tool| Some(tool.get_mut("function")?.take())).collect(),
            instructions: agent.instructions.clone(),
            review: agent.hooks.has(crate::hooks::Point::OnToolResult) || self.voice.tells_tools(),
            parallel_tool_calls: agent.policies.parallel_tool_calls,
            tool_timeout: agent.policies.tool_timeout.as_secs_f64(),
            context: serde_json::json!({
                "run": self.id, "agent": agent.name, "key": scene.caller.key_id(),
                "user": self.client.user, "session": self.client.session,
            }),
        }
    }
}

fn delta(piece: Piece) -> Delta {
    Delta { content: piece.content, reasoning: piece.reasoning, refusal: piece.refusal, ..Delta::default() }
}

/// What the client is told. The code's own words, file and line are for the log: they may hold anything.
fn failure(agent: &str, trouble: Trouble, failed_model: Option<Error>) -> Error {
    let log = match &trouble.traceback {
        Some(traceback) => format!("{trouble}\n{traceback}"),
        None => trouble.to_string(),
    };
    let error = match trouble.kind {
        TroubleKind::Guardrail => Error::new(Kind::Rejected, trouble.message),
        TroubleKind::MaxTurns => Error::new(Kind::LimitExceeded, "The agent reached its limit `max_tool_hops`."),
        TroubleKind::Model => {
            let unknown = || Error::new(Kind::UpstreamError, format!("The agent '{agent}' could not use its model."));
            return failed_model.unwrap_or_else(|| unknown().source(log));
        }
        TroubleKind::Output => Error::new(Kind::AgentError, format!("The agent '{agent}' ended with a result that is not JSON.")),
        _ => Error::new(Kind::AgentError, format!("The agent '{agent}' failed in its own code.")),
    };
    error.source(log)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trouble(kind: TroubleKind) -> Trouble {
        let (file, line) = (Some("agents/a.py".into()), Some(7));
        Trouble { kind, message: "ValueError: secret".into(), file, line, traceback: Some("Traceback ...".into()) }
    }

    #[test]
    fn the_client_is_told_what_failed_and_the_log_where() {
        let error = failure("A", trouble(TroubleKind::Exception), None);
        assert_eq!((error.kind, error.message.as_str()), (Kind::AgentError, "The agent 'A' failed in its own code."));
        assert!(error.chain().contains("agents/a.py:7: ValueError: secret\nTraceback"), "{}", error.chain());
        assert_eq!(failure("A", trouble(TroubleKind::MaxTurns), None).kind, Kind::LimitExceeded);
        assert_eq!(failure("A", trouble(TroubleKind::Guardrail), None).http_status(), 403);
    }

    #[test]
    fn a_models_failure_is_the_runs() {
        let limited = || Some(Error::new(Kind::UpstreamRateLimited, "slow down"));
        assert_eq!(failure("A", trouble(TroubleKind::Model), limited()).kind, Kind::UpstreamRateLimited);
        assert_eq!(failure("A", trouble(TroubleKind::Exception), limited()).kind, Kind::AgentError, "the code dealt with that one");
        assert_eq!(failure("A", trouble(TroubleKind::Model), None).kind, Kind::UpstreamError);
    }
}
