//! What can go wrong with a request: a closed set of kinds, and the one place that turns a kind into an HTTP answer.

use serde_json::{Value, json};

/// The result of anything a request does.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Any underlying error, kept for the log and never shown to the client.
pub type Source = Box<dyn std::error::Error + Send + Sync>;

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $status:literal, $type:literal, $code:expr;)*) => {
        /// Why a request failed. Callers branch on the kind alone.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Kind { $($(#[$doc])* $kind,)* }

        impl Kind {
            /// The HTTP status that the client gets.
            pub fn status(self) -> u16 { match self { $(Kind::$kind => $status,)* } }
            /// OpenAI's `error.type`.
            pub fn type_(self) -> &'static str { match self { $(Kind::$kind => $type,)* } }
            /// OpenAI's `error.code`; also the label of the error metrics.
            pub fn code(self) -> Option<&'static str> { match self { $(Kind::$kind => $code,)* } }
        }
    };
}

kinds! {
    /// The body is not JSON, not UTF-8, nested too deeply, or not an object.
    MalformedJson = 400, "invalid_request_error", None;
    /// A key of the body stands twice.
    DuplicateKey = 400, "invalid_request_error", Some("duplicate_key");
    /// A value has the wrong JSON type.
    InvalidType = 400, "invalid_request_error", Some("invalid_type");
    /// A value is of the right type and not allowed.
    InvalidValue = 400, "invalid_request_error", Some("invalid_value");
    /// `model` or `messages` is absent.
    MissingParameter = 400, "invalid_request_error", Some("missing_required_parameter");
    /// A valid OpenAI parameter that agents do not offer.
    UnsupportedValue = 400, "invalid_request_error", Some("unsupported_value");
    /// The request line, Host or framing is not acceptable.
    BadRequest = 400, "invalid_request_error", Some("bad_request");
    /// No key was given.
    NoKey = 401, "invalid_request_error", None;
    /// The key is wrong, disabled, expired, or given twice.
    InvalidKey = 401, "invalid_request_error", Some("invalid_api_key");
    /// The user whom a trusted client names: the header or the token does not hold.
    InvalidIdentity = 401, "invalid_request_error", Some("invalid_user");
    /// The key may not use this model or endpoint.
    ModelForbidden = 403, "invalid_request_error", Some("model_not_found");
    /// A hook said no, or a management endpoint is not for this caller.
    Rejected = 403, "invalid_request_error", Some("request_rejected");
    /// No agent, alias or upstream answers to this model.
    ModelNotFound = 404, "invalid_request_error", Some("model_not_found");
    /// A path of moongate's own names something that is not there.
    NotFound = 404, "invalid_request_error", Some("not_found");
    /// The path is moongate's own and does not take this method.
    MethodNotAllowed = 405, "invalid_request_error", Some("method_not_allowed");
    /// The client took too long to send its body.
    RequestTimeout = 408, "invalid_request_error", Some("request_timeout");
    /// The body is over `server.limits.max_body_bytes`.
    TooLarge = 413, "invalid_request_error", Some("request_too_large");
    /// An agent was asked with something that is not JSON.
    UnsupportedContentType = 415, "invalid_request_error", Some("unsupported_content_type");
    /// The upstream refused the request as the client wrote it (its own 4xx, its own words).
    UpstreamRejected = 400, "invalid_request_error", None;
    /// The caller's requests per minute are used up, or too many wrong keys came from its address.
    RateLimited = 429, "requests", Some("rate_limit_exceeded");
    /// The caller's tokens per minute are used up.
    TokensLimited = 429, "tokens", Some("rate_limit_exceeded");
    /// The caller has as many requests under way as it may.
    ConcurrencyLimited = 429, "requests", Some("concurrency_limit_exceeded");
    /// The caller's budget for the day is used up.
    QuotaExceeded = 429, "insufficient_quota", Some("insufficient_quota");
    /// The upstream is limiting us.
    UpstreamRateLimited = 429, "requests", Some("rate_limit_exceeded");
    /// All places at the upstream are taken (`max_concurrent`), and no more may wait for one, or not for longer.
    UpstreamBusy = 429, "requests", Some("concurrency_limit_exceeded");
    /// The upstream's answer was an error, or not an answer.
    UpstreamError = 502, "server_error", Some("upstream_error");
    /// No connection to the upstream.
    UpstreamUnreachable = 502, "server_error", Some("upstream_unreachable");
    /// The upstream did not accept our credentials.
    UpstreamAuth = 502, "server_error", Some("upstream_auth");
    /// The upstream ended a run's stream without a word.
    UpstreamEmpty = 502, "server_error", Some("upstream_empty_response");
    /// The upstream was silent for longer than its timeout.
    UpstreamTimeout = 504, "server_error", Some("upstream_timeout");
    /// The agent cannot run now: something that it needs is down.
    AgentUnavailable = 503, "server_error", Some("agent_unavailable");
    /// The conversations cannot be read or written: Redis is away, and `sessions.fail` is `closed`.
    SessionsAway = 503, "server_error", Some("session_store_unavailable");
    /// The run reached a limit whose `on_limit` is `error`.
    LimitExceeded = 500, "server_error", Some("max_turns_exceeded");
    /// The run took longer than its `timeout`.
    RunTimeout = 504, "server_error", Some("run_timeout");
    /// The code of an agent failed, or the worker that ran it ended.
    AgentError = 500, "server_error", Some("agent_error");
    /// A hook raised an error or returned a wrong shape.
    HookError = 500, "server_error", Some("hook_error");
    /// A hook used up its CPU budget.
    HookTimeout = 500, "server_error", Some("hook_timeout");
    /// A hook ran into its memory cap.
    HookMemory = 500, "server_error", Some("hook_memory");
    /// The gateway is stopping.
    ShuttingDown = 503, "server_error", Some("shutting_down");
    /// The configuration on disk cannot be served; the old one still is.
    ReloadFailed = 422, "invalid_request_error", Some("invalid_config");
    /// A bug of the gateway's.
    Internal = 500, "server_error", Some("internal_error");
    /// The client left; nobody reads this answer, the log says 499.
    ClientGone = 499, "server_error", Some("client_cancelled");
}

