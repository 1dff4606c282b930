//! Which web pages may call the gateway from a browser, and what the browser is told.

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use pingora::http::{RequestHeader, ResponseHeader};

use super::Answer;
use crate::config::document::Cors;

/// The page that asks may read the answer.
#[derive(Debug, Clone)]
pub struct Grant {
    origin: HeaderValue,
}

/// What `server.cors` says to this request: `None` for a request of no page, or of a page that may not read the answer.
/// While no origin is configured, CORS is left to the upstreams.
pub fn check(cors: &Cors, headers: &HeaderMap) -> Option<Grant> {
    let origin = headers.get(header::ORIGIN)?;
    let allowed = |allowed: &String| allowed == "*" || origin.as_bytes().eq_ignore_ascii_case(allowed.as_bytes());
    cors.allow_origins.iter().any(allowed).then(|| Grant { origin: origin.clone() })
}

/// The answer to a preflight that CORS is configured for; `None` when the request is something else.
pub fn preflight(cors: &Cors, request: &RequestHeader) -> Option<Answer> {
    let asked = request.headers.get("access-control-request-method");
    if request.method != Method::OPTIONS || asked.is_none() || cors.allow_origins.is_empty() {
        return None;
    }
    let mut answer = Answer::empty(StatusCode::NO_CONTENT);
    if check(cors, &request.headers).is_some() {
        answer =
            answer.header("access-control-allow-methods", "GET, POST, PUT, PATCH, DELETE, OPTIONS").header("access-control-max-age", "600");
        if let Some(names) = request.headers.get("access-control-request-headers") {
            answer.headers.push((header::ACCESS_CONTROL_ALLOW_HEADERS, names.clone()));
        }
    }
    Some(answer)
}

impl Grant {
    /// Tells the browser; what an upstream said about CORS is replaced.
    pub fn apply(&self, head: &mut ResponseHeader) -> pingora::Result<()> {
        head.insert_header(header::ACCESS_CONTROL_ALLOW_ORIGIN, self.origin.clone())?;
        head.insert_header(header::ACCESS_CONTROL_EXPOSE_HEADERS, "x-request-id, server-timing, retry-after")?;
        head.append_header(header::VARY, "Origin")?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(origins: &[&str], origin: Option<&'static str>) -> (bool, Option<usize>) {
        let cors = Cors { allow_origins: origins.iter().map(|origin| (*origin).to_owned()).collect() };
        let mut request = RequestHeader::build(Method::OPTIONS, b"/v1/models", None).unwrap();
        request.insert_header("access-control-request-method", "POST").unwrap();
        request.insert_header("access-control-request-headers", "authorization").unwrap();
        if let Some(origin) = origin {
            request.insert_header("origin", origin).unwrap();
        }
        (check(&cors, &request.headers).is_some(), preflight(&cors, &request).map(|answer| answer.headers.len()))
    }

    #[test]
    fn only_listed_pages_are_told_yes() {
        assert_eq!(ask(&["http://a"], Some("http://a")), (true, Some(3)));
        assert_eq!(ask(&["*"], Some("http://b")), (true, Some(3)));
        assert_eq!(ask(&["http://a"], Some("http://b")), (false, Some(0)));
        assert_eq!(ask(&["http://a"], None), (false, Some(0)));
        assert_eq!(ask(&[], Some("http://a")), (false, None));
    }
}
