//! `redis` and what is kept in it, and the Python workers.

use super::Found;
use crate::config::document::{Secret, Store};
use crate::config::load::Loaded;

/// What a worker needs before it has done anything, in bytes.
const LEAST_MEMORY: u64 = 128 << 20;

pub(super) fn check(loaded: &Loaded, found: &mut Found) {
    let (document, origin) = (&loaded.document, &loaded.origin);
    let urls = [("redis.url", document.redis.as_ref().map(|redis| &redis.url)), ("sessions.url", document.sessions.url.as_ref())];
    for (key, url) in urls {
        let good = url.is_none_or(is_redis);
        found.need(good, origin, key, "must be an address such as `redis://127.0.0.1:6379/0` or `redis+sentinel://host:26379/master/0`");
    }
    let stores = [
        ("sessions.store", document.sessions.store, document.sessions.url.is_some()),
        ("limits.store", document.limits.store, false),
        ("scripts.store", document.scripts.store, false),
        ("runs.store", document.runs.store, false),
    ];
    for (key, store, own) in stores {
        let reachable = store != Some(Store::Redis) || own || document.redis.is_some();
        found.need(reachable, origin, key, "needs the section `redis` with an `url`");
    }
    let is_moment = document.redis.as_ref().is_none_or(|redis| !redis.timeout.is_zero());
    found.need(is_moment, origin, "redis.timeout", "must be longer than nothing");
    let sessions = &document.sessions;
    found.need(sessions.max_turns > 0, origin, "sessions.max_turns", "must be at least 1");
    for (i, name) in sessions.headers.iter().enumerate() {
        let good = http::HeaderName::try_from(name.as_str()).is_ok();
        found.need(good, origin, &format!("sessions.headers[{i}]"), "must be the name of a header");
    }
    if let Some(python) = &document.python {
        found.need(python.workers != Some(0), origin, "python.workers", "must be at least 1");
        found.need(
            python.memory_limit >= LEAST_MEMORY,
            origin,
            "python.memory_limit",
            "must be at least 128MiB: Python and the SDK take that much",
        );
        let wrong = python.env.iter().position(|name| name.is_empty() || name.contains(['=', '\0']));
        if let Some(i) = wrong {
            found.need(false, origin, &format!("python.env[{i}]"), "must be the name of a variable");
        }
    }
}

/// By its scheme alone: the rest is read where it is used.
fn is_redis(url: &Secret) -> bool {
    let schemes = ["redis", "rediss", "redis+sentinel", "rediss+sentinel"];
    url.expose().split_once("://").is_some_and(|(scheme, rest)| schemes.contains(&scheme) && !rest.is_empty())
}

#[cfg(test)]
mod tests {
    use super::super::tests::both;

    #[test]
    fn a_store_can_be_reached() {
        let faults = |yaml: &str| both(&format!("upstreams: {{ d: {{ kind: demo }} }}\n{yaml}")).0;
        assert_eq!(faults("sessions: { store: redis }"), ["sessions.store: needs the section `redis` with an `url`"]);
        assert_eq!(faults("sessions: { store: redis, url: 'redis://h:1/0' }"), [""; 0]);
        assert_eq!(faults("limits: { store: redis }\nredis: { url: 'rediss://h' }"), [""; 0]);
        assert!(faults("redis: { url: 'http://h' }")[0].starts_with("redis.url: must be an address"));
        assert_eq!(faults("sessions: { max_turns: 0 }"), ["sessions.max_turns: must be at least 1"]);
        assert_eq!(faults("sessions: { headers: ['a b'] }"), ["sessions.headers[0]: must be the name of a header"]);
        assert_eq!(faults("python: { workers: 0 }"), ["python.workers: must be at least 1"]);
        assert!(faults("python: { memory_limit: 64MiB }")[0].starts_with("python.memory_limit: must be at least 128MiB"));
        assert_eq!(faults("python: { env: ['A=b'] }"), ["python.env[0]: must be the name of a variable"]);
    }
}
