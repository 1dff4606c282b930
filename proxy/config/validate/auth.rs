//! `auth`: keys that can be told apart.

use std::collections::HashSet;

use sha2::{Digest, Sha256};

use super::Found;
use crate::config::document::{Anonymous, Client, Limits};
use crate::config::fault::Origin;
use crate::config::load::Loaded;

pub(super) fn check(loaded: &Loaded, found: &mut Found) {
    let auth = &loaded.document.auth;
    let mut ids = HashSet::new();
    let mut secrets = HashSet::new();
    for (i, key) in auth.keys.iter().enumerate() {
        let origin = loaded.origin.part(&format!("auth.keys[{i}]"));
        found.need(!key.id.is_empty(), &origin, "id", "must not be empty");
        found.need(ids.insert(key.id.as_str()), &origin, "id", "belongs to another key, too");
        let (name, secret) = match (&key.key, &key.key_sha256) {
            (Some(key), None) => ("key", key.expose().to_owned()),
            (None, Some(sum)) => ("key_sha256", sum.to_lowercase()),
            _ => {
                found.faults.push(origin.fault("key", "needs either `key` or `key_sha256`, and not both"));
                continue;
            }
        };
        if name == "key" {
            let good = !secret.is_empty() && secret.chars().all(|c| c.is_ascii_graphic());
            found.need(good, &origin, name, "must be ASCII without blanks, as it comes in a header");
        } else {
            let good = secret.len() == 64 && secret.chars().all(|c| c.is_ascii_hexdigit());
            found.need(good, &origin, name, "must be 64 hexadecimal digits");
        }
        let hash = if name == "key" { sha256(&secret) } else { secret };
        found.need(secrets.insert(hash), &origin, name, "is the same as another key's");
        check_rights(&key.rights, &origin, found);
    }
    for (i, network) in auth.failed_attempts.exempt.iter().enumerate() {
        let key = format!("auth.failed_attempts.exempt[{i}]");
        found.need(network.parse::<ipnet::IpNet>().is_ok(), &loaded.origin, &key, "must be a network such as `10.0.0.0/8` or `::1/128`");
    }
    if let Some(anonymous) = &auth.anonymous {
        let origin = loaded.origin.part("auth.anonymous");
        check_rights(anonymous, &origin, found);
        if !auth.keys.is_empty() {
            found.warnings.push(origin.fault("", "has no effect while there are keys"));
        }
    }
}

/// In hexadecimal, as a `key_sha256` is written.
fn sha256(key: &str) -> String {
    Sha256::digest(key.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn check_rights(rights: &Anonymous, origin: &Origin, found: &mut Found) {
    let trusted = rights.identity.is_none() || rights.client == Some(Client::Openwebui);
    found.need(trusted, origin, "identity", "is believed only with `client: openwebui`");
    let short = rights.identity.as_ref().and_then(|identity| identity.jwt_secret.as_ref()).is_some_and(|secret| secret.expose().is_empty());
    found.need(!short, origin, "identity.jwt_secret", "must not be empty");
    check_limits(&rights.limits, origin, "limits", found);
    check_limits(&rights.user_limits, origin, "user_limits", found);
}

/// Limits of a key, its users or an agent.
pub(super) fn check_limits(limits: &Limits, origin: &Origin, section: &str, found: &mut Found) {
    let counts = [
        ("requests_per_minute", limits.requests_per_minute.map(u64::from)),
        ("tokens_per_minute", limits.tokens_per_minute),
        ("concurrent", limits.concurrent.map(u64::from)),
        ("tokens_per_day", limits.tokens_per_day),
    ];
    for (key, limit) in counts {
        found.need(limit != Some(0), origin, &format!("{section}.{key}"), "must be at least 1; `disabled: true` refuses a key");
    }
    let is_money = limits.cost_per_day.is_none_or(|cost| cost > 0.0 && cost.is_finite());
    found.need(is_money, origin, &format!("{section}.cost_per_day"), "must be above 0");
}

#[cfg(test)]
mod tests {
    use super::super::tests::{both, finds};

    #[test]
    fn a_key_has_one_secret_of_its_own() {
        let keys = |yaml: &str, want: &str| finds(&format!("auth: {{ keys: [{yaml}] }}"), &format!("auth.keys{want}"));
        keys("{ id: a }", "[0].key: needs either");
        keys("{ id: a, key: k, key_sha256: k }", "[0].key: needs either");
        keys("{ id: a, key_sha256: abc }", "[0].key_sha256: must be 64");
        keys("{ id: a, key: 'a b' }", "[0].key: must be ASCII");
        keys("{ id: a, key: k }, { id: a, key: l }", "[1].id: belongs to another");
        keys("{ id: a, key: k }, { id: b, key: k }", "[1].key: is the same");
        let sum = "BA7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        keys(&format!("{{ id: a, key: abc }}, {{ id: b, key_sha256: {sum} }}"), "[1].key_sha256: is the same");
        finds("auth: { failed_attempts: { exempt: [me] } }", "auth.failed_attempts.exempt[0]: must be a network");
        let (faults, _) = both("upstreams: { d: { kind: demo } }\nauth: { anonymous: { limits: { concurrent: 0 } } }");
        assert_eq!(faults.len(), 1, "{faults:?}");
        keys("{ id: a, key: k, limits: { cost_per_day: -1 } }", "[0].limits.cost_per_day: must be above 0");
        keys("{ id: a, key: k, user_limits: { tokens_per_day: 0 } }", "[0].user_limits.tokens_per_day: must be at least 1");
    }

    #[test]
    fn users_are_believed_from_open_webui_alone() {
        let keys =
            |yaml: &str, want: &str| finds(&format!("auth: {{ keys: [{{ id: a, key: k, {yaml} }}] }}"), &format!("auth.keys[0].{want}"));
        keys("identity: { user_header: x-user }", "identity: is believed only with");
        keys("client: openwebui, identity: { jwt_secret: '' }", "identity.jwt_secret: must not be empty");
    }

    #[test]
    fn rights_of_nobody_are_odd_beside_keys() {
        finds("auth: { keys: [{ id: a, key: k }], anonymous: { admin: true } }", "auth.anonymous: has no effect while");
    }
}
