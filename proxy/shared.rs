//! What replicas share: one Redis, asked by scripts of one round trip. The only room that knows Redis.
//!
//! A call waits a bounded time. When Redis is away, calls fail at once and somebody looks for it in the background, so that it is found again
//! without a restart; what is done meanwhile is the business of whoever calls.

mod address;

use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use futures_util::FutureExt;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisResult, Value};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::metrics::METRICS;
use address::Source;

/// How long connecting may take, and the question whether it is well.
const CONNECTING: Duration = Duration::from_secs(2);

/// How often it is asked how it is, while nobody else does.
const PULSE: Duration = Duration::from_secs(1);

/// How soon it is tried again to connect.
const RETRY: Duration = Duration::from_millis(200);

/// Whether it takes writes: a replica does not, nor one whose memory is full.
static PROBE: Script = Script::new("return redis.call('SET', KEYS[1], '1', 'PX', '1000')");

/// A script that Redis runs in one step.
pub struct Script {
    text: &'static str,
    made: std::sync::OnceLock<redis::Script>,
}

impl Script {
    /// A script in Redis' own Lua.
    pub const fn new(text: &'static str) -> Script {
        Script { text, made: std::sync::OnceLock::new() }
    }
}

/// What a script returns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Nothing.
    Nil,
    /// A whole number.
    Int(i64),
    /// A string.
    Bytes(Vec<u8>),
    /// A table.
    List(Vec<Reply>),
}

/// Redis has not done what it was asked to, or not said so: why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Away(pub String);

impl std::fmt::Display for Away {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Redis is away: {}", self.0)
    }
}

impl std::error::Error for Away {}

/// One Redis.
#[derive(Debug)]
pub struct Shared {
    link: Arc<Link>,
    wait_replicas: usize,
    /// How long a call waits for its answer.
    patience: Duration,
}

/// The connection of this moment.
#[derive(Debug, Default)]
struct Link {
    connection: ArcSwapOption<Connections>,
    broken: Notify,
}

/// Two, for a write that waits for replicas holds up everything behind it.
#[derive(Debug)]
struct Connections {
    quick: MultiplexedConnection,
    confirmed: MultiplexedConnection,
}

impl Shared {
    /// Reads the address and begins to connect, on `control`. A write with `eval_confirmed` counts once so many replicas have it; a call waits
    /// for `patience`. `Err` says what is wrong with the address.
    pub fn build(url: &str, wait_replicas: usize, patience: Duration, control: &Handle) -> Result<Shared, String> {
        let source = address::read(url)?;
        let link = Arc::<Link>::default();
        METRICS.shared_up.set(0);
        control.spawn(keep(source, patience, Arc::downgrade(&link)));
        Ok(Shared { link, wait_replicas, patience })
    }

    /// Runs a script: one round trip. All keys of one call belong together, and share a hash tag. `feature` is who asks, for the metric.
    pub async fn eval(&self, feature: &'static str, script: &'static Script, keys: &[&[u8]], arguments: &[&[u8]]) -> Result<Reply, Away> {
        let called = async {
            let connections = self.connections()?;
            self.call(&connections, &mut connections.quick.clone(), script, keys, arguments).await
        };
        called.await.inspect_err(|_| METRICS.shared_failed(feature))
    }

    /// The same for a write that must not be lost: it counts once `wait_replicas` have it, too. `Err` when they did not say so in time; then the
    /// write may have happened or not.
    pub async fn eval_confirmed(
        &self,
        feature: &'static str,
        script: &'static Script,
        keys: &[&[u8]],
        arguments: &[&[u8]],
    ) -> Result<Reply, Away> {
        if self.wait_replicas == 0 {
            return self.eval(feature, script, keys, arguments).await;
        }
        let confirmed = async {
            let connections = self.connections()?;
            let mut connection = connections.confirmed.clone();
            let reply = self.call(&connections, &mut connection, script, keys, arguments).await?;
            let mut wait = redis::cmd("WAIT");
            wait.arg(self.wait_replicas).arg(u64::try_from(self.patience.as_millis()).unwrap_or(u64::MAX));
            let n = tokio::time::timeout(2 * self.patience, wait.query_async::<usize>(&mut connection)).await;
            match n {
                Ok(Ok(n)) if n >= self.wait_replicas => Ok(reply),
                Ok(Ok(n)) => Err(Away(format!("{n} of {} replicas have the write", self.wait_replicas))),
                Ok(Err(error)) => Err(self.lost(&connections, error.to_string())),
                Err(_) => Err(self.lost(&connections, "no answer in time".into())),
            }
        };
        confirmed.await.inspect_err(|_| METRICS.shared_failed(feature))
    }

    fn connections(&self) -> Result<Arc<Connections>, Away> {
        self.link.connection.load_full().ok_or_else(|| Away("there is no connection".into()))
    }

    async fn call(
        &self,
        connections: &Arc<Connections>,
        connection: &mut MultiplexedConnection,
        script: &'static Script,
        keys: &[&[u8]],
        arguments: &[&[u8]],
    ) -> Result<Reply, Away> {
        match tokio::time::timeout(self.patience, run(connection, script, keys, arguments)).await {
            Ok(Ok(value)) => Ok(reply(value)),
            // A bug of the script's says nothing about the server.
            Ok(Err(error)) if is_of_script(&error) => Err(Away(error.to_string())),
            Ok(Err(error)) => Err(self.lost(connections, error.to_string())),
            Err(_) => Err(self.lost(connections, format!("no answer within {} ms", self.patience.as_millis()))),
        }
    }

