//! Agents: the loop of model calls and tool calls, as a client and as the servers behind it see it.

mod client_tools;
mod faults;
mod http_tools;
mod limits;
mod looping;
mod nested;
mod streaming;
mod structured;

use serde_json::Value;

use crate::support::{FakeMcp, Gateway, ScriptedModel};

/// An agent with one MCP tool; `POLICIES` stands for its policies.
const CONFIG: &str = r#"
upstreams: { lm: { base_url: "${LM}", api_key: upstream-secret } }
mcp_servers: { weather: { transport: http, url: "${MCP}", headers: { Authorization: "Bearer mcp-secret" } } }
agents:
  - name: Assistant
    upstream: lm
    model: scripted
    instructions: Be brief.
    tools: [{ name: get_weather, provider: mcp, mcp_server: weather, mcp_method: current }]
    policies: { POLICIES }
"#;

async fn start(policies: &str, model: &ScriptedModel, mcp: &FakeMcp) -> Gateway {
    let gateway = Gateway::start(&CONFIG.replace("POLICIES", policies), [("LM", &model.url()), ("MCP", &mcp.url())]).await;
    mcp.until("the gateway knows the tools", |seen| seen.requests.iter().any(|r| r.json()["method"] == "tools/list")).await;
    gateway
}

/// The messages of a request, as `(role, content)`.
fn messages(request: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let messages = request["messages"].as_array().expect("messages").iter();
    messages.map(|message| (text(&message["role"]), text(&message["content"]))).collect()
}
