//! `std.http`: what scripts fetch and post, in which bounds, where they may not go, and what of the client they never carry along.

use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::world::{script, told};
use crate::support::{Gateway, ScriptedModel, Setup, Step, within};

const CONFIG: &str = r#"
upstreams: { demo: { kind: demo } }
egress: { allow: [ALLOWED] }
agents: [{ name: Asker, model: demo, hooks: [scripts/h.lua] }]
"#;

async fn gateway(web: &ScriptedModel, allowed: &str, body: &str) -> Gateway {
    let body = body.replace("WEB", &web.origin()).replace("PORT", web.origin().rsplit(':').next().unwrap());
    Setup::new(&CONFIG.replace("ALLOWED", allowed)).file("scripts/h.lua", &script(&body)).start().await
}

/// What a script tells that may reach `localhost`, where these steps are the web: `WEB` is its address and `PORT` its port.
async fn tells<const N: usize>(body: &str, steps: [Step; N]) -> (ScriptedModel, Vec<Value>) {
    let web = ScriptedModel::start(steps).await;
    let gateway = gateway(&web, "localhost", body).await;
    let told = told(&gateway.chat("Asker", json!({})).answer().await);
    (web, told)
}

fn page(path: &'static str, text: &'static str) -> Step {
    Step::at("GET", path, move |e| async move { e.respond(200, &[("content-type", "text/plain")], text.as_bytes()).await })
}

