//! How much keys, users and agents may use: requests and tokens a minute, requests at once, tokens and money a day.
//!
//! A request is admitted by every limit that holds for it, or by none. What it will use is estimated then, and put right when it is known.

mod failures;
mod gcra;
mod meter;
mod prices;
mod tail;

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lru::LruCache;
use tokio::time::Instant;

use crate::config::document::Limits;
use crate::error::{Error, Kind};
use crate::metrics::METRICS;
pub use failures::Failures;
pub use gcra::Level;
pub use meter::Spent;
use meter::{Meter, Now, Refusal};
pub use prices::{Price, Prices};
pub use tail::Tail;

/// How many users are counted; beyond it, those that were not seen for longest are forgotten: clients name them, and must not be able to push
/// anybody else's counts out.
const MAX_USERS: NonZeroUsize = NonZeroUsize::new(100_000).expect("not zero");

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Whom a limit holds for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Subject {
    /// All requests with this key; `None` is everybody while there are no keys.
    Key(Option<String>),
    /// One user of a key.
    User(Option<String>, String),
    /// All requests to this agent.
    Agent(String),
}

impl Subject {
    /// In a sentence for the client, who may not be told the names of others.
    fn words(&self) -> &'static str {
        match self {
            Subject::Key(_) => "this key",
            Subject::User(..) => "this user",
            Subject::Agent(_) => "this agent",
        }
    }
}

/// A limit that holds for a request.
#[derive(Debug, Clone)]
pub struct Claim {
    /// Whom it holds for.
    pub subject: Subject,
    /// How much that one may use.
    pub limits: Arc<Limits>,
}

/// The counts of this process. They live on over reloads, whatever becomes of the limits.
#[derive(Debug)]
pub struct Counters {
    /// Of keys and agents: as many as configurations have named.
    named: Mutex<HashMap<Subject, Arc<Mutex<Meter>>>>,
    users: Mutex<LruCache<Subject, Arc<Mutex<Meter>>>>,
    began: Instant,
    wall: fn() -> SystemTime,
}

impl Default for Counters {
    fn default() -> Self {
        Counters { named: Mutex::default(), users: Mutex::new(LruCache::new(MAX_USERS)), began: Instant::now(), wall: SystemTime::now }
    }
}

/// A request that was admitted. Dropped, it is over for `concurrent`; what it used is what was charged, or the estimate.
#[derive(Debug)]
pub struct Permit {
    counters: Arc<Counters>,
    held: Vec<Held>,
    estimate: Spent,
    is_charged: bool,
}

#[derive(Debug)]
struct Held {
    meter: Arc<Mutex<Meter>>,
    limits: Arc<Limits>,
}

/// How far the caller is from its rates, for the headers that clients read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// The rate of requests of which the least is left.
    pub requests: Option<Level>,
    /// The same for tokens.
    pub tokens: Option<Level>,
    /// How long a refused request should wait.
    pub wait: Option<Duration>,
}

impl Counters {
    /// Admits a request that is taken to use `estimate`, or tells why not; then nothing is counted.
    pub fn admit(self: &Arc<Self>, claims: Vec<Claim>, estimate: Spent) -> (Result<Permit, Error>, Standing) {
        let now = self.now();
        let held: Vec<Held> = claims.iter().map(|claim| Held { meter: self.meter(&claim.subject), limits: claim.limits.clone() }).collect();
        // Locked in the order of the claims, which is the same for all requests: key, user, agent.
        let mut meters: Vec<MutexGuard<'_, Meter>> = held.iter().map(|held| lock(&held.meter)).collect();
        let refused =
            meters.iter_mut().zip(&claims).find_map(|(meter, claim)| Some((meter.check(&claim.limits, estimate, now).err()?, claim)));
        if refused.is_none() {
            meters.iter_mut().zip(&claims).for_each(|(meter, claim)| meter.begin(&claim.limits, estimate, now));
        }
        let mut standing = Standing::default();
        for (meter, claim) in meters.iter().zip(&claims) {
            let (requests, tokens) = meter.levels(&claim.limits, now);
            standing.requests = scarcer(standing.requests, requests);
            standing.tokens = scarcer(standing.tokens, tokens);
        }
        drop(meters);
        match refused {
            None => (Ok(Permit { counters: self.clone(), held, estimate, is_charged: false }), standing),
            Some((refusal, claim)) => {
                let (error, wait) = refused_by(refusal, claim);
                (Err(error), Standing { wait, ..standing })
            }
        }
    }

    fn meter(&self, subject: &Subject) -> Arc<Mutex<Meter>> {
        if matches!(subject, Subject::User(..)) {
            return lock(&self.users).get_or_insert_ref(subject, Arc::default).clone();
        }
        let mut named = lock(&self.named);
        if let Some(meter) = named.get(subject) {
            return meter.clone();
        }
        named.entry(subject.clone()).or_default().clone()
    }

