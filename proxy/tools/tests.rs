//! Which tools an agent has, from documents and servers.

use serde_json::json;

use super::build::Around;
use super::egress::Egress;
use super::*;
use crate::config::ToolDoc;
use crate::config::document::Ordered;

fn docs(value: Value) -> Vec<ToolDoc> {
    serde_json::from_value(value).unwrap()
}

fn build(servers: &[&Arc<McpServer>], value: Value) -> Result<Tools, Vec<(String, String)>> {
    let servers: Ordered<_> = servers.iter().map(|&server| (server.name().to_owned(), server.clone())).collect();
    let egress = Egress::new(&Default::default()).unwrap();
    let agent = |name: &str| (name == "team/writer").then(|| "Writes.".to_owned());
    let python = Python::idle();
    Tools::build(&docs(value), &Around { servers: &servers, python: &python, egress: &egress, agent: &agent })
}

fn names(tools: &Tools) -> Vec<String> {
    tools.offer().tools().iter().map(|tool| tool.name.clone()).collect()
}

fn files() -> Arc<McpServer> {
    McpServer::listing("files", &[("read_a", json!({})), ("read_b", json!({})), ("write", json!({})), ("x.y", json!({}))])
}

#[test]
fn many_tools_are_picked_by_pattern() {
    let files = files();
    for (doc, want) in [
        (json!({}), vec!["read_a", "read_b", "write", "x_y"]),
        (json!({ "include": ["read_*"] }), vec!["read_a", "read_b"]),
        (json!({ "exclude": ["*_b", "x*"] }), vec!["read_a", "write"]),
        (json!({ "include": ["read_*"], "exclude": ["read_b"], "prefix": "files_" }), vec!["files_read_a"]),
    ] {
        let mut entry = json!({ "provider": "mcp", "mcp_server": "files" });
        entry.as_object_mut().unwrap().extend(doc.as_object().unwrap().clone());
        assert_eq!(names(&build(&[&files], json!([entry])).unwrap()), want, "{doc}");
    }
}

#[test]
fn one_tool_takes_the_name_and_words_of_the_document() {
    let tools = build(
        &[&files()],
        json!([
            { "name": "get", "provider": "mcp", "mcp_server": "files", "mcp_method": "read_a", "description": "Reads." },
            { "provider": "mcp", "mcp_server": "files", "mcp_method": "write" },
            { "name": "read_b", "provider": "mcp", "mcp_server": "files" },
        ]),
    )
    .unwrap();
    assert_eq!(names(&tools), ["get", "write", "read_b"]);
    let offer = tools.offer();
    assert_eq!(
        offer.definitions()[0],
        json!({ "type": "function", "function": {
            "name": "get", "description": "Reads.", "parameters": { "type": "object", "properties": {} },
        }})
    );
    assert!(matches!(&offer.find("get").unwrap().kind, Kind::Mcp { method, .. } if method == "read_a"));
    assert!(offer.find("ge").is_none());
    assert!(tools.degraded().is_empty());
}

#[test]
fn a_chosen_name_wins_over_a_listed_one() {
    let other = McpServer::listing("other", &[("read_a", json!({})), ("new", json!({}))]);
    let tools = build(
        &[&files(), &other],
        json!([
            { "provider": "mcp", "mcp_server": "files", "include": ["read_*"] },
            { "provider": "mcp", "mcp_server": "other" },
            { "name": "read_b", "provider": "http", "url": "https://api.example/" },
        ]),
    )
    .unwrap();
    assert_eq!(names(&tools), ["read_a", "new", "read_b"]);
    let offer = tools.offer();
    assert_eq!(offer.find("read_b").unwrap().provider, "http");
    assert!(matches!(&offer.find("read_a").unwrap().kind, Kind::Mcp { server, .. } if server.name() == "files"));
}

#[test]
fn an_offer_is_pinned_and_shared_until_something_changes() {
    let files = files();
    let tools = build(&[&files], json!([{ "provider": "mcp", "mcp_server": "files" }])).unwrap();
    let before = tools.offer();
    assert!(Arc::ptr_eq(&before.tools, &tools.offer().tools), "nothing is built twice");
    files.list(&[("fresh", json!({}))]);
    assert_eq!(names(&tools), ["fresh"]);
    assert!(before.find("write").is_some());
}

