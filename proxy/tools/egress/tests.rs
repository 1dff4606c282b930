//! Requests of tools: what may be reached, what is followed, what is sent along.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::tools::testing::{Fake, Reply};

fn allow(entries: &[&str]) -> document::Egress {
    document::Egress { allow: entries.iter().map(|&entry| entry.into()).collect() }
}

fn get(url: &str, trust: Trust) -> Outgoing {
    Outgoing { method: Method::GET, url: Url::parse(url).unwrap(), headers: HeaderMap::new(), body: None, trust }
}

/// An egress whose names resolve to what the test says; connections go to the port of the url.
fn resolving(entries: &[&str], answers: &'static [&'static str]) -> Egress {
    let lookup: Arc<Lookup> =
        Arc::new(|_| Box::pin(async { Ok(answers.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 0)).collect()) }));
    Egress::with_lookup(&allow(entries), lookup).unwrap()
}

fn rules(entries: &[&str]) -> Rules {
    Rules::parse(&allow(entries).allow).unwrap()
}

#[test]
fn numbers_are_refused_in_every_spelling() {
    let rules = rules(&[]);
    for url in [
        "http://127.0.0.1/",
        "http://127.1/",
        "http://0x7f.1/",
        "http://0x7f000001/",
        "http://2130706433/",
        "http://017700000001/",
        "http://0/",
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:a9fe:a9fe]/",
        "http://[fd00:ec2::254]/",
        "http://10.1.2.3:80/",
        "http://１２７.0.0.1/",
        "http://100.64.0.1/",
        "http://224.0.0.1/",
        "file:///etc/passwd",
        "ftp://8.8.8.8/",
    ] {
        assert!(rules.check_url(&Url::parse(url).unwrap()).is_err(), "{url}");
    }
    for url in ["http://8.8.8.8/", "https://[2606:4700::1]/", "https://example.com/"] {
        assert_eq!(rules.check_url(&Url::parse(url).unwrap()), Ok(()), "{url}");
    }
}

#[test]
fn the_operator_may_allow_networks_and_hosts() {
    let rules = rules(&["10.0.0.0/8", "192.168.1.7", "Intranet.example", "fd00::/8"]);
    for url in ["http://10.1.2.3/", "http://192.168.1.7/", "http://[fd00::1]/", "http://[::ffff:10.0.0.1]/"] {
        assert_eq!(rules.check_url(&Url::parse(url).unwrap()), Ok(()), "{url}");
    }
    for url in ["http://192.168.1.8/", "http://127.0.0.1/"] {
        assert!(rules.check_url(&Url::parse(url).unwrap()).is_err(), "{url}");
    }
    assert!(rules.allows_host("intranet.EXAMPLE.") && !rules.allows_host("x.intranet.example"));
}

#[test]
fn what_is_neither_network_nor_host_is_named_with_its_key() {
    let faults = Egress::new(&allow(&["10.0.0.0/8", "10.0.0.0/99", "http://x/"])).err().unwrap();
    let keys: Vec<_> = faults.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, ["egress.allow[1]", "egress.allow[2]"]);
}

#[tokio::test]
async fn names_are_judged_by_all_their_addresses() {
    let fake = Fake::start(|_| Reply::text(200, "secret")).await;
    let port = fake.address.port();
    for answers in [&["127.0.0.1"][..], &["8.8.8.8", "127.0.0.1"], &["::ffff:127.0.0.1"]] {
        let egress = resolving(&[], answers);
        let refusal = egress.send(get(&format!("http://rebind.example:{port}/"), Trust::Nobody)).await.unwrap_err();
        assert!(matches!(refusal, Refusal::Forbidden(_)), "{refusal:?}");
        assert!(refusal.to_string().contains("rebind.example may not be reached"), "{refusal}");
    }
    assert!(fake.seen().is_empty());
    for allowed in ["127.0.0.0/8", "rebind.example"] {
        let egress = resolving(&[allowed], &["127.0.0.1"]);
        let response = egress.send(get(&format!("http://rebind.example:{port}/"), Trust::Nobody)).await.unwrap();
        assert_eq!(response.text().await.unwrap(), "secret", "{allowed}");
    }
}