/// A GET carries query and headers; any status is an answer, with its headers, body and address.
#[tokio::test]
async fn get_reads_any_answer() {
    let step = Step::at("GET", "/s?a=1&q=x%26y+%C3%A9", |e| async move {
        e.respond(404, &[("content-type", "application/json"), ("X-One", "1"), ("x-one", "2")], br#"{"list":[],"n":null}"#).await;
    });
    let body = r#"
      local found = assert(http.get("WEB/s?a=1", { query = { q = "x&y é" }, headers = { ["X-Token"] = "t" } }))
      return tell(found.status, found.ok, found.headers["content-type"], found.headers["x-one"], found.body, found:json(), found.url)"#;
    let (web, told) = tells(body, [step]).await;
    assert_eq!(told[..4], [json!(404), json!(false), json!("application/json"), json!("1, 2")]);
    assert_eq!((&told[4], &told[5]), (&json!(r#"{"list":[],"n":null}"#), &json!({ "list": [], "n": null })));
    assert_eq!(told[6], format!("{}/s?a=1&q=x%26y+%C3%A9", web.origin()));
    assert_eq!(web.request(1).await.header("x-token"), Some("t"));
}

/// A POST sends a table as JSON, text as it is, and a form where it is asked for; other methods are named.
#[tokio::test]
async fn post_sends_json_text_and_forms() {
    let saved = |method, path| Step::at(method, path, |e| async move { e.respond(201, &[], b"saved").await });
    let body = r#"
      local first = assert(http.post("WEB/json", { a = json.array {}, b = { c = "é" } }))
      assert(http.post("WEB/text", "plain", { headers = { ["content-type"] = "text/csv" } }))
      assert(http.request { url = "WEB/form", form = { a = "1 & 2" } })
      assert(http.request { method = "PUT", url = "WEB/put", json = 7 })
      local empty = http.post "WEB/empty"
      return tell(first.status, first.ok, first.body, first:json(), empty.ok)"#;
    let steps = [saved("POST", "/json"), saved("POST", "/text"), saved("POST", "/form"), saved("PUT", "/put"), saved("POST", "/empty")];
    let (web, told) = tells(body, steps).await;
    assert_eq!(told, [json!(201), json!(true), json!("saved"), Value::Null, json!(true)]);
    let sent = web.requests();
    assert_eq!((sent[0].json(), sent[0].header("content-type")), (json!({ "a": [], "b": { "c": "é" } }), Some("application/json")));
    assert_eq!((&sent[1].body[..], sent[1].header("content-type")), (&b"plain"[..], Some("text/csv")));
    assert_eq!((&sent[2].body[..], sent[2].header("content-type")), (&b"a=1+%26+2"[..], Some("application/x-www-form-urlencoded")));
    assert_eq!((&sent[3].body[..], sent[4].body.len()), (&b"7"[..], 0));
}

/// A server that is silent, or begins and does not end, is left after `timeout`; the script reads why.
#[tokio::test]
async fn a_silent_server_is_left() {
    let ((tell_silent, silent), (tell_begun, begun)) = (oneshot::channel(), oneshot::channel());
    let steps = [
        Step::at("GET", "/silent", |mut e| async move {
            e.client_gone().await;
            tell_silent.send(()).unwrap();
        }),
        Step::at("GET", "/begun", |mut e| async move {
            e.start("text/plain").await;
            e.send(b"well, ").await.unwrap();
            e.client_gone().await;
            tell_begun.send(()).unwrap();
        }),
    ];
    let body = r#"
      local a, why_a = http.get("WEB/silent", { timeout = 0.2 })
      local b, why_b = http.get("WEB/begun", { timeout = 0.2 })
      return tell(a, why_a, b, why_b, select(2, http.get("WEB/never", { timeout = 121 })))"#;
    let (_web, told) = tells(body, steps).await;
    let why = json!("the server did not answer within 0.2 s");
    assert_eq!(told, [Value::Null, why.clone(), Value::Null, why, json!("`timeout` is a number of seconds up to 120")]);
    within(5, "the end of the silent request", silent).await.unwrap();
    within(5, "the end of the begun one", begun).await.unwrap();
}

/// An answer may be as large as `max_bytes`, and not a byte larger; one without an end is left as soon as that is known.
#[tokio::test]
async fn a_large_answer_is_refused() {
    let (tell, gone) = oneshot::channel();
    let endless = Step::at("GET", "/endless", |mut e| async move {
        e.start("text/plain").await;
        while e.send(&[b'x'; 10_000]).await.is_ok() {}
        tell.send(()).unwrap();
    });
    let body = r#"
      local fits = assert(http.get("WEB/ten", { max_bytes = 10 })).body
      local large, why_large = http.get("WEB/ten", { max_bytes = 9 })
      local endless, why_endless = http.get "WEB/endless"
      return tell(fits, large, why_large, endless, why_endless)"#;
    let (_web, told) = tells(body, [page("/ten", "0123456789"), page("/ten", "0123456789"), endless]).await;
    assert_eq!(told[..3], [json!("0123456789"), Value::Null, json!("the answer is longer than `max_bytes` (9)")]);
    assert_eq!(told[3..], [Value::Null, json!("the answer is longer than `max_bytes` (1048576)")]);
    within(5, "the end of the endless request", gone).await.unwrap();
}

/// Nobody there, no address, a header that is none: each is nil and a sentence, and nothing is sent.
#[tokio::test]
async fn what_cannot_be_sent_is_said() {
    let body = r#"
      local function why(...) local response, why = http.get(...) assert(response == nil) return why end
      return tell(
        why "http://localhost:1/",
        why "nowhere",
        why("WEB/", { headers = { ["x-a"] = "1\r\nx-b: 2" } }),
        why("WEB/", { headers = { ["x-a\r\nx-b"] = "1" } }),
        why("WEB/", { headers = { ["x-a"] = "1\nx-b: 2" } }),
        why("WEB/", { headers = { Host = "elsewhere" } }),
        why("WEB/", { headers = { ["Transfer-Encoding"] = "chunked" } }),
        why "file:///etc/hostname")"#;
    let (web, told) = tells(body, []).await;
    let expected = [
        "no connection to the server",
        "`url` is not an address",
        "the header `x-a` has characters that a header cannot have",
        "characters that a header cannot have",
        "the header `x-a` has characters that a header cannot have",
        "the header `host` is not a script's to set",
        "the header `transfer-encoding` is not a script's to set",
        "only http and https",
    ];
    for (said, expected) in told.iter().zip(expected) {
        assert!(said.as_str().unwrap().contains(expected), "{said} has not {expected:?}");
    }
    assert_eq!((told.len(), web.requests().len()), (expected.len(), 0));
}

/// Loopback and metadata addresses are refused in every spelling, unless `egress` allows the host, or the network.
#[tokio::test]
async fn private_addresses_need_egress() {
    let web = ScriptedModel::start([]).await;
    let body = r#"
      local said = {}
      for i, host in {
        "localhost", "127.0.0.1", "127.1", "0x7f.0.0.1", "2130706433", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254", "10.0.0.1",
      } do
        local response, why = http.get("http://" .. host .. ":PORT/", { timeout = 2 })
        said[i] = if response then "answered" else why
      end
      return tell(table.unpack(said))"#;
    let refusing = gateway(&web, "", body).await;
    let said = told(&refusing.chat("Asker", json!({})).answer().await);
    assert_eq!(said.len(), 10);
    for why in said {
        assert!(why.as_str().unwrap().contains("may not be reached"), "{why}");
    }
    for (allowed, url) in [("localhost", "WEB/page"), ("127.0.0.0/8", "http://127.0.0.1:PORT/page")] {
        let web = ScriptedModel::start([page("/page", "here")]).await;
        let allowing = gateway(&web, allowed, &format!(r#"return tell(assert(http.get "{url}").body)"#)).await;
        assert_eq!(told(&allowing.chat("Asker", json!({})).answer().await), ["here"]);
    }
}

/// A redirect is followed only to where the script itself might go, and takes the script's headers to no other origin.
#[tokio::test]
async fn redirects_are_checked_anew() {
    let private = ScriptedModel::start([]).await;
    let other = ScriptedModel::start([page("/page", "moved here")]).await;
    let (refused, allowed) = (format!("{}/", private.origin().replace("localhost", "127.0.0.1")), format!("{}/page", other.origin()));
    let to = |path, target: String| Step::at("POST", path, |e| async move { e.respond(303, &[("location", &target)], b"").await });
    let body = r#"
      local token = { headers = { authorization = "Bearer of-the-script", ["x-token"] = "t" } }
      local refused, why = http.post("WEB/refused", "x", token)
      local moved = assert(http.post("WEB/allowed", "x", token))
      return tell(refused, why, moved.body, moved.url)"#;
    let (web, told) = tells(body, [to("/refused", refused), to("/allowed", allowed.clone())]).await;
    assert_eq!((&told[0], private.requests().len()), (&Value::Null, 0));
    assert!(told[1].as_str().unwrap().contains("127.0.0.1 may not be reached"), "{}", told[1]);
    assert_eq!((&told[2], &told[3]), (&json!("moved here"), &json!(allowed)));
    assert_eq!((web.request(1).await.header("x-token"), web.request(1).await.mentions("of-the-script")), (Some("t"), true));
    let followed = other.request(1).await;
    assert!(!followed.mentions("of-the-script") && followed.header("x-token").is_none(), "{:?}", followed.head.headers);
}

/// What the client sends stays with the gateway: its credentials are not even shown to the script, its other headers do not travel.
#[tokio::test]
async fn the_clients_credentials_stay() {
    let body = r#"
      local seen = run.headers
      assert(http.get "WEB/page")
      assert(http.post("WEB/page", { x = 1 }))
      return tell(seen.authorization, seen.cookie, seen["x-api-key"], seen["x-plain"])"#;
    let web = ScriptedModel::start([
        Step::at("GET", "/page", |e| async move { e.respond(200, &[("set-cookie", "of=the-server")], b"").await }),
        Step::at("POST", "/page", |e| async move { e.respond(200, &[], b"").await }),
    ])
    .await;
    let gateway = gateway(&web, "localhost", body).await;
    let asked = gateway.chat("Asker", json!({})).key("secret-key").header("cookie", "a=secret-cookie").header("x-api-key", "secret-api");
    let told = told(&asked.header("x-plain", "plain-secret").answer().await);
    assert_eq!(told, [Value::Null, Value::Null, Value::Null, json!("plain-secret")]);
    for request in web.requests() {
        assert!(!request.mentions("secret") && request.header("cookie").is_none(), "{:?}", request.head.headers);
    }
    assert_eq!(web.requests().len(), 2);
}
