//! What a key and its limits cost a request, in memory: `cargo bench --bench limits`.

use std::hint::black_box;
use std::sync::Arc;

use criterion::Criterion;
use http::HeaderMap;
use moongate::access::Access;
use moongate::config::document::{Anonymous, Auth, Key, Limits};
use moongate::limits::{Counters, Spent};

/// How many keys there are to tell apart.
const KEYS: usize = 10;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut criterion = Criterion::default().configure_from_args();
    let plain = access(Limits::default())?;
    let all = Limits {
        requests_per_minute: Some(u32::MAX),
        tokens_per_minute: Some(u64::from(u32::MAX)),
        concurrent: Some(1000),
        tokens_per_day: Some(u64::MAX),
        cost_per_day: Some(f64::MAX),
    };
    let limited = access(all)?;
    let mut headers = HeaderMap::new();
    headers.insert("authorization", format!("Bearer key-{}", KEYS - 1).parse()?);
    let counters = Arc::new(Counters::default());
    criterion.bench_function("key alone", |b| b.iter(|| plain.check(black_box(&headers)).is_ok()));
    criterion.bench_function("key and five limits", |b| {
        b.iter(|| {
            let Ok(caller) = limited.check(black_box(&headers)) else { return 0 };
            let (admitted, standing) = counters.admit(caller.claims(), Spent { tokens: 250, cost: 0.0 });
            let told = standing.headers().len();
            if let Ok(mut permit) = admitted {
                permit.charge(Spent { tokens: 300, cost: 0.001 });
            }
            told
        });
    });
    criterion.final_summary();
    Ok(())
}

fn access(limits: Limits) -> Result<Access, String> {
    let rights = Anonymous { limits, ..Anonymous::default() };
    let key = |n: usize| Key {
        id: n.to_string(),
        key: Some(format!("key-{n}").as_str().into()),
        key_sha256: None,
        disabled: false,
        expires: None,
        rights: rights.clone(),
    };
    Access::build(&Auth { keys: (0..KEYS).map(key).collect(), ..Auth::default() }).map_err(|(key, message)| format!("{key}: {message}"))
}