#[tokio::test]
async fn a_name_is_resolved_once_for_check_and_connection() {
    let fake = Fake::start(|_| Reply::text(200, "fine")).await;
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let lookup: Arc<Lookup> = Arc::new(|_| {
        // The second answer would be another address, as a rebinding server gives it.
        let ip = if ASKED.fetch_add(1, Ordering::SeqCst) == 0 { "127.0.0.1" } else { "127.0.0.9" };
        Box::pin(async move { Ok(vec![SocketAddr::new(ip.parse().unwrap(), 0)]) })
    });
    let egress = Egress::with_lookup(&allow(&["127.0.0.1"]), lookup).unwrap();
    let url = format!("http://rebind.example:{}/", fake.address.port());
    assert_eq!(egress.send(get(&url, Trust::Nobody)).await.unwrap().status(), 200);
    assert_eq!(ASKED.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn the_operators_own_hosts_are_trusted() {
    let fake = Fake::start(|_| Reply::text(200, "local")).await;
    let egress = Egress::new(&allow(&[])).unwrap();
    assert!(egress.send(get(&fake.url("/"), Trust::Operator)).await.is_ok());
    assert!(matches!(egress.send(get(&fake.url("/"), Trust::Nobody)).await, Err(Refusal::Forbidden(_))));
    assert_eq!(fake.seen().len(), 1);
}

#[tokio::test]
async fn a_redirect_to_another_place_is_checked() {
    let inner = Fake::start(|_| Reply::text(200, "secret")).await;
    let to = inner.url("/");
    let outer = Fake::start(move |_| Reply::redirect(302, &to)).await;
    let egress = Egress::new(&allow(&[])).unwrap();
    // The same address with another port is another place.
    let refusal = egress.send(get(&outer.url("/"), Trust::Operator)).await.unwrap_err();
    assert!(matches!(refusal, Refusal::Forbidden(_)), "{refusal:?}");
    assert!(inner.seen().is_empty());
}

#[tokio::test]
async fn redirects_are_followed_as_browsers_do() {
    let fake = Fake::start(|request| match request.target.as_str() {
        "/303" => Reply::redirect(303, "/end"),
        "/302" => Reply::redirect(302, "end"),
        "/307" => Reply::redirect(307, "/end"),
        "/loop" => Reply::redirect(302, "/loop"),
        "/bad" => Reply::redirect(302, "http://["),
        _ => Reply::text(200, "end"),
    })
    .await;
    let egress = Egress::new(&allow(&[])).unwrap();
    for (path, method, body) in [("/303", "GET", ""), ("/302", "GET", ""), ("/307", "POST", "{}")] {
        let mut outgoing = get(&fake.url(path), Trust::Operator);
        outgoing.method = Method::POST;
        outgoing.body = Some(Bytes::from("{}"));
        outgoing.headers.insert("authorization", "Bearer x".parse().unwrap());
        assert_eq!(egress.send(outgoing).await.unwrap().status(), 200);
        let last = fake.seen().pop().unwrap();
        assert_eq!((last.target.as_str(), last.method.as_str(), last.body.as_str()), ("/end", method, body), "{path}");
        assert_eq!(last.header("authorization"), Some("Bearer x"), "the same place keeps the headers");
    }
    for path in ["/loop", "/bad"] {
        assert!(matches!(egress.send(get(&fake.url(path), Trust::Operator)).await, Err(Refusal::Redirect(_))), "{path}");
    }
}

#[tokio::test]
async fn credentials_stay_behind_at_another_place() {
    let inner = Fake::start(|_| Reply::text(200, "end")).await;
    let to = inner.url("/");
    let outer = Fake::start(move |_| Reply::redirect(302, &to)).await;
    let egress = Egress::new(&allow(&["127.0.0.1"])).unwrap();
    let mut outgoing = get(&outer.url("/"), Trust::Operator);
    for name in ["authorization", "cookie", "x-api-key", "accept"] {
        outgoing.headers.insert(name, "x".parse().unwrap());
    }
    egress.send(outgoing).await.unwrap();
    let last = inner.seen().pop().unwrap();
    for name in ["authorization", "cookie", "x-api-key", "referer"] {
        assert_eq!(last.header(name), None, "{name}");
    }
    assert_eq!(last.header("accept"), Some("x"));
}