/// A failure with what the client may read of it, and what only the log may.
#[derive(Debug)]
pub struct Error {
    /// What kind of failure this is.
    pub kind: Kind,
    /// The sentence that the client reads.
    pub message: String,
    /// The parameter of the request at fault.
    pub param: Option<String>,
    /// Overrides the kind's status: `run:abort(status, ...)` and the upstream's own 4xx.
    pub status: Option<u16>,
    /// The upstream's `retry-after`, passed on.
    pub retry_after: Option<String>,
    /// `Some(false)` tells SDKs not to repeat the request: tools ran already.
    pub should_retry: Option<bool>,
    /// The cause, for the log.
    pub source: Option<Source>,
}

impl Error {
    /// A failure of `kind` that tells the client `message`.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Error { kind, message: message.into(), param: None, status: None, retry_after: None, should_retry: None, source: None }
    }

    /// Names the parameter at fault.
    pub fn param(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// Keeps the cause for the log.
    pub fn source(mut self, source: impl Into<Source>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Answers with this status in place of the kind's.
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// The HTTP status that the client gets.
    pub fn http_status(&self) -> u16 {
        self.status.unwrap_or_else(|| self.kind.status())
    }

    /// The body in OpenAI's form: `message`, `type`, `param`, `code`, all four always there.
    pub fn body(&self) -> Value {
        json!({ "error": {
            "message": self.message, "type": self.kind.type_(), "param": self.param, "code": self.kind.code(),
        }})
    }

    /// The message followed by each cause, for one line of the log.
    pub fn chain(&self) -> String {
        let mut text = self.message.clone();
        let mut cause = self.source.as_deref().map(|e| e as &dyn std::error::Error);
        while let Some(e) = cause {
            text.push_str(": ");
            text.push_str(&e.to_string());
            cause = e.source();
        }
        text
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|e| e as _)
    }
}
