//! Where Redis is, as its URL says: one server, or those of Sentinels.

use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{Client, ConnectionAddr, RedisResult, TlsMode};

/// What a URL must look like.
const FORM: &str =
    "must be an address such as `redis://127.0.0.1:6379/0`, `rediss://...` over TLS, or `redis+sentinel://host:26379,host:26379/master/0`";

/// The default port of Sentinels.
const SENTINEL_PORT: u16 = 26379;

/// Where connections come from.
pub(super) enum Source {
    /// One server.
    Server(Box<Client>),
    /// Whoever the Sentinels say is the primary, asked anew for each connection.
    Sentinels(Box<SentinelClient>),
}

/// Reads a URL. `Err` says what it must be; it never repeats the URL, which may hold a password.
pub(super) fn read(url: &str) -> Result<Source, String> {
    let wrong = || FORM.to_owned();
    let Some((scheme, rest)) = url.split_once("://") else { return Err(wrong()) };
    let is_tls = match scheme {
        "redis" | "rediss" => return Client::open(url).map(|client| Source::Server(Box::new(client))).map_err(|_| wrong()),
        "redis+sentinel" => false,
        "rediss+sentinel" => true,
        _ => return Err(wrong()),
    };
    let (who, rest) = rest.rsplit_once('@').map_or((None, rest), |(who, rest)| (Some(who), rest));
    let (hosts, path) = rest.split_once('/').ok_or_else(wrong)?;
    let (master, db) = path.split_once('/').unwrap_or((path, "0"));
    let hosts: Option<Vec<ConnectionAddr>> = hosts.split(',').map(sentinel).collect();
    let (hosts, db) = (hosts.ok_or_else(wrong)?, db.parse::<i64>().map_err(|_| wrong())?);
    if master.is_empty() {
        return Err(wrong());
    }
    let client = sentinels(hosts, master, db, who, is_tls);
    client.map(|client| Source::Sentinels(Box::new(client))).map_err(|_| wrong())
}

fn sentinel(host: &str) -> Option<ConnectionAddr> {
    let (name, port) = host.rsplit_once(':').unwrap_or((host, ""));
    let port = if port.is_empty() { SENTINEL_PORT } else { port.parse().ok()? };
    (!name.is_empty()).then(|| ConnectionAddr::Tcp(name.trim_matches(['[', ']']).to_owned(), port))
}

fn sentinels(hosts: Vec<ConnectionAddr>, master: &str, db: i64, who: Option<&str>, is_tls: bool) -> RedisResult<SentinelClient> {
    let decoded = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
    let mut builder = SentinelClientBuilder::new(hosts, master, SentinelServerType::Master)?.set_client_to_redis_db(db);
    if let Some((user, password)) = who.map(|who| who.split_once(':').unwrap_or(("", who))) {
        builder = builder.set_client_to_redis_password(decoded(password));
        if !user.is_empty() {
            builder = builder.set_client_to_redis_username(decoded(user));
        }
    }
    if is_tls {
        builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
    }
    builder.build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        crate::tls::install_provider();
        for url in ["redis://h", "redis://:pw@h:6379/2", "rediss://h:6380"] {
            assert!(matches!(read(url), Ok(Source::Server(_))), "{url}");
        }
        for url in ["redis+sentinel://a:26379,b,[::1]:7/main", "rediss+sentinel://user:p%40w@a/main/3"] {
            assert!(matches!(read(url), Ok(Source::Sentinels(_))), "{url}");
        }
        for url in ["", "h:6379", "http://h", "redis+sentinel://a", "redis+sentinel://a/", "redis+sentinel://a:x/m", "redis+sentinel:///m"]
        {
            assert_eq!(read(url).err().as_deref(), Some(FORM), "{url}");
        }
    }
}
