//! Agents: what each kind needs, and what their names may be.

use super::{Found, auth, tools};
use crate::config::agent::AgentKind;
use crate::config::load::{AgentEntry, Loaded};

/// Fields of a model call that are the gateway's own.
const RESERVED: [&str; 6] = ["model", "messages", "stream", "stream_options", "tools", "functions"];

pub(super) fn check(loaded: &Loaded, found: &mut Found) {
    for agent in &loaded.agents {
        check_agent(agent, loaded, found);
        tools::check(agent, loaded, found);
    }
}

fn check_agent(agent: &AgentEntry, loaded: &Loaded, found: &mut Found) {
    let AgentEntry { name, doc, origin } = agent;
    let upstreams = &loaded.document.upstreams;
    if let Some(upstream) = &doc.upstream {
        found.reference("upstream", upstream, upstreams.keys().map(String::as_str), origin, "upstream");
    }
    if let Some((prefix, _)) = name.split_once('/').filter(|(prefix, _)| upstreams.contains_key(*prefix)) {
        let message = format!("the agent `{name}` hides a model of that name of the upstream `{prefix}`");
        found.warnings.push(origin.fault("name", message));
    }
    match (doc.kind, &doc.module) {
        (AgentKind::Declarative, None) => {}
        (AgentKind::Declarative, Some(_)) => found.faults.push(origin.fault("module", "is for `kind: sdk`")),
        (AgentKind::Sdk, None) => found.faults.push(origin.fault("module", "is missing: `package.module:function`")),
        (AgentKind::Sdk, Some(module)) => {
            found.need(is_callable(module), origin, "module", "must be `package.module:function`");
        }
    }
    if doc.kind == AgentKind::Declarative {
        let model = doc.model.as_deref().unwrap_or_default();
        found.need(!model.is_empty(), origin, "model", "is missing");
    }
    for key in doc.parameters.keys().filter(|key| RESERVED.contains(&key.as_str())) {
        found.faults.push(origin.fault(&format!("parameters.{key}"), "is the gateway's to set"));
    }
    for (key, timeout) in [("timeout", doc.policies.timeout), ("tool_timeout", doc.policies.tool_timeout)] {
        found.need(!timeout.is_zero(), origin, &format!("policies.{key}"), "must be longer than nothing");
    }
    found.need(doc.policies.max_total_tokens != Some(0), origin, "policies.max_total_tokens", "must be at least 1");
    found.hooks(&doc.hooks, origin, "hooks");
    auth::check_limits(&doc.limits, origin, "limits", found);
    found.allow(doc.allow.as_ref(), loaded, origin, "allow");
}

/// Whether `text` is `package.module:function`.
pub(super) fn is_callable(text: &str) -> bool {
    let word =
        |word: &str| word.starts_with(|c: char| c.is_alphabetic() || c == '_') && word.chars().all(|c| c.is_alphanumeric() || c == '_');
    text.split_once(':').is_some_and(|(module, function)| module.split('.').all(word) && word(function))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{both, finds};
    use super::*;

    #[test]
    fn each_kind_has_its_keys() {
        let agent = |yaml: &str, want: &str| finds(&format!("agents: [{{ name: a, {yaml} }}]"), &format!("agents[0].{want}"));
        agent("description: x", "model: is missing");
        agent("model: m, module: 'a:b'", "module: is for `kind: sdk`");
        agent("model: m, upstream: pu", "upstream: there is no upstream `pu`; did you mean `up`?");
        agent("model: m, parameters: { stream: true }", "parameters.stream: is the gateway's");
        agent("model: m, limits: { concurrent: 0 }", "limits.concurrent: must be at least 1");
        agent("model: m, policies: { timeout: 0s }", "policies.timeout: must be longer");
        let (faults, _) = both("upstreams: { d: { kind: demo } }\nagents: [{ name: a, kind: sdk }, { name: b, kind: sdk, module: x }]");
        assert_eq!(faults.len(), 2, "{faults:?}");
        finds("agents: [{ name: up/x, model: m }]", "agents[0].name: the agent `up/x` hides");
    }

    #[test]
    fn a_callable_is_a_module_and_a_function() {
        assert!(is_callable("agents.researcher:build_agent") && is_callable("a:b"));
        for text in ["a", "a:", ":b", "a.b", "a/b:c", "a..b:c", "1a:b", "a:b:c", "a:b.c"] {
            assert!(!is_callable(text), "{text}");
        }
    }
}
