//! The client's side: reads its body, writes answers, errors and streams. Only this and the gateway know Pingora's `Session`.

pub mod answer;
pub mod body;
pub mod client;
pub mod cors;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use pingora::http::ResponseHeader;
use pingora::proxy::Session;
use serde_json::Value;

use crate::access::Caller;
use crate::error::{Error, Kind};
use crate::limits::Standing;

/// What every response to one request carries.
#[derive(Debug, Clone, Default)]
pub struct Extra {
    /// `x-request-id`.
    pub request_id: String,
    /// The CORS headers, for a browser whose page may read the answer.
    pub cors: Option<cors::Grant>,
    /// How far the caller is from its limits.
    pub standing: Option<Box<Standing>>,
    /// What has become of the client's session, where that is not what it expects.
    pub session: Option<&'static str>,
}

impl Extra {
    /// Adds the headers to a response.
    pub fn apply(&self, head: &mut ResponseHeader) -> pingora::Result<()> {
        head.insert_header("x-request-id", &self.request_id)?;
        for (name, value) in self.standing.iter().flat_map(|standing| standing.headers()) {
            head.insert_header(name, value)?;
        }
        if let Some(session) = self.session {
            head.insert_header("x-moongate-session", session)?;
        }
        match &self.cors {
            Some(grant) => grant.apply(head),
            None => Ok(()),
        }
    }
}

/// A whole answer of our own.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers, without length and the `Extra` ones.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body.
    pub body: Bytes,
    /// The connection is closed behind it: the request's body was not read.
    pub close: bool,
}

impl Answer {
    /// 200 with JSON.
    pub fn json(value: &Value) -> Answer {
        Answer::new(StatusCode::OK, "application/json", value.to_string())
    }

    /// An answer with a body of this type.
    pub fn new(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
        let headers = vec![(header::CONTENT_TYPE, HeaderValue::from_static(content_type))];
        Answer { status, headers, body: body.into(), close: false }
    }

    /// An answer without a body.
    pub fn empty(status: StatusCode) -> Answer {
        Answer { status, headers: Vec::new(), body: Bytes::new(), close: false }
    }

    /// The answer that tells the client of a failure, in OpenAI's form.
    pub fn error(error: &Error) -> Answer {
        let status = StatusCode::from_u16(error.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut answer = Answer::new(status, "application/json", error.body().to_string());
        if let Some(after) = error.retry_after.as_deref().and_then(|text| HeaderValue::from_str(text).ok()) {
            answer.headers.push((header::RETRY_AFTER, after));
        }
        if matches!(error.kind, Kind::ShuttingDown | Kind::AgentUnavailable) && error.retry_after.is_none() {
            answer.headers.push((header::RETRY_AFTER, HeaderValue::from_static("1")));
        }
        if error.should_retry == Some(false) {
            answer.headers.push((HeaderName::from_static("x-should-retry"), HeaderValue::from_static("false")));
        }
        if matches!(error.kind, Kind::NoKey | Kind::InvalidKey) {
            answer.headers.push((header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")));
        }
        answer.close = matches!(
            error.kind,
            Kind::NoKey
                | Kind::InvalidKey
                | Kind::RateLimited
                | Kind::TooLarge
                | Kind::RequestTimeout
                | Kind::BadRequest
                | Kind::MalformedJson
        );
        answer
    }

    /// Adds a header.
    pub fn header(mut self, name: &'static str, value: &str) -> Answer {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((HeaderName::from_static(name), value));
        }
        self
    }

    /// Sends the answer.
    pub async fn send(self, session: &mut Session, extra: &Extra) -> pingora::Result<()> {
        let mut head = ResponseHeader::build(self.status, Some(self.headers.len() + 4))?;
        for (name, value) in self.headers {
            head.append_header(name, value)?;
        }
        head.insert_header(header::CONTENT_LENGTH, self.body.len())?;
        extra.apply(&mut head)?;
        if self.close {
            session.set_keepalive(None);
        }
        let bodiless = session.req_header().method == http::Method::HEAD || self.body.is_empty();
        session.write_response_header(Box::new(head), bodiless).await?;
        if !bodiless {
            session.write_response_body(Some(self.body), true).await?;
        }
        if self.close {
            body::drain(session).await;
        }
        Ok(())
    }
}

/// Credentials of the client's, which neither upstreams, tools nor scripts get to see.
pub fn is_credential(name: &HeaderName) -> bool {
    matches!(name.as_str(), "authorization" | "cookie" | "proxy-authorization" | "x-api-key")
}

/// The request's headers for scripts: names in lower case, credentials left out, values that are not text left out.
pub fn visible_headers(headers: &HeaderMap, caller: &Caller) -> Vec<(String, String)> {
    let visible = headers.iter().filter(|(name, _)| !is_credential(name) && !caller.is_token(name));
    visible.filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(error: &Error) -> Vec<String> {
        Answer::error(error).headers.iter().map(|(name, _)| name.to_string()).collect()
    }

    #[test]
    fn an_errors_headers_tell_clients_what_to_do() {
        let retried = Error { retry_after: Some("7".into()), ..Error::new(Kind::UpstreamRateLimited, "") };
        assert_eq!(names(&retried), ["content-type", "retry-after"]);
        let final_one = Error { should_retry: Some(false), ..Error::new(Kind::HookError, "") };
        assert_eq!(names(&final_one), ["content-type", "x-should-retry"]);
        assert_eq!(names(&Error::new(Kind::NoKey, "")), ["content-type", "www-authenticate"]);
        assert!(Answer::error(&Error::new(Kind::TooLarge, "")).close && !Answer::error(&Error::new(Kind::ModelNotFound, "")).close);
        assert_eq!(Answer::error(&Error::new(Kind::Rejected, "").with_status(451)).status, 451);
    }

    #[test]
    fn scripts_see_no_credentials() {
        let mut headers = HeaderMap::new();
        for name in ["authorization", "cookie", "x-api-key", "user-agent"] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static("v"));
        }
        assert_eq!(visible_headers(&headers, &Caller::default()), [("user-agent".to_owned(), "v".to_owned())]);
    }
}
