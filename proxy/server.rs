//! Starts the gateway and stops it: the listener, the control runtime, the signals.

use std::net::ToSocketAddrs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora::server::configuration::ServerConf;
use pingora::server::{RunArgs, Server, ShutdownSignal, ShutdownSignalWatch};
use tokio::net::TcpSocket;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::Fault;
use crate::flight::Flight;
use crate::gateway::Gateway;
use crate::snapshot::reload::Snapshots;
use crate::snapshot::watch;
use crate::tls;

/// How the gateway is started.
#[derive(Debug, Clone)]
pub struct Options {
    /// The configuration's file.
    pub config: PathBuf,
    /// In place of `server.listen`.
    pub listen: Option<String>,
}

/// Why the gateway did not start.
#[derive(Debug)]
pub enum StartError {
    /// The configuration has faults.
    Config(Vec<Fault>),
    /// The system refused something.
    System(std::io::Error),
}

impl From<std::io::Error> for StartError {
    fn from(error: std::io::Error) -> Self {
        StartError::System(error)
    }
}

/// Serves until a signal says stop. SIGTERM lets requests in flight finish, SIGINT and a second SIGTERM do not; SIGHUP reloads.
pub fn serve(options: &Options) -> Result<(), StartError> {
    tls::install_provider();
    // Connections to MCP servers, reloads and health checks live here, apart from the requests. Pingora forks only as a daemon, which it never is here.
    let control = tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name("control").enable_all().build()?;
    let snapshots = Snapshots::load(&options.config, control.handle()).map_err(StartError::Config)?;
    let snapshot = snapshots.current();
    for warning in &snapshot.warnings {
        tracing::warn!("{warning}");
    }
    let listen = options.listen.clone().unwrap_or_else(|| snapshot.document.server.listen.clone());
    check_free(&listen).map_err(|e| std::io::Error::new(e.kind(), format!("cannot listen on {listen}: {e}")))?;
    let flight = Arc::new(Flight::default());
    let mut server = Server::new_with_opt_and_conf(None, conf());
    server.bootstrap();
    let gateway = Gateway::new(snapshots.clone(), flight.clone(), control.handle().clone());
    let mut service = pingora::proxy::http_proxy_service(&server.configuration, gateway);
    service.add_tcp(&listen);
    server.add_service(service);
    start_control(&control, &snapshots);
    tracing::info!("moongate listens on http://{listen}");
    let stop = Stop { flight, snapshots: snapshots.clone() };
    drop(snapshot);
    server.run(RunArgs { shutdown_signal: Box::new(stop) });
    control.block_on(async { snapshots.current().stop().await });
    control.shutdown_timeout(Duration::from_secs(1));
    Ok(())
}

/// Pingora panics on an address that is taken: this asks first. It binds and does not listen: a client that connected now would be cut off.
fn check_free(listen: &str) -> std::io::Result<()> {
    let mut refused = std::io::ErrorKind::AddrNotAvailable.into();
    for address in listen.to_socket_addrs()? {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
        match socket.and_then(|socket| socket.set_reuseaddr(true).and_then(|()| socket.bind(address))) {
            Ok(()) => return Ok(()),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

fn conf() -> ServerConf {
    ServerConf {
        threads: std::thread::available_parallelism().map_or(2, usize::from),
        // The wait for requests in flight is ours, and ends as soon as there are none.
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(1),
        max_retries: 16,
        upstream_keepalive_pool_size: 1024,
        ..ServerConf::default()
    }
}

fn start_control(control: &Runtime, snapshots: &Arc<Snapshots>) {
    let started = snapshots.clone();
    control.spawn(async move { started.start().await });
    control.spawn(watch::follow_files(snapshots.clone()));
    control.spawn(watch::follow_upstreams(snapshots.clone()));
    control.spawn(reload_on_hangup(snapshots.clone()));
}

async fn reload_on_hangup(snapshots: Arc<Snapshots>) {
    match signal(SignalKind::hangup()) {
        Ok(mut hangups) => {
            while hangups.recv().await.is_some() {
                // A refusal is logged where it happens.
                let _ = snapshots.reload().await;
            }
        }
        Err(error) => tracing::warn!("SIGHUP cannot be received: {error}"),
    }
}

/// When Pingora is told to stop: after the drain, or at once.
struct Stop {
    flight: Arc<Flight>,
    snapshots: Arc<Snapshots>,
}

#[async_trait]
impl ShutdownSignalWatch for Stop {
    async fn recv(&self) -> ShutdownSignal {
        let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
            tracing::error!("signals cannot be received");
            return std::future::pending().await;
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => return ShutdownSignal::FastShutdown,
        }
        tracing::info!("stopping: requests in flight may finish");
        self.flight.stop();
        let limit = self.snapshots.current().document.server.shutdown_timeout;
        tokio::select! {
            idle = self.flight.wait_idle(limit) => {
                if !idle {
                    tracing::warn!("requests in flight are cut off: they took longer than shutdown_timeout");
                }
                ShutdownSignal::GracefulTerminate
            }
            _ = terminate.recv() => ShutdownSignal::FastShutdown,
            _ = interrupt.recv() => ShutdownSignal::FastShutdown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_free_until_somebody_listens() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        assert_eq!(check_free(&address).unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
        drop(taken);
        check_free(&address).unwrap();
        assert!(check_free("no address").is_err());
    }
}