    fn now(&self) -> Now {
        let today = (self.wall)().duration_since(UNIX_EPOCH).unwrap_or_default();
        let day = today.as_secs() / DAY.as_secs();
        let rest = DAY - Duration::from_secs(today.as_secs() % DAY.as_secs());
        Now { nanos: u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX), day, rest }
    }
}

impl Permit {
    /// Whether anybody wants to know how many tokens the request uses, and what they cost.
    pub fn counts_tokens(&self) -> bool {
        self.held.iter().any(|held| {
            let Limits { tokens_per_minute, tokens_per_day, cost_per_day, .. } = &*held.limits;
            tokens_per_minute.is_some() || tokens_per_day.is_some() || cost_per_day.is_some()
        })
    }

    /// What the request is taken to use.
    pub fn estimate(&self) -> Spent {
        self.estimate
    }

    /// What the request has used, once it is known. Called once; later calls change nothing.
    pub fn charge(&mut self, spent: Spent) {
        if std::mem::replace(&mut self.is_charged, true) {
            return;
        }
        let now = self.counters.now();
        for held in &self.held {
            lock(&held.meter).correct(&held.limits, self.estimate, spent, now);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.held.iter().for_each(|held| lock(&held.meter).end());
    }
}

impl Standing {
    /// The headers that tell it: names without their prefix `x-ratelimit-`, and values.
    pub fn headers(&self) -> Vec<(&'static str, String)> {
        let mut headers = Vec::new();
        let names = [
            (self.requests, ["x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"]),
            (self.tokens, ["x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"]),
        ];
        for (level, [limit, remaining, reset]) in names {
            if let Some(level) = level {
                headers.extend([(limit, level.limit.to_string()), (remaining, level.remaining.to_string()), (reset, written(level.reset))]);
            }
        }
        headers.extend(self.wait.map(|wait| ("retry-after-ms", wait.as_millis().max(1).to_string())));
        headers
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn scarcer(a: Option<Level>, b: Option<Level>) -> Option<Level> {
    match (a, b) {
        (Some(a), Some(b)) if b.remaining < a.remaining => Some(b),
        (Some(a), _) => Some(a),
        (None, b) => b,
    }
}

/// The error that a refused client gets, and how long it should wait.
fn refused_by(refusal: Refusal, claim: &Claim) -> (Error, Option<Duration>) {
    let (limits, whose) = (&claim.limits, claim.subject.words());
    let per = |limit: Option<u64>, unit: &str| format!("The limit of {whose} is reached: {} {unit}.", limit.unwrap_or_default());
    let again = |wait: Duration| format!(" Please try again in {}.", written(wait));
    let (name, kind, message, wait) = match refusal {
        Refusal::Requests(wait) => {
            let message = per(limits.requests_per_minute.map(u64::from), "requests per minute") + &again(wait);
            ("requests_per_minute", Kind::RateLimited, message, Some(wait))
        }
        Refusal::Tokens(wait) => {
            ("tokens_per_minute", Kind::TokensLimited, per(limits.tokens_per_minute, "tokens per minute") + &again(wait), Some(wait))
        }
        Refusal::Concurrent => (
            "concurrent",
            Kind::ConcurrencyLimited,
            per(limits.concurrent.map(u64::from), "requests at once"),
            Some(Duration::from_secs(1)),
        ),
        Refusal::TokensOfDay(rest) => {
            ("tokens_per_day", Kind::QuotaExceeded, per(limits.tokens_per_day, "tokens per day (UTC)"), Some(rest))
        }
        Refusal::CostOfDay(rest) => {
            let message = format!("The budget of {whose} for the day (UTC) is used up.");
            ("cost_per_day", Kind::QuotaExceeded, message, Some(rest))
        }
    };
    METRICS.limit_refused(name);
    let mut error = Error::new(kind, message);
    error.retry_after = wait.map(seconds);
    if kind == Kind::QuotaExceeded {
        error.should_retry = Some(false);
    }
    (error, wait)
}

/// Whole seconds, rounded up: a client that waits so long does not come too early.
fn seconds(wait: Duration) -> String {
    wait.as_millis().div_ceil(1000).to_string()
}

/// As OpenAI writes times: `250ms`, `12s`, `6m0s`, `1h2m3s`.
fn written(time: Duration) -> String {
    let ms = time.as_nanos().div_ceil(1_000_000);
    let s = ms.div_ceil(1000);
    match s {
        _ if ms < 1000 => format!("{ms}ms"),
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m{}s", s / 60, s % 60),
        _ => format!("{}h{}m{}s", s / 3600, s / 60 % 60, s % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(subject: Subject, limits: Limits) -> Claim {
        Claim { subject, limits: Arc::new(limits) }
    }

    fn requests(n: u32) -> Limits {
        Limits { requests_per_minute: Some(n), ..Limits::default() }
    }

    fn key() -> Subject {
        Subject::Key(Some("k".into()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_one_limit_refuses_uses_none_of_the_others() {
        let counters = Arc::new(Counters::default());
        let agent = || claim(Subject::Agent("a".into()), requests(1));
        let both = || vec![claim(key(), requests(10)), agent()];
        counters.admit(both(), Spent::default()).0.unwrap();
        let (refused, standing) = counters.admit(both(), Spent::default());
        let error = refused.unwrap_err();
        assert_eq!((error.kind, error.retry_after.as_deref()), (Kind::RateLimited, Some("60")));
        assert_eq!((standing.requests.unwrap().limit, standing.wait), (1, Some(Duration::from_secs(60))));
        let (_, standing) = counters.admit(vec![claim(key(), requests(10))], Spent::default());
        assert_eq!(standing.requests.unwrap().remaining, 8);
    }

    /// Twenty clients that never stop asking: as many pass as the limit says, to the request.
    #[tokio::test(start_paused = true)]
    async fn a_rate_is_exact() {
        let counters = Arc::new(Counters::default());
        let mut passed = 0;
        for _ in 0..=60_000 {
            for _ in 0..20 {
                passed += usize::from(counters.admit(vec![claim(key(), requests(600))], Spent::default()).0.is_ok());
            }
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert_eq!(passed, 600 + 600);
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_are_put_right_when_they_are_known() {
        let counters = Arc::new(Counters::default());
        let tokens = |tokens| Spent { tokens, cost: 0.0 };
        let limits = || vec![claim(key(), Limits { tokens_per_minute: Some(100), ..Limits::default() })];
        let mut permit = counters.admit(limits(), tokens(60)).0.unwrap();
        assert!(permit.counts_tokens());
        assert_eq!(counters.admit(limits(), tokens(60)).0.unwrap_err().kind, Kind::TokensLimited);
        permit.charge(tokens(10));
        permit.charge(tokens(1000));
        assert_eq!(counters.admit(limits(), tokens(60)).1.tokens.unwrap().remaining, 30);
    }

    #[tokio::test(start_paused = true)]
    async fn users_are_counted_apart_and_within_a_bound() {
        let counters = Arc::new(Counters::default());
        let user = |name: &str| vec![claim(Subject::User(Some("k".into()), name.into()), requests(1))];
        for name in ["a", "b"] {
            assert!(counters.admit(user(name), Spent::default()).0.is_ok());
            assert!(counters.admit(user(name), Spent::default()).0.is_err());
        }
        counters.admit(vec![claim(key(), requests(1))], Spent::default()).0.unwrap();
        for n in 0..=MAX_USERS.get() {
            counters.meter(&Subject::User(None, n.to_string()));
        }
        assert_eq!(lock(&counters.users).len(), MAX_USERS.get());
        assert!(counters.admit(vec![claim(key(), requests(1))], Spent::default()).0.is_err(), "users push no key out");
    }

    /// The time of day may jump; rates do not mind, and days only go on.
    #[tokio::test(start_paused = true)]
    async fn a_clock_that_jumps_gives_nothing_away() {
        fn tomorrow() -> SystemTime {
            UNIX_EPOCH + DAY * 20_000 + Duration::from_secs(60)
        }
        fn yesterday() -> SystemTime {
            tomorrow() - DAY
        }
        let limits = Limits { tokens_per_day: Some(10), ..requests(2) };
        let mut counters = Arc::new(Counters { wall: yesterday, ..Counters::default() });
        let mut ask = |wall: fn() -> SystemTime, tokens| {
            Arc::get_mut(&mut counters).unwrap().wall = wall;
            let (admitted, _) = counters.admit(vec![claim(key(), limits.clone())], Spent { tokens, cost: 0.0 });
            admitted.map(drop).map_err(|error| (error.kind, error.retry_after))
        };
        assert_eq!(ask(yesterday, 10), Ok(()));
        let rest = (DAY - Duration::from_secs(60)).as_secs().to_string();
        assert_eq!(ask(yesterday, 1), Err((Kind::QuotaExceeded, Some(rest.clone()))));
        assert_eq!(ask(tomorrow, 10), Ok(()));
        assert_eq!(ask(yesterday, 1), Err((Kind::QuotaExceeded, Some(rest))));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(ask(yesterday, 1).unwrap_err().0, Kind::QuotaExceeded);
    }

    #[test]
    fn times_are_written_as_clients_read_them() {
        let told = [1, 999, 1000, 1001, 60_000, 360_000, 3_723_000].map(|ms| written(Duration::from_millis(ms)));
        assert_eq!(told, ["1ms", "999ms", "1s", "2s", "1m0s", "6m0s", "1h2m3s"]);
        assert_eq!(written(Duration::ZERO), "0ms");
    }
}
