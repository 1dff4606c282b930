//! Who is asking, and what they may use.

mod identity;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use globset::{Glob, GlobSet, GlobSetBuilder};
use http::{HeaderMap, HeaderName};
use ipnet::IpNet;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use self::identity::Identity;
use crate::config::document::{Anonymous as Rights, Auth, Client, Expiry, Limits, means};
use crate::config::{BackgroundTasks, ClientTools, Progress};
use crate::error::{Error, Kind, Result};
use crate::limits::{Claim, Subject};

/// The keys of a snapshot, hashed.
#[derive(Debug, Default)]
pub struct Access {
    keys: Vec<Entry>,
    anonymous: Caller,
    /// Where wrong keys do not count.
    exempt: Vec<IpNet>,
}

#[derive(Debug)]
struct Entry {
    hash: [u8; 32],
    disabled: bool,
    expires: Option<Expiry>,
    caller: Caller,
}

/// Who is asking: a key, or anybody while there are none; and the user behind it, where the key is trusted to say so.
#[derive(Debug, Clone, Default)]
pub struct Caller {
    grant: Option<Arc<Grant>>,
    user: Option<Arc<str>>,
}

#[derive(Debug, Default)]
struct Grant {
    id: Option<String>,
    models: Option<GlobSet>,
    admin: bool,
    /// Lists of key ids do not hold.
    is_operator: bool,
    habits: Habits,
    limits: Arc<Limits>,
    user_limits: Arc<Limits>,
    /// Where its client writes whom it asks for; none for clients that are not trusted with that.
    identity: Option<Identity>,
}

/// The header with the conversation, where a key does not say otherwise.
const CHAT_HEADER: &str = "x-openwebui-chat-id";

/// What a key says of the client that uses it.
#[derive(Debug, Default)]
struct Habits {
    client: Option<Client>,
    progress: Option<Progress>,
    client_tools: Option<ClientTools>,
    background_tasks: Option<BackgroundTasks>,
}

impl Entry {
    fn is_valid(&self, now: SystemTime) -> bool {
        !self.disabled && self.expires.is_none_or(|expires| !expires.is_over(now))
    }
}

impl Access {
    /// Reads the keys. `Err` names the key of the document at fault.
    pub fn build(auth: &Auth) -> Result<Access, (String, String)> {
        let mut keys = Vec::new();
        for (i, key) in auth.keys.iter().enumerate() {
            let hash = match (&key.key, &key.key_sha256) {
                (Some(plain), _) => Some(sha256(plain.expose())),
                (None, Some(hash)) => hex(hash),
                (None, None) => None,
            };
            let hash =
                hash.ok_or_else(|| (format!("auth.keys[{i}]"), "needs a `key`, or a `key_sha256` of 64 hexadecimal digits".to_owned()))?;
            let caller = grant(Some(key.id.clone()), &key.rights).map_err(|(name, e)| (format!("auth.keys[{i}].{name}"), e))?;
            keys.push(Entry { hash, disabled: key.disabled, expires: key.expires, caller });
        }
        let anonymous = match &auth.anonymous {
            Some(rights) => grant(None, rights).map_err(|(name, e)| (format!("auth.anonymous.{name}"), e))?,
            None => Caller::default(),
        };
        let exempt = auth.failed_attempts.exempt.iter().filter_map(|network| network.parse().ok()).collect();
        Ok(Access { keys, anonymous, exempt })
    }

    /// Whether callers need a key.
    pub fn has_keys(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Whether wrong keys from this address are not counted.
    pub fn is_exempt(&self, address: IpAddr) -> bool {
        self.exempt.iter().any(|network| network.contains(&address))
    }

    /// Finds the caller by `Authorization: Bearer`, or by `x-api-key`, and its user. 401 without a key, or with one that does not count,
    /// or with a user whom the key is trusted to name and whose name does not hold.
    pub fn check(&self, headers: &HeaderMap) -> Result<Caller> {
        if self.keys.is_empty() {
            return self.anonymous.clone().with_user(headers);
        }
        let hash = sha256(presented(headers)?);
        // All keys are compared, so that the time tells nothing of which one was near.
        let mut found = None;
        for entry in &self.keys {
            if bool::from(entry.hash.ct_eq(&hash)) {
                found = Some(entry);
            }
        }
        match found {
            Some(entry) if entry.is_valid(SystemTime::now()) => entry.caller.clone().with_user(headers),
            _ => Err(invalid()),
        }
    }
}

impl Caller {
    /// The operator, whose scripts and tests may use every model, also one that is kept for some keys.
    pub fn operator() -> Caller {
        Caller::of(Grant { is_operator: true, ..Grant::default() })
    }

    fn of(grant: Grant) -> Caller {
        Caller { grant: Some(Arc::new(grant)), user: None }
    }

