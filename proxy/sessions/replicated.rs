//! Sessions in Redis, where every replica of the gateway finds them.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sha2::{Digest, Sha256};

use super::name::Name;
use super::{Bounds, Store, Summary, Turn};
use crate::error::{Error, Kind, Result};
use crate::shared::{Away, Reply, Script, Shared};

/// Who asks, in metrics.
const FEATURE: &str = "sessions";

/// How all keys begin.
const PREFIX: &str = "moongate:session";

/// How many sessions of the index are looked at for one page.
const LOOKED_AT: usize = 1000;

/// Turns are a list, and what is known of them a hash: `bytes`, `at`. `KEYS` turns, about; `ARGV` turn, ttl, most turns, most bytes, at.
static APPEND: Script = Script::new(
    "redis.call('RPUSH', KEYS[1], ARGV[1])
    local bytes = redis.call('HINCRBY', KEYS[2], 'bytes', #ARGV[1])
    local turns = redis.call('LLEN', KEYS[1])
    while turns > tonumber(ARGV[3]) or bytes > tonumber(ARGV[4]) do
      local oldest = redis.call('LPOP', KEYS[1])
      if not oldest then break end
      bytes = redis.call('HINCRBY', KEYS[2], 'bytes', -#oldest)
      turns = turns - 1
    end
    redis.call('HSET', KEYS[2], 'at', ARGV[5])
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
    redis.call('PEXPIRE', KEYS[2], ARGV[2])
    return turns",
);

static READ: Script = Script::new("return redis.call('LRANGE', KEYS[1], 0, -1)");

static DELETE: Script = Script::new("local n = redis.call('DEL', KEYS[1]) redis.call('DEL', KEYS[2]) return n");

/// `turns, bytes, at`, all 0 for a session that is over.
static ABOUT: Script = Script::new(
    "return { redis.call('LLEN', KEYS[1]), tonumber(redis.call('HGET', KEYS[2], 'bytes') or 0), tonumber(redis.call('HGET', KEYS[2], 'at') or 0) }",
);

/// The order in which sessions were used last, for lists. `ARGV` place, member.
static USED: Script = Script::new("return redis.call('ZADD', KEYS[1], ARGV[1], ARGV[2])");

static FORGET: Script = Script::new("return redis.call('ZREM', KEYS[1], ARGV[1])");

/// Members of the index, the last used first. `ARGV` the member behind which they begin, perhaps empty, and how many.
static INDEX: Script = Script::new(
    "local first = 0
    if ARGV[1] ~= '' then
      local rank = redis.call('ZREVRANK', KEYS[1], ARGV[1])
      if rank then first = rank + 1 end
    end
    return redis.call('ZREVRANGE', KEYS[1], first, first + tonumber(ARGV[2]) - 1)",
);

/// The sessions of all replicas.
#[derive(Debug)]
pub(super) struct Replicated(pub(super) Arc<Shared>);

/// The keys of one session. Ids are clients' and may be anything: keys hold their hash.
struct Keys {
    turns: Vec<u8>,
    about: Vec<u8>,
}

impl Keys {
    fn of(name: &Name) -> Keys {
        let mut hash = Sha256::new();
        hash.update((name.scope.len() as u64).to_be_bytes());
        hash.update(&name.scope);
        hash.update(&name.id);
        let hash: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let key = |what: &str| format!("{PREFIX}:{{{hash}}}:{what}").into_bytes();
        Keys { turns: key("turns"), about: key("about") }
    }
}

/// The index of one scope, and that of all.
fn indexes(scope: &str) -> [Vec<u8>; 2] {
    [index(Some(scope)), index(None)]
}

fn index(scope: Option<&str>) -> Vec<u8> {
    match scope {
        Some(scope) => format!("{PREFIX}:used:key:{scope}").into_bytes(),
        None => format!("{PREFIX}:used:all").into_bytes(),
    }
}

fn member(name: &Name) -> Vec<u8> {
    serde_json::to_vec(&(&name.scope, &name.id)).unwrap_or_default()
}

fn named(member: &[u8]) -> Option<Name> {
    let (scope, id) = serde_json::from_slice(member).ok()?;
    Some(Name { scope, id })
}

#[async_trait]
impl Store for Replicated {
    async fn read(&self, name: &Name) -> Result<Vec<Turn>> {
        let keys = Keys::of(name);
        let Reply::List(turns) = self.0.eval(FEATURE, &READ, &[&keys.turns], &[]).await.map_err(away)? else { return Ok(Vec::new()) };
        Ok(turns.iter().filter_map(|turn| if let Reply::Bytes(text) = turn { serde_json::from_slice(text).ok() } else { None }).collect())
    }

    async fn append(&self, name: &Name, turn: &Turn, ttl: Duration, bounds: Bounds) -> Result<()> {
        let keys = Keys::of(name);
        let text = serde_json::to_vec(turn).unwrap_or_default();
        let numbers = [ttl.as_millis().to_string(), bounds.max_turns.to_string(), bounds.max_bytes.to_string(), turn.at.to_string()];
        let mut arguments: Vec<&[u8]> = vec![&text];
        arguments.extend(numbers.iter().map(String::as_bytes));
        self.0.eval_confirmed(FEATURE, &APPEND, &[&keys.turns, &keys.about], &arguments).await.map_err(away)?;
        // The turn is there; that a list shows it is worth no failure.
        let (place, member) = (turn.at.to_string(), member(name));
        for index in indexes(&name.scope) {
            let _ = self.0.eval(FEATURE, &USED, &[&index], &[place.as_bytes(), &member]).await;
        }
        Ok(())
    }

    async fn list(&self, scope: Option<&str>, after: Option<&str>, limit: usize) -> Result<Vec<Summary>> {
        let index = index(scope);
        let after = after.map(|id| member(&Name::new(scope.unwrap_or_default(), id))).unwrap_or_default();
        let many = LOOKED_AT.to_string();
        let found = self.0.eval(FEATURE, &INDEX, &[&index], &[&after, many.as_bytes()]).await.map_err(away)?;
        let mut listed = Vec::new();
        let Reply::List(members) = found else { return Ok(listed) };
        for name in members.iter().filter_map(|member| if let Reply::Bytes(member) = member { named(member) } else { None }) {
            if listed.len() == limit {
                break;
            }
            match self.summary(&name).await? {
                Some(summary) => listed.push(summary),
                None => self.forget(&name).await,
            }
        }
        Ok(listed)
    }

    async fn delete(&self, name: &Name) -> Result<bool> {
        let keys = Keys::of(name);
        let deleted = self.0.eval_confirmed(FEATURE, &DELETE, &[&keys.turns, &keys.about], &[]).await.map_err(away)?;
        self.forget(name).await;
        Ok(deleted == Reply::Int(1))
    }
}

impl Replicated {
    /// `None` for a session that is over.
    async fn summary(&self, name: &Name) -> Result<Option<Summary>> {
        let keys = Keys::of(name);
        let about = self.0.eval(FEATURE, &ABOUT, &[&keys.turns, &keys.about], &[]).await.map_err(away)?;
        let Reply::List(about) = about else { return Ok(None) };
        let number = |i: usize| if let Some(Reply::Int(number)) = about.get(i) { u64::try_from(*number).unwrap_or(0) } else { 0 };
        let (turns, bytes, updated_at) = (number(0) as usize, number(1) as usize, number(2));
        Ok((turns > 0).then(|| Summary { id: name.id.clone(), key: name.scope.clone(), updated_at, turns, bytes }))
    }

    async fn forget(&self, name: &Name) {
        let member = member(name);
        for index in indexes(&name.scope) {
            let _ = self.0.eval(FEATURE, &FORGET, &[&index], &[&member]).await;
        }
    }
}

fn away(away: Away) -> Error {
    let mut error = Error::new(Kind::SessionsAway, "The conversations are not available now.").source(away);
    error.should_retry = Some(false);
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kept_apart_whatever_they_are() {
        let key = |scope: &str, id: &str| Keys::of(&Name::new(scope, id)).turns;
        assert_ne!(key("a", "bc"), key("ab", "c"));
        assert_eq!(key("a", "{x}:\n").iter().filter(|byte| **byte == b'{').count(), 1, "one hash tag");
        let name = Name::new("k", "a\"b\u{e9}");
        assert_eq!(named(&member(&name)), Some(name));
    }
}
