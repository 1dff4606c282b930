//! What the head of a request tells of the client behind it: how it wants to see tools work, and whether this is a background task.

use http::HeaderMap;
use serde::Deserialize;
use serde::de::value::StrDeserializer;

use crate::access::Caller;
use crate::chat::progress::Form;
use crate::chat::task;
use crate::config::{BackgroundTasks, Progress};
use crate::error::{Error, Kind, Result};

/// The header with which one request says how it wants to see them.
const PROGRESS: &str = "x-moongate-progress";

/// How all headers of Open WebUI's own begin.
const OPEN_WEBUI: &str = "x-openwebui-";

/// How a client wants to see the tools' progress: as the request says, else its agent, else its key.
pub fn progress(headers: &HeaderMap, caller: &Caller, agent: Option<Progress>) -> Result<Progress> {
    let asked = headers.get(PROGRESS).map(|value| parse(value.to_str().unwrap_or_default())).transpose()?;
    Ok(asked.or(agent).or(caller.progress()).unwrap_or_default())
}

/// How a chat shows it. `None` is not at all.
pub fn form(wanted: Progress, headers: &HeaderMap, caller: &Caller) -> Option<Form> {
    match wanted {
        Progress::None => None,
        Progress::Openwebui => Some(Form::Openwebui),
        Progress::Reasoning => Some(Form::Reasoning),
        // An SDK may stumble over a chunk without choices, so nobody else gets one unasked.
        Progress::Auto => (caller.is_openwebui() || is_openwebui(headers)).then_some(Form::Openwebui),
    }
}

fn parse(value: &str) -> Result<Progress> {
    Progress::deserialize(StrDeserializer::<serde::de::value::Error>::new(value)).map_err(|_| {
        let message = format!("The header '{PROGRESS}' must be auto, openwebui, reasoning or none.");
        Error::new(Kind::InvalidValue, message).param(PROGRESS)
    })
}

fn is_openwebui(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| name.as_str().starts_with(OPEN_WEBUI))
}

/// Whether the plain model answers this request to an agent: for keys that say so, the titles, tags and the like of Open WebUI.
pub fn is_background(headers: &HeaderMap, caller: &Caller, body: &[u8]) -> bool {
    let header = || headers.get(task::HEADER).and_then(|value| value.to_str().ok());
    caller.background_tasks() == BackgroundTasks::Plain && task::is_background(header(), body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(headers: &[(&'static str, &'static str)], agent: Option<Progress>) -> Result<Option<Form>> {
        let headers: HeaderMap =
            headers.iter().map(|(name, value)| (http::HeaderName::from_static(name), http::HeaderValue::from_static(value))).collect();
        let caller = Caller::default();
        Ok(form(progress(&headers, &caller, agent)?, &headers, &caller))
    }

    #[test]
    fn a_strict_client_is_sent_nothing_unasked() {
        assert_eq!(shown(&[], None).unwrap(), None);
        assert_eq!(shown(&[("x-openwebui-chat-id", "c")], None).unwrap(), Some(Form::Openwebui));
        assert_eq!(shown(&[("x-openwebui-chat-id", "c")], Some(Progress::None)).unwrap(), None);
        assert_eq!(shown(&[(PROGRESS, "reasoning")], Some(Progress::Openwebui)).unwrap(), Some(Form::Reasoning));
        assert_eq!(shown(&[(PROGRESS, "loud")], None).unwrap_err().kind, Kind::InvalidValue);
    }
}