#[test]
fn what_is_missing_is_said() {
    let files = files();
    let tools = build(
        &[&files],
        json!([
            { "name": "current", "provider": "mcp", "mcp_server": "files" },
            { "provider": "mcp", "mcp_server": "files", "include": ["delete_*"] },
            { "name": "calc", "provider": "python", "function": "agents.tools.calc:evaluate" },
        ]),
    )
    .unwrap();
    assert_eq!(
        tools.degraded(),
        [
            "MCP server `files` has no tool `current`; it has: read_a, read_b, write, x.y",
            "MCP server `files` has no tool `delete_*`; it has: read_a, read_b, write, x.y",
            "the tool `calc` (`agents.tools.calc:evaluate`): its Python worker is being started",
        ]
    );
    assert!(names(&tools).is_empty());
    files.fail("connection refused");
    assert_eq!(tools.degraded()[0], "MCP server `files` is not connected: connection refused");
    assert_eq!(tools.degraded().len(), 2, "one reason is given once");
}

#[test]
fn an_agent_is_a_tool_with_one_input() {
    let tools = build(&[], json!([{ "name": "ask", "provider": "agent", "agent": "team/writer" }])).unwrap();
    let offer = tools.offer();
    let tool = offer.find("ask").unwrap();
    assert!(matches!(&tool.kind, Kind::Agent(name) if name == "team/writer"));
    assert_eq!(tool.definition["function"]["description"], "Writes.");
    assert!(tool.parse(r#"{"input": "hi"}"#).is_ok());
    assert_eq!(tool.parse("{}").unwrap_err(), r#""input" is a required property"#);
}

#[test]
fn arguments_that_a_hook_changed_are_checked_again() {
    let parameters = json!({ "type": "object", "properties": { "n": { "type": "integer" } } });
    let server = McpServer::listing("s", &[("t", parameters)]);
    let offer = build(&[&server], json!([{ "provider": "mcp", "mcp_server": "s" }])).unwrap().offer();
    let tool = offer.find("t").unwrap();
    let mut arguments = tool.parse(r#"{"n": 1}"#).unwrap();
    assert_eq!(tool.validate(&arguments), Ok(()));
    arguments.insert("n".into(), json!("one"));
    assert_eq!(tool.validate(&arguments).unwrap_err(), r#"/n: "one" is not of type "integer""#);
}

#[test]
fn faults_have_their_keys() {
    for (doc, keys) in [
        (json!({ "provider": "mcp" }), vec!["tools[0].mcp_server"]),
        (json!({ "provider": "mcp", "mcp_server": "nope" }), vec!["tools[0].mcp_server"]),
        (json!({ "provider": "mcp", "mcp_server": "files", "name": "a b" }), vec!["tools[0].name"]),
        (json!({ "provider": "mcp", "mcp_server": "files", "name": "a", "prefix": "x" }), vec!["tools[0].prefix"]),
        (json!({ "provider": "mcp", "mcp_server": "files", "include": ["a", "["] }), vec!["tools[0].include[1]"]),
        (json!({ "provider": "mcp", "mcp_server": "files", "prefix": "a b" }), vec!["tools[0].prefix"]),
        (json!({ "provider": "mcp", "mcp_server": "files", "url": "x", "result": "y" }), vec!["tools[0].url", "tools[0].result"]),
        (json!({ "provider": "http" }), vec!["tools[0].name", "tools[0].url"]),
        (json!({ "provider": "http", "name": "a", "url": "https://x.example/", "result": "$.[" }), vec!["tools[0].result"]),
        (
            json!({ "provider": "http", "name": "a", "url": "https://x.example/", "parameters": { "type": "text" } }),
            vec!["tools[0].parameters"],
        ),
        (json!({ "provider": "agent", "name": "a" }), vec!["tools[0].agent"]),
        (json!({ "provider": "agent", "name": "a", "agent": "nobody" }), vec!["tools[0].agent"]),
        (json!({ "provider": "python", "name": "a" }), vec!["tools[0].function"]),
    ] {
        let faults = build(&[&files()], json!([doc])).err().unwrap_or_default();
        assert_eq!(faults.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), keys, "{doc}: {faults:?}");
    }
    let twice = json!([
        { "name": "a", "provider": "http", "url": "https://x.example/" },
        { "name": "a", "provider": "mcp", "mcp_server": "files" },
    ]);
    assert_eq!(build(&[&files()], twice).err().unwrap()[0].0, "tools[1].name");
}