    fn with_user(self, headers: &HeaderMap) -> Result<Caller> {
        let Some(identity) = self.identity() else { return Ok(self) };
        let user = identity.user(headers, SystemTime::now())?.map(Arc::from);
        Ok(Caller { user, ..self })
    }

    fn identity(&self) -> Option<&Identity> {
        self.grant.as_ref()?.identity.as_ref()
    }

    /// The user whom it asks for, as a client says that its key trusts.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// The header, in lower case, in which its client names the conversation.
    pub fn chat_header(&self) -> &str {
        self.identity().map_or(CHAT_HEADER, |identity| identity.chat.as_str())
    }

    /// Whether this header vouches for its user, so that neither upstreams nor scripts may have it.
    pub fn is_token(&self, name: &HeaderName) -> bool {
        self.identity().is_some_and(|identity| identity.token == *name)
    }

    /// The key's id; `None` for anybody.
    pub fn key_id(&self) -> Option<&str> {
        self.grant.as_ref()?.id.as_deref()
    }

    /// What separates this caller's state from other callers'.
    pub fn scope(&self) -> &str {
        self.key_id().unwrap_or_default()
    }

    /// The limits that hold for its requests, its key's first.
    pub fn claims(&self) -> Vec<Claim> {
        let Some(grant) = &self.grant else { return Vec::new() };
        let mut claims = Vec::new();
        if *grant.limits != Limits::default() {
            claims.push(Claim { subject: Subject::Key(grant.id.clone()), limits: grant.limits.clone() });
        }
        if let Some(user) = self.user().filter(|_| *grant.user_limits != Limits::default()) {
            claims.push(Claim { subject: Subject::User(grant.id.clone(), user.to_owned()), limits: grant.user_limits.clone() });
        }
        claims
    }

    /// Whether the caller may use the management endpoints by its key.
    pub fn is_admin(&self) -> bool {
        self.grant.as_ref().is_some_and(|grant| grant.admin)
    }

    /// Whether its key says that this is Open WebUI.
    pub fn is_openwebui(&self) -> bool {
        self.habits().is_some_and(|habits| habits.client == Some(Client::Openwebui))
    }

    /// How it wants to see tools work; `None` where its key does not say.
    pub fn progress(&self) -> Option<Progress> {
        self.habits()?.progress
    }

    /// What becomes of the tools that it brings. Open WebUI brings dozens of its own, which would drown an agent's.
    pub fn client_tools(&self) -> ClientTools {
        let default = if self.is_openwebui() { ClientTools::Ignore } else { ClientTools::Offer };
        self.habits().and_then(|habits| habits.client_tools).unwrap_or(default)
    }

    /// What answers its background tasks.
    pub fn background_tasks(&self) -> BackgroundTasks {
        let default = if self.is_openwebui() { BackgroundTasks::Plain } else { BackgroundTasks::Agent };
        self.habits().and_then(|habits| habits.background_tasks).unwrap_or(default)
    }

    fn habits(&self) -> Option<&Habits> {
        Some(&self.grant.as_ref()?.habits)
    }

    /// Whether the caller may use everything that an upstream offers.
    pub fn is_unrestricted(&self) -> bool {
        self.grant.as_ref().is_none_or(|grant| grant.models.is_none())
    }

    /// Whether the caller may use `model`, whose own list of key ids is `allow`.
    pub fn may_use(&self, model: &str, allow: Option<&[String]>) -> bool {
        let granted = self.grant.as_ref().and_then(|grant| grant.models.as_ref()).is_none_or(|models| models.is_match(model));
        let is_operator = self.grant.as_ref().is_some_and(|grant| grant.is_operator);
        let allowed = |ids: &[String]| is_operator || self.key_id().is_some_and(|id| ids.iter().any(|allowed| means(allowed, id)));
        granted && allow.is_none_or(allowed)
    }

