//! Which user a trusted client says it asks for: by headers, or by a signed token where a secret for it is set.
//!
//! Open WebUI signs with HS256 alone, so that is the one algorithm here: a crate for all of them would bring along RSA and its advisories.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderName};
use serde::Deserialize;
use sha2::Sha256;

use crate::config::document;
use crate::error::{Error, Kind, Result};

/// How far the client's clock may be off.
const LEEWAY: Duration = Duration::from_secs(60);

/// The longest name of a user, in bytes.
const MAX_USER: usize = 256;

/// Who signs Open WebUI's tokens.
const ISSUER: &str = "open-webui";

/// Where a client writes whom it asks for.
#[derive(Debug)]
pub(super) struct Identity {
    user: HeaderName,
    pub(super) chat: HeaderName,
    pub(super) token: HeaderName,
    /// What tokens are signed with. Where it is set, only a token is believed.
    secret: Option<Hmac<Sha256>>,
}

#[derive(Deserialize)]
struct Head {
    alg: String,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    iss: String,
    exp: f64,
}

impl Identity {
    /// Reads the names. `Err` names the key of the rights at fault.
    pub(super) fn build(settings: &document::Identity) -> Result<Identity, (&'static str, String)> {
        let name = |key: &'static str, name: &str| HeaderName::try_from(name).map_err(|_| (key, "is not the name of a header".to_owned()));
        let secret = settings.jwt_secret.as_ref().map(|secret| Hmac::new_from_slice(secret.expose().as_bytes()));
        Ok(Identity {
            user: name("identity.user_header", &settings.user_header)?,
            chat: name("identity.chat_header", &settings.chat_header)?,
            token: name("identity.jwt_header", &settings.jwt_header)?,
            secret: secret.transpose().map_err(|e| ("identity.jwt_secret", e.to_string()))?,
        })
    }

    /// The user; `None` where the client names none. A token that does not hold is refused, whoever sent it.
    pub(super) fn user(&self, headers: &HeaderMap, now: SystemTime) -> Result<Option<String>> {
        let Some(secret) = &self.secret else {
            let Some(value) = headers.get(&self.user) else { return Ok(None) };
            let text = percent_encoding::percent_decode(value.as_bytes()).decode_utf8();
            return plain(&text.map_err(|_| refused(&self.user))?, &self.user).map(Some);
        };
        let mut tokens = headers.get_all(&self.token).iter();
        match (tokens.next(), tokens.next()) {
            (None, _) => Ok(None),
            (Some(token), None) => {
                let user = token.to_str().ok().and_then(|token| verify(token, secret, now)).ok_or_else(|| refused(&self.token))?;
                plain(&user, &self.token).map(Some)
            }
            (Some(_), Some(_)) => Err(refused(&self.token)),
        }
    }
}

/// Whom a token names; `None` where it is not signed with this secret, is out of date, or is not of Open WebUI's.
fn verify(token: &str, secret: &Hmac<Sha256>, now: SystemTime) -> Option<String> {
    let (signed, signature) = token.rsplit_once('.')?;
    let (head, claims) = signed.split_once('.')?;
    let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).ok()?;
    secret.clone().chain_update(signed).verify_slice(&signature).ok()?;
    let head: Head = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(head).ok()?).ok()?;
    let claims: Claims = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
    let oldest = now.duration_since(UNIX_EPOCH).ok()?.checked_sub(LEEWAY)?.as_secs_f64();
    (head.alg == "HS256" && claims.iss == ISSUER && claims.exp > oldest).then_some(claims.sub)
}

/// A user's name as logs and limits may have it.
fn plain(user: &str, header: &HeaderName) -> Result<String> {
    let user = user.trim();
    let good = !user.is_empty() && user.len() <= MAX_USER && !user.chars().any(char::is_control);
    if good { Ok(user.to_owned()) } else { Err(refused(header)) }
}