    /// These connections are good for nothing any more: they are left, and made anew, unless that has happened already.
    fn lost(&self, connections: &Arc<Connections>, why: String) -> Away {
        if self.link.connection.load().as_ref().is_some_and(|current| Arc::ptr_eq(current, connections)) {
            self.link.broken.notify_one();
        }
        Away(why)
    }
}

async fn run(connection: &mut MultiplexedConnection, script: &'static Script, keys: &[&[u8]], arguments: &[&[u8]]) -> RedisResult<Value> {
    let mut call = script.made.get_or_init(|| redis::Script::new(script.text)).prepare_invoke();
    keys.iter().for_each(|key| _ = call.key(*key));
    arguments.iter().for_each(|argument| _ = call.arg(*argument));
    call.invoke_async(connection).await
}

fn is_of_script(error: &redis::RedisError) -> bool {
    error.code() == Some("ERR") && !error.to_string().contains("OOM")
}

fn reply(value: Value) -> Reply {
    match value {
        Value::Int(number) => Reply::Int(number),
        Value::BulkString(bytes) => Reply::Bytes(bytes),
        Value::SimpleString(text) => Reply::Bytes(text.into_bytes()),
        Value::Okay => Reply::Bytes(b"OK".to_vec()),
        Value::Array(values) | Value::Set(values) => Reply::List(values.into_iter().map(reply).collect()),
        _ => Reply::Nil,
    }
}

/// Keeps a connection while somebody holds the link: connects, sees whether it is well, and connects anew when it is not.
async fn keep(mut source: Source, patience: Duration, link: Weak<Link>) {
    let mut away_since = None::<Instant>;
    loop {
        let connected = tokio::time::timeout(CONNECTING, connect(&mut source, patience)).await;
        let connected = connected.unwrap_or_else(|_| Err(format!("no connection within {} s", CONNECTING.as_secs())));
        let Some(held) = link.upgrade() else { return };
        let why = match connected {
            Ok(connections) => {
                let connections = Arc::new(connections);
                // What was said of the connections before these.
                let _ = held.broken.notified().now_or_never();
                held.connection.store(Some(connections.clone()));
                METRICS.shared_up.set(1);
                match away_since.take() {
                    Some(since) => tracing::info!("Redis is there again, after {:.1} s", since.elapsed().as_secs_f64()),
                    None => tracing::info!("Redis is there"),
                }
                drop(held);
                let Some(why) = watch(&connections, patience, &link).await else { return };
                why
            }
            Err(why) => why,
        };
        let Some(held) = link.upgrade() else { return };
        held.connection.store(None);
        METRICS.shared_up.set(0);
        drop(held);
        if away_since.is_none() {
            away_since = Some(Instant::now());
            tracing::warn!("Redis is away: {why}");
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Returns why the connection is good for nothing any more; `None` when nobody wants it.
async fn watch(connections: &Connections, patience: Duration, link: &Weak<Link>) -> Option<String> {
    loop {
        let held = link.upgrade()?;
        let is_broken = tokio::time::timeout(PULSE, held.broken.notified()).await.is_ok();
        drop(held);
        if let Err(why) = probe(&mut connections.quick.clone(), patience).await {
            return Some(why);
        }
        if is_broken {
            // It answers now, but somebody waited in vain: a new connection has nothing old in it.
            return Some("a call was not answered".into());
        }
    }
}

async fn connect(source: &mut Source, patience: Duration) -> Result<Connections, String> {
    let config = AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECTING)).set_response_timeout(None);
    let mut open = async || match source {
        Source::Server(client) => client.get_multiplexed_async_connection_with_config(&config).await,
        Source::Sentinels(sentinels) => sentinels.get_async_connection_with_config(&config).await,
    };
    let mut quick = open().await.map_err(|error| error.to_string())?;
    let confirmed = open().await.map_err(|error| error.to_string())?;
    probe(&mut quick, patience).await?;
    Ok(Connections { quick, confirmed })
}

async fn probe(connection: &mut MultiplexedConnection, patience: Duration) -> Result<(), String> {
    match tokio::time::timeout(patience, run(connection, &PROBE, &[b"moongate:probe"], &[])).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} ms", patience.as_millis())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_of_our_own_kind() {
        let value = Value::Array(vec![Value::Int(1), Value::BulkString(b"a".to_vec()), Value::Okay, Value::Nil]);
        assert_eq!(reply(value), Reply::List(vec![Reply::Int(1), Reply::Bytes(b"a".to_vec()), Reply::Bytes(b"OK".to_vec()), Reply::Nil]));
    }

    #[tokio::test]
    async fn nobody_waits_for_a_redis_that_is_not_there() {
        let shared = Shared::build("redis://127.0.0.1:1/0", 0, Duration::from_secs(1), &Handle::current()).unwrap();
        let began = Instant::now();
        for _ in 0..100 {
            assert!(shared.eval("sessions", &PROBE, &[b"k"], &[]).await.is_err());
        }
        assert!(began.elapsed() < Duration::from_secs(1));
        assert!(Shared::build("http://h", 0, Duration::from_secs(1), &Handle::current()).is_err());
    }
}