    /// 403 when the caller may not use `model`.
    pub fn require(&self, model: &str, allow: Option<&[String]>) -> Result<()> {
        if self.may_use(model, allow) {
            return Ok(());
        }
        Err(Error::new(Kind::ModelForbidden, format!("This key does not have access to model '{model}'.")).param("model"))
    }
}

/// `Err` names the key of the rights at fault.
fn grant(id: Option<String>, rights: &Rights) -> Result<Caller, (&'static str, String)> {
    let models = models(rights).map_err(|e| ("models", e))?;
    let habits = Habits {
        client: rights.client,
        progress: rights.progress,
        client_tools: rights.client_tools,
        background_tasks: rights.background_tasks,
    };
    let trusted = rights.client == Some(Client::Openwebui);
    let identity = trusted.then(|| Identity::build(&rights.identity.clone().unwrap_or_default())).transpose()?;
    let (limits, user_limits) = (Arc::new(rights.limits.clone()), Arc::new(rights.user_limits.clone()));
    Ok(Caller::of(Grant { id, models, admin: rights.admin, is_operator: false, habits, limits, user_limits, identity }))
}

/// The models that may be used; `None` is all.
fn models(rights: &Rights) -> Result<Option<GlobSet>, String> {
    match &rights.models {
        Some(patterns) if !patterns.iter().any(|pattern| pattern == "*") => {
            let mut set = GlobSetBuilder::new();
            for pattern in patterns {
                set.add(Glob::new(pattern).map_err(|e| e.to_string())?);
            }
            Ok(Some(set.build().map_err(|e| e.to_string())?))
        }
        _ => Ok(None),
    }
}

/// The key that the request carries.
fn presented(headers: &HeaderMap) -> Result<&str> {
    let mut authorizations = headers.get_all(http::header::AUTHORIZATION).iter();
    match (authorizations.next(), authorizations.next()) {
        (Some(value), None) => {
            let text = value.to_str().map_err(|_| invalid())?;
            let (scheme, key) = text.split_once(' ').ok_or_else(invalid)?;
            if scheme.eq_ignore_ascii_case("bearer") { Ok(key.trim()) } else { Err(invalid()) }
        }
        (Some(_), Some(_)) => Err(invalid()),
        (None, _) => match headers.get("x-api-key") {
            Some(value) => value.to_str().map_err(|_| invalid()),
            None => Err(Error::new(Kind::NoKey, "You did not provide an API key: send it as 'Authorization: Bearer KEY'.")),
        },
    }
}

fn invalid() -> Error {
    Error::new(Kind::InvalidKey, "Incorrect API key provided.")
}

fn sha256(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

fn hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * i..2 * i + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::document::Key;

    fn key(id: &str, key: &str, models: &[&str]) -> Key {
        let models = Some(models.iter().map(|model| (*model).to_owned()).collect());
        Key {
            id: id.into(),
            key: Some(key.into()),
            key_sha256: None,
            disabled: false,
            expires: None,
            rights: Rights { models, ..Rights::default() },
        }
    }

    fn check(access: &Access, headers: &[(&'static str, &str)]) -> Result<Option<String>, Kind> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        access.check(&map).map(|caller| caller.key_id().map(str::to_owned)).map_err(|error| error.kind)
    }

    #[test]
    fn a_key_is_known_by_either_header() {
        let hashed = Key {
            key: None,
            key_sha256: Some("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad".into()),
            ..key("h", "", &["*"])
        };
        let disabled = Key { disabled: true, ..key("off", "no", &["*"]) };
        let auth = Auth { keys: vec![key("a", "secret", &["*"]), hashed, disabled], ..Auth::default() };
        let access = Access::build(&auth).unwrap();
        let id = |id: &str| Ok(Some(id.to_owned()));
        assert_eq!(check(&access, &[("authorization", "bearer secret")]), id("a"));
        assert_eq!(check(&access, &[("x-api-key", "abc")]), id("h"));
        assert_eq!(check(&access, &[]), Err(Kind::NoKey));
        for bad in ["Bearer wrong", "Basic secret", "Bearer no", "secret"] {
            assert_eq!(check(&access, &[("authorization", bad)]), Err(Kind::InvalidKey), "{bad}");
        }
        let twice = [("authorization", "Bearer secret"), ("authorization", "Bearer secret")];
        assert_eq!(check(&access, &twice), Err(Kind::InvalidKey));
    }

    #[test]
    fn a_key_ends_with_its_time() {
        let until = |expires: &str| Key { expires: Some(serde_json::from_value(expires.into()).unwrap()), ..key("a", "k", &["*"]) };
        let known = |expires: &str| {
            let access = Access::build(&Auth { keys: vec![until(expires)], ..Auth::default() }).unwrap();
            check(&access, &[("authorization", "Bearer k")]).is_ok()
        };
        assert!(known("2999-01-01") && !known("2001-01-01"));
    }

    #[test]
    fn both_lists_must_agree() {
        let access = Access::build(&Auth { keys: vec![key("a", "k", &["team/*", "gpt"])], ..Auth::default() }).unwrap();
        let caller = &access.keys[0].caller;
        assert!(caller.may_use("team/writer", None) && caller.may_use("gpt", None));
        assert!(!caller.may_use("other", None) && !caller.is_unrestricted());
        assert!(caller.may_use("gpt", Some(&["a".into()])));
        assert!(!caller.may_use("gpt", Some(&["b".into()])));
        assert!(caller.may_use("gpt", Some(&["x".into(), "[a-c]".into()])) && !caller.may_use("gpt", Some(&["b*".into()])));
        assert!(Caller::default().may_use("anything", None) && !Caller::default().may_use("x", Some(&["a".into()])));
    }

    #[test]
    fn the_operator_may_use_what_is_kept_for_some_keys() {
        let some = ["a".to_owned()];
        assert!(Caller::operator().may_use("m", Some(&some)) && Caller::operator().may_use("m", None));
        assert!(!Caller::default().may_use("m", Some(&some)) && !Caller::operator().is_admin());
    }
}
