//! `upstreams`, `default_upstream`, `models` and `prices`.

use super::{Found, header_value, web_address};
use crate::config::document::{Upstream, UpstreamKind};
use crate::config::fault::Origin;
use crate::config::load::Loaded;

pub(super) fn check(loaded: &Loaded, found: &mut Found) {
    let (document, origin) = (&loaded.document, &loaded.origin);
    found.need(!document.upstreams.is_empty(), origin, "upstreams", "needs at least one upstream");
    let names = document.upstreams.keys().map(String::as_str);
    if let Some(name) = &document.default_upstream {
        found.reference("upstream", name, names.clone(), origin, "default_upstream");
    }
    for (name, upstream) in &document.upstreams {
        let origin = origin.part(&format!("upstreams.{name}"));
        let message = "must have a name without `/`, which parts an upstream from its model";
        found.need(!name.is_empty() && !name.contains('/'), &origin, "", message);
        check_upstream(upstream, &origin, found);
    }
    for (name, alias) in &document.models {
        let origin = origin.part(&format!("models.{name}"));
        if let Some(upstream) = &alias.upstream {
            found.reference("upstream", upstream, names.clone(), &origin, "upstream");
        }
        found.need(!name.is_empty(), &origin, "", "needs a name");
        let agent = loaded.agents.iter().any(|agent| agent.name == *name);
        found.need(!agent, &origin, "", "an agent has this name, too");
        let taken = name.split_once('/').is_some_and(|(prefix, _)| document.upstreams.contains_key(prefix));
        found.need(!taken, &origin, "", "looks like a model of the upstream before its `/`");
        for (i, fallback) in alias.fallback.iter().enumerate() {
            let key = format!("fallback[{i}]");
            match fallback.split_once('/') {
                Some((upstream, model)) if !model.is_empty() => {
                    found.reference("upstream", upstream, names.clone(), &origin, &key);
                }
                _ => found.faults.push(origin.fault(&key, "must be `upstream/model`")),
            }
        }
        found.hooks(&alias.hooks, &origin, "hooks");
        found.allow(alias.allow.as_ref(), loaded, &origin, "allow");
    }
    for (model, price) in &document.prices {
        for (key, price) in [("input", price.input), ("cached_input", price.cached_input.unwrap_or(0.0)), ("output", price.output)] {
            found.need(price >= 0.0 && price.is_finite(), origin, &format!("prices.{model}.{key}"), "must not be negative");
        }
    }
}

fn check_upstream(upstream: &Upstream, origin: &Origin, found: &mut Found) {
    match (upstream.kind, &upstream.base_url) {
        (UpstreamKind::Demo, None) => {}
        (UpstreamKind::Demo, Some(_)) => found.faults.push(origin.fault("base_url", "is not for `kind: demo`, which is built in")),
        (UpstreamKind::Openai, None) => found.faults.push(origin.fault("base_url", "is missing")),
        (UpstreamKind::Openai, Some(base_url)) => match web_address(base_url) {
            Err(message) => found.faults.push(origin.fault("base_url", message)),
            Ok(url) => {
                let bare = url.query().is_none() && url.fragment().is_none();
                found.need(bare, origin, "base_url", "must end with its path: paths are added to it");
                let anonymous = url.username().is_empty() && url.password().is_none();
                found.need(anonymous, origin, "base_url", "must not hold a password; `api_key` does");
            }
        },
    }
    let key = upstream.api_key.as_ref().is_none_or(|key| header_value(key.expose()));
    found.need(key, origin, "api_key", "cannot be sent in a header: it has a blank or line break around it, or a control character");
    let timeouts = [
        ("connect_timeout", upstream.connect_timeout),
        ("first_byte_timeout", upstream.first_byte_timeout),
        ("idle_timeout", upstream.idle_timeout),
        ("queue.timeout", upstream.queue.timeout),
        ("health.interval", upstream.health.interval),
    ];
    for (key, timeout) in timeouts {
        found.need(!timeout.is_zero(), origin, key, "must be longer than nothing");
    }
    for (model, options) in &upstream.preload {
        let key = format!("preload.{model}");
        found.need(upstream.kind != UpstreamKind::Demo, origin, &key, "is not for `kind: demo`, which has nothing to load");
        let sizes = [
            ("context_length", options.context_length),
            ("eval_batch_size", options.eval_batch_size),
            ("num_experts", options.num_experts),
        ];
        for (name, size) in sizes {
            found.need(size != Some(0), origin, &format!("{key}.{name}"), "must be at least 1");
        }
    }
    found.need(upstream.max_concurrent != Some(0), origin, "max_concurrent", "must be at least 1");
    found.need(upstream.health.path.starts_with('/'), origin, "health.path", "must begin with `/`");
}

#[cfg(test)]
mod tests {
    use super::super::tests::{finds, found};

    #[track_caller]
    fn upstream(yaml: &str, want: &str) {
        let found = found(&format!("upstreams: {{ up: {yaml} }}"));
        assert!(found.len() == 1 && found[0].starts_with(want), "{yaml}: {found:?}");
    }

    #[test]
    fn an_upstream_has_a_usable_address() {
        assert_eq!(found(""), ["upstreams: needs at least one upstream"]);
        upstream("{}", "upstreams.up.base_url: is missing");
        upstream("{ base_url: localhost }", "upstreams.up.base_url: must be an address");
        upstream("{ base_url: 'ftp://h/v1' }", "upstreams.up.base_url: must begin with `http://`");
        upstream("{ base_url: 'http://h/v1?a=b' }", "upstreams.up.base_url: must end with its path");
        upstream("{ base_url: 'http://u:p@h/v1' }", "upstreams.up.base_url: must not hold a password");
        upstream("{ kind: demo, base_url: 'http://h/v1' }", "upstreams.up.base_url: is not for `kind: demo`");
        upstream("{ kind: demo, api_key: \"x\\n\" }", "upstreams.up.api_key: cannot be sent");
        upstream("{ kind: demo, idle_timeout: 0s }", "upstreams.up.idle_timeout: must be longer");
        upstream("{ kind: demo, preload: { m: {} } }", "upstreams.up.preload.m: is not for `kind: demo`");
        upstream(
            "{ base_url: 'http://h/v1', preload: { m: { num_experts: 0 } } }",
            "upstreams.up.preload.m.num_experts: must be at least 1",
        );
        assert_eq!(found("upstreams: { up: { kind: demo } }"), [""; 0]);
        assert_eq!(found("upstreams: { 'a/b': { kind: demo } }").len(), 1);
    }

    #[test]
    fn an_alias_is_not_mistaken_for_something_else() {
        finds("models: { m: { model: x, upstream: ups } }", "models.m.upstream: there is no upstream `ups`; did you mean `up`?");
        finds("models: { up/m: { model: x } }", "models.up/m: looks like a model of the upstream");
        finds("models: { a: { model: x } }\nagents: [{ name: a, model: m }]", "models.a: an agent has this name");
        finds("prices: { m: { input: -1, output: 0 } }", "prices.m.input: must not be negative");
    }
}