fn refused(header: &HeaderName) -> Error {
    let message = format!("The header '{header}' does not hold: the user that it names is not believed.");
    Error::new(Kind::InvalidIdentity, message).param(header.as_str())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use serde_json::{Value, json};

    use super::*;

    const NOW: u64 = 1_700_000_000;

    fn token(head: &Value, claims: &Value, secret: &str) -> String {
        let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(head), part(claims));
        let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap().chain_update(&signed);
        format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
    }

    fn user(secret: Option<&str>, headers: &[(&'static str, String)]) -> Result<Option<String>, Kind> {
        let settings = document::Identity { jwt_secret: secret.map(Into::into), ..document::Identity::default() };
        let headers = headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::try_from(value).unwrap()));
        let now = UNIX_EPOCH + Duration::from_secs(NOW);
        Identity::build(&settings).unwrap().user(&headers.collect(), now).map_err(|error| error.kind)
    }

    #[test]
    fn plain_headers_are_believed_where_no_secret_is_set() {
        let header = |value: &str| vec![("x-openwebui-user-id", value.to_owned())];
        assert_eq!(user(None, &header("Ada%20L%C3%B6we")), Ok(Some("Ada Löwe".into())));
        assert_eq!(user(None, &[]), Ok(None));
        assert_eq!(user(Some("s"), &header("ada")), Ok(None));
        for bad in ["", "%0a", "%ff", &"x".repeat(257)] {
            assert_eq!(user(None, &header(bad)), Err(Kind::InvalidIdentity), "{bad}");
        }
    }

    #[test]
    fn a_token_is_believed_that_is_signed_and_of_now() {
        let head = json!({ "alg": "HS256", "typ": "JWT" });
        let claims = |exp: u64, iss: &str| json!({ "sub": "ada", "iss": iss, "iat": exp - 300, "exp": exp, "email": "a@example.org" });
        let good = claims(NOW + 10, ISSUER);
        let asked = |token: String| user(Some("secret"), &[("x-openwebui-user-jwt", token)]);
        assert_eq!(asked(token(&head, &good, "secret")), Ok(Some("ada".into())));
        assert_eq!(asked(token(&head, &claims(NOW - 59, ISSUER), "secret")), Ok(Some("ada".into())));
        let unsigned = token(&head, &good, "secret");
        for bad in [
            token(&head, &good, "other"),
            token(&head, &claims(NOW - 61, ISSUER), "secret"),
            token(&head, &claims(NOW + 10, "somebody"), "secret"),
            token(&json!({ "alg": "none" }), &good, "secret"),
            token(&head, &json!({ "sub": "ada", "iss": ISSUER }), "secret"),
            token(&head, &json!({ "sub": "", "iss": ISSUER, "exp": NOW + 10 }), "secret"),
            unsigned[..unsigned.len() - 3].to_owned(),
            "x".into(),
            "..".into(),
        ] {
            assert_eq!(asked(bad.clone()), Err(Kind::InvalidIdentity), "{bad}");
        }
        let one = token(&head, &good, "secret");
        let twice = [("x-openwebui-user-jwt", one.clone()), ("x-openwebui-user-jwt", one)];
        let headers: HeaderMap = {
            let mut map = HeaderMap::new();
            twice.iter().for_each(|(name, value)| _ = map.append(*name, HeaderValue::try_from(value).unwrap()));
            map
        };
        let settings = document::Identity { jwt_secret: Some("secret".into()), ..document::Identity::default() };
        let now = UNIX_EPOCH + Duration::from_secs(NOW);
        assert!(Identity::build(&settings).unwrap().user(&headers, now).is_err());
    }

    #[test]
    fn names_that_are_no_headers_are_refused() {
        let settings = document::Identity { chat_header: "two words".into(), ..document::Identity::default() };
        assert_eq!(Identity::build(&settings).unwrap_err().0, "identity.chat_header");
    }
}
