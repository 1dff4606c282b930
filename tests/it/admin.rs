//! moongate's own pages, and who may see them.

use serde_json::{Value, json};

use crate::support::fake_mcp::Tool;
use crate::support::{FakeMcp, Gateway, Request, ScriptedModel, Step};

const PAGES: [&str; 5] = ["/agents", "/agents/Assistant", "/upstreams", "/mcp/servers", "/metrics"];

const CONFIG: &str = r#"
upstreams: { lm: { base_url: "${LM}", api_key: upstream-secret } }
mcp_servers: { weather: { transport: http, url: "${MCP}", headers: { x-token: mcp-secret } } }
agents:
  - name: Assistant
    description: Knows the weather.
    model: scripted
    tools: [{ name: get_weather, provider: mcp, mcp_server: weather, mcp_method: current }]
AUTH
"#;

async fn start<const N: usize>(auth: &str, steps: [Step; N]) -> (ScriptedModel, FakeMcp, Gateway) {
    let model = ScriptedModel::start(steps).await;
    let mcp = FakeMcp::start([Tool::weather()]).await;
    let gateway = Gateway::start(&CONFIG.replace("AUTH", auth), [("LM", &model.url()), ("MCP", &mcp.url())]).await;
    (model, mcp, gateway)
}

/// The entry of a list, wherever in the page it stands, whose `name` is this.
fn named<'a>(page: &'a Value, name: &str) -> &'a Value {
    match page {
        Value::Object(fields) if fields.get("name") == Some(&json!(name)) => page,
        Value::Object(fields) => fields.values().map(|v| named(v, name)).find(|v| !v.is_null()).unwrap_or(&Value::Null),
        Value::Array(items) => items.iter().map(|v| named(v, name)).find(|v| !v.is_null()).unwrap_or(&Value::Null),
        _ => &Value::Null,
    }
}

/// The pages say what there is and how it is, and no secret.
#[tokio::test]
async fn the_pages_describe_the_gateway() {
    let (_model, _mcp, gateway) = start("", []).await;
    let agents = gateway.get("/agents").answer().await.json();
    let agent = named(&agents, "Assistant");
    assert_eq!(agent["description"], "Knows the weather.");
    assert!(agent.to_string().contains("get_weather"), "{agents}");
    assert_eq!(gateway.get("/agents/Assistant").answer().await.json()["name"], "Assistant");
    let upstreams = gateway.get("/upstreams").answer().await.json();
    assert!(named(&upstreams, "lm").to_string().contains("scripted"), "{upstreams}");
    let servers = gateway.get("/mcp/servers").answer().await.json();
    assert!(named(&servers, "weather").is_object(), "{servers}");
    for page in PAGES {
        let text = gateway.get(page).answer().await.text();
        assert!(!text.contains("upstream-secret") && !text.contains("mcp-secret"), "{page}: {text}");
    }
    gateway.get("/agents/nobody").answer().await.assert_error(404, "not_found");
}

/// The metrics count requests by what became of them, never by who asked what.
#[tokio::test]
async fn the_metrics_count() {
    let (_model, _mcp, gateway) =
        start("", [Step::calls([("a", "get_weather", r#"{"city":"Paris"}"#)]), Step::says("sunny"), Step::says("plain")]).await;
    gateway.chat("Assistant", json!({})).answer().await;
    gateway.chat("scripted", json!({})).answer().await;
    gateway.logged("\"target\":\"lm\"").await;
    let metrics = gateway.get("/metrics").answer().await;
    assert!(metrics.header("content-type").unwrap().starts_with("text/plain"));
    let text = metrics.text();
    let count = |name: &str, label: &str| {
        let line = text.lines().find(|line| line.starts_with(name) && line.contains(label) && !line.starts_with('#'));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).unwrap_or_else(|| panic!("no {name} with {label} in\n{text}"))
    };
    assert_eq!(count("moongate_requests_total{", "\"Assistant\""), 1.0);
    assert_eq!(count("moongate_requests_total{", "\"lm\""), 1.0);
    assert_eq!(count("moongate_runs_total{", "\"Assistant\""), 1.0);
    assert_eq!(count("moongate_run_hops_total", ""), 2.0);
    assert_eq!(count("moongate_tool_calls_total{", "\"ok\""), 1.0);
    assert!(!text.contains("hello") && !text.contains("Paris"), "{text}");
}

/// Liveness and readiness are for everybody.
#[tokio::test]
async fn health_is_public() {
    let (_model, _mcp, gateway) = start("auth: { keys: [{ id: a, key: secret }] }", []).await;
    for page in ["/healthz", "/readyz"] {
        let request = gateway.get(page).header("host", "gateway.example").header("x-forwarded-for", "203.0.113.9");
        assert_eq!(request.answer().await.status(), 200, "{page}");
    }
}

/// With keys, the pages are for an admin's.
#[tokio::test]
async fn keys_guard_the_pages() {
    let auth = "auth: { keys: [{ id: user, key: user-key }, { id: boss, key: boss-key, admin: true }] }";
    let (_model, _mcp, gateway) = start(auth, []).await;
    for page in PAGES {
        gateway.get(page).answer().await.assert_error(401, Value::Null);
        gateway.get(page).key("wrong").answer().await.assert_error(401, "invalid_api_key");
        assert_eq!(gateway.get(page).key("user-key").answer().await.status(), 403, "{page}");
        assert_eq!(gateway.get(page).key("boss-key").header("host", "gateway.example").answer().await.status(), 200, "{page}");
    }
    let reload = || gateway.post("/reload").header("content-length", "0");
    reload().answer().await.assert_error(401, Value::Null);
    assert_eq!(reload().key("user-key").answer().await.status(), 403);
    assert_eq!(reload().key("boss-key").answer().await.status(), 200);
}

/// Without keys, they are for this machine: not for a web page, a rebound name, or a proxy's clients.
#[tokio::test]
async fn without_keys_the_pages_are_for_this_machine() {
    let (_model, _mcp, gateway) = start("", []).await;
    let here = |request: Request| request.header("host", "localhost:8080").header("origin", "http://localhost:3000");
    assert_eq!(here(gateway.get("/agents")).answer().await.status(), 200);
    for (name, value) in [
        ("host", "evil.test"),
        ("origin", "http://evil.test"),
        ("origin", "null"),
        ("x-forwarded-for", "203.0.113.9"),
        ("forwarded", "for=203.0.113.9"),
        ("x-real-ip", "203.0.113.9"),
    ] {
        for page in PAGES {
            assert_eq!(gateway.get(page).header(name, value).answer().await.status(), 403, "{page} with {name}: {value}");
        }
        let reload = gateway.post("/reload").header("content-length", "0").header(name, value);
        assert_eq!(reload.answer().await.status(), 403, "a reload with {name}: {value}");
    }
}
