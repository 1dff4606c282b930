//! The configurations that are shipped or promised: they load, make sense, and full.yaml leaves out no key.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::load::{Loaded, load_with};
use super::validate::validate;
use super::{agent_schema, json_schema, reference};

/// How many bytes lie between two places at which a file is cut; 1 is thorough and slow.
const STEP: usize = 97;

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Loads without any variable set, and expects no fault. The warnings are given as `key: message`.
#[track_caller]
fn loads(path: &Path) -> (Loaded, Vec<String>) {
    loads_with(path, &[])
}

#[track_caller]
fn loads_with(path: &Path, variables: &[(&str, &str)]) -> (Loaded, Vec<String>) {
    let variables: HashMap<&str, &str> = variables.iter().copied().collect();
    let loaded = load_with(path, &|name| variables.get(name).map(ToString::to_string)).unwrap_or_else(|faults| panic!("{faults:#?}"));
    let (faults, warnings) = validate(&loaded);
    assert!(faults.is_empty(), "{faults:#?}");
    let warnings = warnings.into_iter().map(|warning| format!("{}: {}", warning.key, warning.message)).collect();
    (loaded, warnings)
}

#[track_caller]
fn loads_text(text: &str, variables: &[(&str, &str)]) -> (Loaded, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.yaml");
    fs::write(&file, text).unwrap();
    loads_with(&file, variables)
}

#[test]
fn the_shipped_configuration_is_quiet() {
    let (loaded, warnings) = loads(&repository("config/gateway.yaml"));
    assert_eq!(warnings, [""; 0]);
    let names: Vec<&str> = loaded.agents.iter().map(|agent| agent.name.as_str()).collect();
    assert_eq!(names, ["assistant", "hello", "researcher", "team/writer", "triage"]);
    assert_eq!(loaded.document.default_upstream.as_deref(), Some("lmstudio"));
    let (loaded, _) = loads_with(&repository("config/gateway.yaml"), &[("MOONGATE_UPSTREAM", "demo")]);
    assert_eq!(loaded.document.default_upstream.as_deref(), Some("demo"));
}

#[test]
fn the_full_configuration_has_every_key_and_its_default() {
    let (loaded, _) = loads(&repository("config/full.yaml"));
    let written: Vec<&str> = loaded.origin.written().collect();
    let text = fs::read_to_string(repository("config/full.yaml")).unwrap();
    let mut lacking = Vec::new();
    for row in reference::rows(&json_schema()) {
        let name = row.key.rsplit('.').next().unwrap_or_default();
        if !written.iter().any(|key| stands_for(&row.key, key)) {
            lacking.push(row.key);
        } else if let Some(default) = row.default.filter(|default| !text.contains(&format!("{name}: {default}"))) {
            lacking.push(format!("{}: {default}", row.key));
        }
    }
    assert!(lacking.is_empty(), "config/full.yaml lacks {lacking:#?}");
}

/// Whether `key` is what `pattern` with its `*` stands for.
fn stands_for(pattern: &str, key: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == key,
        Some((before, after)) => {
            key.strip_prefix(before).is_some_and(|rest| rest.char_indices().any(|(at, c)| stands_for(after, &rest[at + c.len_utf8()..])))
        }
    }
}

/// What a file holds, as an editor sees it: variables are not replaced.
fn as_json(path: &Path) -> serde_json::Value {
    let mut faults = Vec::new();
    let mut node = super::tree::parse(path, &fs::read(path).unwrap(), &mut faults).unwrap();
    node.drop_extensions();
    super::decode::decode(node, path, &mut faults).unwrap()
}

#[test]
fn shipped_files_fit_the_schema_and_typos_do_not() {
    let gateway = jsonschema::validator_for(&json_schema()).unwrap();
    let agent = jsonschema::validator_for(&agent_schema()).unwrap();
    let errors = |validator: &jsonschema::Validator, path: &str| -> Vec<String> {
        validator.iter_errors(&as_json(&repository(path))).map(|error| format!("{path}: {}: {error}", error.instance_path())).collect()
    };
    for path in ["config/gateway.yaml", "config/full.yaml"] {
        assert_eq!(errors(&gateway, path), [""; 0]);
    }
    for path in ["agents/assistant.yaml", "agents/hello.yaml", "agents/team/writer.yaml"] {
        assert_eq!(errors(&agent, path), [""; 0]);
    }
    for name in
        ["unknown_keys.yaml", "unknown_keys.json", "choices.yaml", "durations.yaml", "hooks.yaml", "rights.yaml", "wrong_types.json"]
    {
        let path = format!("tests/it/golden/config/{name}");
        assert!(!errors(&gateway, &path).is_empty(), "{path}");
    }
    assert!(!errors(&agent, "tests/it/golden/config/agent_files/agents/typo.json").is_empty());
}

