//! What an agent's tools point at. Which keys go with which provider is known where tools are built.

use super::{Found, agents::is_callable};
use crate::config::load::{AgentEntry, Loaded};

pub(super) fn check(agent: &AgentEntry, loaded: &Loaded, found: &mut Found) {
    for (i, tool) in agent.doc.tools.iter().enumerate() {
        let origin = agent.origin.part(&format!("tools[{i}]"));
        if let Some(server) = &tool.mcp_server {
            let known = loaded.document.mcp_servers.keys().map(String::as_str);
            found.reference("MCP server", server, known, &origin, "mcp_server");
        }
        if let Some(name) = &tool.agent {
            let known = loaded.agents.iter().map(|agent| agent.name.as_str());
            found.reference("agent", name, known, &origin, "agent");
        }
        if let Some(function) = &tool.function {
            found.need(is_callable(function), &origin, "function", "must be `package.module:function`");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::both;

    #[test]
    fn tools_point_at_what_is_there() {
        let faults = |tool: &str| {
            let servers = "mcp_servers: { weather: { transport: http, url: 'http://h' } }";
            both(&format!("upstreams: {{ up: {{ kind: demo }} }}\n{servers}\nagents: [{{ name: a, model: m, tools: [{tool}] }}]")).0
        };
        let at = "agents[0].tools[0]";
        assert_eq!(faults("{ provider: mcp, mcp_server: weather }"), [""; 0]);
        assert_eq!(
            faults("{ provider: mcp, mcp_server: forecast }"),
            [format!("{at}.mcp_server: there is no MCP server `forecast`; there are `weather`")]
        );
        assert_eq!(faults("{ provider: agent, name: x, agent: b }"), [format!("{at}.agent: there is no agent `b`; did you mean `a`?")]);
        assert_eq!(faults("{ provider: agent, name: x, agent: a }"), [""; 0], "an agent may call itself: limits hold at run time");
        assert_eq!(faults("{ provider: python, name: x, function: f }"), [format!("{at}.function: must be `package.module:function`")]);
    }
}