/// Half-written files are what a watcher reads while an editor saves.
#[test]
fn no_part_of_a_file_brings_the_reader_down() {
    let text = fs::read_to_string(repository("config/full.yaml")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for name in ["g.yaml", "g.json"] {
        let file = folder.path().join(name);
        for at in (0..text.len()).step_by(STEP) {
            let (before, after) = (&text.as_bytes()[..at], &text.as_bytes()[at..]);
            for bytes in [before, after, &[before, after.get(1..).unwrap_or_default()].concat()] {
                fs::write(&file, bytes).unwrap();
                if let Ok(loaded) = load_with(&file, &|_| None) {
                    validate(&loaded);
                }
            }
        }
    }
}

/// The example that moongate was asked for, unchanged.
#[test]
fn the_original_example_loads() {
    let (loaded, warnings) = loads_text(
        r#"
upstreams:
  lmstudio: { base_url: "http://localhost:1234/v1", api_key: "not-needed" }
mcp_servers:
  weather: { transport: http, url: "https://mcp.example.com/weather" }
agents:
  - name: Assistant
    kind: declarative
    upstream: lmstudio
    model: gpt-4o-mini
    instructions: You are a concise and helpful assistant.
    tools:
      - { name: get_weather, provider: mcp, mcp_server: weather, mcp_method: current }
    policies: { max_tool_hops: 2 }
  - { name: Researcher, kind: sdk, module: "agents.researcher:build_agent", upstream: lmstudio, model: gpt-4o-mini }
"#,
        &[],
    );
    assert_eq!(warnings, [""; 0]);
    assert_eq!(loaded.agents[0].doc.policies.max_tool_hops, 2);
    assert_eq!(loaded.agents[0].doc.policies.max_tool_calls, 32, "the others keep their defaults");
    assert_eq!(loaded.document.upstreams["lmstudio"].api_key.as_ref().map(|key| key.expose()), Some("not-needed"));
}

#[test]
fn an_example_with_everything_loads() {
    let text = r#"
server: { listen: 127.0.0.1:8080, cors: { allow_origins: ["http://localhost:3000"] }, limits: { max_body_bytes: 33554432 } }
default_upstream: lmstudio
upstreams:
  lmstudio: { base_url: "http://localhost:1234/v1", api_key: "not-needed" }
  openai:   { base_url: "https://api.openai.com/v1" }
  demo:     { kind: demo }
mcp_servers:
  weather: { transport: http, url: "https://mcp.example.com/weather", headers: { Authorization: "Bearer ${WEATHER_TOKEN}" } }
  old:     { transport: sse,  url: "http://localhost:3001/sse" }
  files:   { transport: stdio, command: npx, args: ["-y", "@modelcontextprotocol/server-filesystem", "/data"], env: { A: b } }
models:
  fast: { upstream: lmstudio, model: qwen3-4b, fallback: ["openai/gpt-4o-mini"], hooks: [scripts/redact.lua] }
agents:
  - name: Assistant
    kind: declarative
    upstream: lmstudio
    model: gpt-4o-mini
    instructions: You are a concise and helpful assistant.
    hooks: [scripts/assistant.lua, { script: scripts/a.lua, config: { limit: 3 } }]
    tools:
      - { name: get_weather, provider: mcp, mcp_server: weather, mcp_method: current }
      - { provider: mcp, mcp_server: files, include: ["read_*"] }
      - { name: search, provider: http, method: GET, url: "https://api.example.com/s?q={query}", parameters: { type: object, properties: { query: { type: string } } }, result: "$.items[*].title" }
      - { name: calc, provider: python, function: "agents.tools.calc:evaluate" }
      - { name: ask_writer, provider: agent, agent: Researcher }
    policies: { max_tool_hops: 2, max_tool_calls: 16, max_total_tokens: 50000, timeout: 120s, tool_timeout: 30s, parallel_tool_calls: true, on_limit: answer }
    session: { history: server, ttl: 24h }
    allow: [webui]
  - { name: Researcher, kind: sdk, module: "agents.researcher:build_agent", upstream: lmstudio, model: gpt-4o-mini }
sessions: { store: memory }
auth:
  keys:
    - { id: webui, key: "${WEBUI_KEY}", client: openwebui, models: ["*"], admin: false, limits: { requests_per_minute: 600, tokens_per_minute: 200000, concurrent: 32 } }
telemetry: { logs: json, otlp_endpoint: "http://localhost:4317" }
"#;
    let (loaded, _) = loads_text(text, &[("WEATHER_TOKEN", "t"), ("WEBUI_KEY", "12345")]);
    let names: Vec<&str> = loaded.document.upstreams.keys().map(String::as_str).collect();
    assert_eq!(names, ["lmstudio", "openai", "demo"], "in the order of the file");
    assert_eq!(loaded.document.auth.keys[0].key.as_ref().map(|key| key.expose()), Some("12345"));
    assert_eq!(loaded.document.mcp_servers["weather"].headers["Authorization"].expose(), "Bearer t");
    assert_eq!(loaded.agents[0].doc.policies.timeout.as_secs(), 120);
}
