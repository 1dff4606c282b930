//! One worker process: started, asked, watched, and ended. Its calls end with it, each with a word about why.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::process::Stdio;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use nix::sys::signal::Signal;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::Command;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::codec::{FramedRead, FramedWrite, LengthDelimitedCodec};
use tokio_util::sync::CancellationToken;

use super::call::{Call, Event, Inbox, Outcome};
use super::frames::{About, AgentTarget, Loaded, Order, Report, RunOrder, codec};
use super::settings::Settings;
use crate::chat::Object;
use crate::metrics::METRICS;
use crate::program::{self, Program};

/// How long a worker may take until Python stands and the SDK is imported, and then to import the project's modules.
const START: Duration = Duration::from_secs(60);
const LOAD: Duration = Duration::from_secs(60);
/// How often a worker is asked whether it is there.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// How long it may be silent: with a cancelled call that has not ended, and without.
const UNRULY: Duration = Duration::from_secs(2);
const SILENT: Duration = Duration::from_secs(10);
/// How long the other calls of a worker that has a stuck thread may take to end.
const FAREWELL: Duration = Duration::from_secs(30);
/// The part of its memory limit at which a worker takes no more calls.
const FULL: f64 = 0.9;
/// Frames that may wait for a worker before those who send them have to.
const QUEUE: usize = 256;
/// How long the last words of a worker that ended are waited for.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// A worker whose interpreter stands.
pub(super) struct Worker {
    /// The interpreter.
    pub(super) about: About,
    /// How it is reached.
    pub(super) line: Arc<Line>,
    program: Program,
    reports: FramedRead<OwnedReadHalf, LengthDelimitedCodec>,
    last_line: watch::Receiver<String>,
    memory_limit: u64,
}

/// The way to a worker, held by its calls.
pub(super) struct Line {
    orders: mpsc::Sender<Bytes>,
    /// What must not wait: the beginning and the end of calls, and pings.
    urgent: mpsc::UnboundedSender<Bytes>,
    calls: Mutex<Calls>,
    next_call: AtomicU64,
    /// Runs and calls that are alive in it, as it says itself.
    tasks: AtomicI64,
    /// It takes no more calls.
    retired: CancellationToken,
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct Calls {
    running: HashMap<u64, Inbox>,
    /// Cancelled, and not ended yet; since when.
    cancelled: HashMap<u64, Instant>,
    /// The worker is gone; how.
    gone: Option<String>,
}

impl Worker {
    /// Starts the program and waits until it is ready. `Err` says why it is not, in words for the operator.
    pub(super) async fn start(settings: &Settings) -> Result<Worker, String> {
        let path = settings.program.as_ref().map_err(Clone::clone)?;
        let (ours, theirs) = StdStream::pair().map_err(|error| format!("no socket for a Python worker: {error}"))?;
        let socket = ours.set_nonblocking(true).and_then(|()| UnixStream::from_std(ours));
        let socket = socket.map_err(|error| format!("no socket for a Python worker: {error}"))?;
        let mut command = Command::new(path);
        program::bare(&mut command, &settings.env);
        command
            .arg("--settings")
            .arg(settings.for_worker().to_string())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("MALLOC_ARENA_MAX", "2")
            .current_dir(&settings.root)
            .stdin(Stdio::from(OwnedFd::from(theirs)));
        let started = Program::start(&mut command);
        // The command holds the worker's end of the socket until it is dropped: the end of the worker would not be seen.
        drop(command);
        let mut program = started.map_err(|error| format!("{} cannot be started: {error}", path.display()))?;
        let last_line = follow_output(&mut program);
        let (reader, writer) = socket.into_split();
        let (line, writing) = Line::new(writer);
        #[expect(clippy::disallowed_methods, reason = "it ends with the line, whose frames it writes")]
        tokio::spawn(writing);
        let reports = FramedRead::new(reader, codec());
        let mut worker = Worker { about: About::default(), line, program, reports, last_line, memory_limit: settings.memory_limit };
        worker.about = worker.expect(START, |report| if let Report::Ready(about) = report { Some(about) } else { None }).await?;
        Ok(worker)
    }

    /// Whether its process still runs.
    pub(super) fn is_alive(&mut self) -> bool {
        matches!(self.program.child.try_wait(), Ok(None))
    }

    /// Its process.
    pub(super) fn pid(&self) -> Option<u32> {
        self.program.child.id()
    }

    /// Imports everything that is named. `Err` when the worker did not survive it.
    pub(super) async fn load(&mut self, agents: &[AgentTarget], tools: &[String]) -> Result<Loaded, String> {
        self.line.send(&Order::Load { agents, tools }).await;
        self.expect(LOAD, |report| if let Report::Loaded(loaded) = report { Some(loaded) } else { None }).await
    }

    async fn expect<T>(&mut self, limit: Duration, read: impl Fn(Report) -> Option<T>) -> Result<T, String> {
        let waiting = async {
            while let Some(Ok(frame)) = self.reports.next().await {
                let report = serde_json::from_slice(&frame).map_err(|error| format!("the Python worker wrote nonsense: {error}"))?;
                if let Some(found) = read(report) {
                    return Ok(Some(found));
                }
            }
            Ok(None)
        };
        match tokio::time::timeout(limit, waiting).await {
            Ok(Ok(Some(found))) => Ok(found),
            Ok(Ok(None)) => Err(format!("the Python worker {}", self.last_words().await)),
            Ok(Err(why)) => Err(why),
            Err(_) => Err(format!("the Python worker is not ready after {} s", limit.as_secs())),
        }
    }

    /// Carries calls until the worker is gone: it ended by itself, it had to be ended, or it is retired and has nothing left to do.
    /// Returns how, in words; every call that was in flight has been told so.
    pub(super) async fn work(mut self) -> String {
        let why = self.carry().await;
        self.line.retired.cancel();
        let how = match why {
            Some(why) => {
                self.program.signal(Signal::SIGKILL);
                why
            }
            None => self.last_words().await,
        };
        self.line.lose_all(&how);
        how
    }

    /// Returns why the worker has to go; `None` when it went by itself.
    async fn carry(&mut self) -> Option<String> {
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = Instant::now();
        let mut n = 0;
        let mut changed = self.line.changed.subscribe();
        let mut farewell = None;
        loop {
            tokio::select! {
                frame = self.reports.next() => {
                    let Some(Ok(frame)) = frame else { return None };
                    heard = Instant::now();
                    match serde_json::from_slice(&frame) {
                        Ok(report) => self.line.take(report),
                        Err(error) => return Some(format!("was ended: it wrote nonsense ({error})")),
                    }
                }
                _ = heartbeat.tick() => {
                    if let Some(why) = self.line.verdict(heard.elapsed()) {
                        return Some(why);
                    }
                    if self.is_full() && !self.line.retired.is_cancelled() {
                        tracing::warn!(pid = self.pid(), "a Python worker is near its memory limit: it takes no more calls");
                        self.line.retired.cancel();
                    }
                    n += 1;
                    self.line.send_urgent(&Order::Ping { n });
                }
                _ = changed.changed() => {}
                () = self.line.retired.cancelled(), if farewell.is_none() => farewell = Some(Instant::now() + FAREWELL),
                () = tokio::time::sleep_until(farewell.unwrap_or_else(Instant::now)), if farewell.is_some() => {
                    return Some("was ended: it was to end, and its calls took too long".to_owned());
                }
            }
            if farewell.is_some() && self.line.is_idle() {
                return Some("was retired".to_owned());
            }
        }
    }

    /// Whether its data takes most of what it may have.
    fn is_full(&self) -> bool {
        let data = self.pid().and_then(|pid| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            status.lines().find_map(|line| line.strip_prefix("VmData:"))?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
        });
        (data.unwrap_or_default() << 10) as f64 > self.memory_limit as f64 * FULL
    }

    /// How it ended by itself.
    async fn last_words(&mut self) -> String {
        let status = tokio::time::timeout(LAST_WORDS, self.program.child.wait()).await;
        let how = match status {
            Ok(Ok(status)) => program::describe(status),
            // It closed the socket and lives on.
            _ => {
                self.program.signal(Signal::SIGKILL);
                "closed its connection".to_owned()
            }
        };
        let _ = tokio::time::timeout(LAST_WORDS, self.last_line.wait_for(|_| false)).await;
        let line = self.last_line.borrow();
        if line.is_empty() { how } else { format!("{how} (its last words: {})", *line) }
    }
}

/// Copies what the program prints into the log. Returns the last line of its standard error, which closes when there is no more.
fn follow_output(program: &mut Program) -> watch::Receiver<String> {
    let (last, last_line) = watch::channel(String::new());
    let pid = program.child.id().unwrap_or_default();
    let name = format!("moongate-python[{pid}]");
    #[expect(clippy::disallowed_methods, reason = "they end with the program whose words they copy")]
    {
        if let Some(stdout) = program.child.stdout.take() {
            tokio::spawn(program::log(name.clone(), stdout, watch::channel(String::new()).0));
        }
        if let Some(stderr) = program.child.stderr.take() {
            tokio::spawn(program::log(name, stderr, last));
        }
    }
    last_line
}

impl Line {
    fn new(writer: OwnedWriteHalf) -> (Arc<Line>, impl Future<Output = ()>) {
        let (orders, queue) = mpsc::channel(QUEUE);
        let (urgent, express) = mpsc::unbounded_channel();
        let line = Line {
            orders,
            urgent,
            calls: Mutex::default(),
            next_call: AtomicU64::new(1),
            tasks: AtomicI64::new(0),
            retired: CancellationToken::new(),
            changed: watch::Sender::new(()),
        };
        (Arc::new(line), write(writer, queue, express))
    }

    /// Begins a run.
    pub(super) fn run(self: &Arc<Line>, run: &RunOrder) -> Call {
        self.begin(|call| encode(&Order::Run { call, run }))
    }

    /// Begins the call of a function.
    pub(super) fn call(self: &Arc<Line>, function: &str, arguments: &Object) -> Call {
        self.begin(|call| encode(&Order::Call { call, function, arguments }))
    }

    fn begin(self: &Arc<Line>, order: impl FnOnce(u64) -> Bytes) -> Call {
        let id = self.next_call.fetch_add(1, Ordering::Relaxed);
        let (call, inbox) = Call::new(self.clone(), id);
        let mut calls = self.lock();
        match &calls.gone {
            Some(how) => _ = inbox.put(lost(how)),
            None => {
                calls.running.insert(id, inbox);
                let _ = self.urgent.send(order(id));
            }
        }
        drop(calls);
        call
    }

    /// Tells the worker that a call is no longer wanted.
    pub(super) fn cancel(&self, call: u64) {
        let mut calls = self.lock();
        if calls.running.remove(&call).is_some() {
            calls.cancelled.insert(call, Instant::now());
            drop(calls);
            self.send_urgent(&Order::Cancel { call });
        }
    }

    /// Sends an order in its turn. A worker that is gone tells its calls so itself.
    pub(super) async fn send(&self, order: &Order<'_>) {
        let _ = self.orders.send(encode(order)).await;
    }

    fn send_urgent(&self, order: &Order<'_>) {
        let _ = self.urgent.send(encode(order));
    }

    /// How many calls it is busy with; `None` when it takes no more.
    pub(super) fn load(&self) -> Option<usize> {
        let calls = self.lock();
        (!self.retired.is_cancelled()).then(|| calls.running.len() + calls.cancelled.len())
    }

    /// Takes no more calls; the worker ends when those in flight have ended.
    pub(super) fn retire(&self) {
        self.retired.cancel();
    }

    fn is_idle(&self) -> bool {
        self.lock().running.is_empty()
    }

    fn take(&self, report: Report) {
        match report {
            Report::Delta { call, piece } => self.put(call, Event::Piece(piece)),
            Report::Ask { call, ask, what } => self.put(call, Event::Ask(ask, what)),
            Report::Forget { call, ask } => self.put(call, Event::Forget(ask)),
            Report::Ended { call, result, error } => {
                let outcome = match error {
                    Some(trouble) => Outcome::Failed(trouble),
                    None => Outcome::Result(result.unwrap_or_default()),
                };
                let mut calls = self.lock();
                calls.cancelled.remove(&call);
                let inbox = calls.running.remove(&call);
                drop(calls);
                if let Some(inbox) = inbox {
                    let _ = inbox.put(Event::Ended(outcome));
                }
                self.changed.send_replace(());
            }
            Report::Stuck { call } => {
                tracing::warn!(call, "a thread of a Python worker does not end: the worker is replaced");
                self.lock().cancelled.remove(&call);
                self.retire();
            }
            Report::Pong { tasks } => {
                let before = self.tasks.swap(tasks, Ordering::Relaxed);
                METRICS.python_tasks.add(tasks - before);
            }
            // Once each, before the work began.
            Report::Ready(_) | Report::Loaded(_) => {}
        }
    }

    fn put(&self, call: u64, event: Event) {
        let mut calls = self.lock();
        let Some(Err(())) = calls.running.get(&call).map(|inbox| inbox.put(event)) else { return };
        if let Some(inbox) = calls.running.remove(&call) {
            calls.cancelled.insert(call, Instant::now());
            drop(calls);
            let _ = inbox.put(Event::Ended(Outcome::Lost("it wrote faster than the client reads".to_owned())));
            self.send_urgent(&Order::Cancel { call });
        }
    }

    /// Why a worker that has been silent for so long has to go.
    fn verdict(&self, silence: Duration) -> Option<String> {
        let oldest = self.lock().cancelled.values().map(Instant::elapsed).max();
        let unruly = silence >= UNRULY && oldest.is_some_and(|since| since >= UNRULY);
        (unruly || silence >= SILENT).then(|| {
            format!("was ended: its Python code has held the event loop for {} s, so that nothing else could run", silence.as_secs())
        })
    }

    fn lose_all(&self, how: &str) {
        let running = {
            let mut calls = self.lock();
            calls.cancelled.clear();
            calls.gone = Some(how.to_owned());
            std::mem::take(&mut calls.running)
        };
        for inbox in running.into_values() {
            let _ = inbox.put(lost(how));
        }
        METRICS.python_tasks.sub(self.tasks.swap(0, Ordering::Relaxed));
    }

    fn lock(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes the frames: what is urgent first. Ends with the line, or with the worker.
async fn write(writer: OwnedWriteHalf, mut queue: mpsc::Receiver<Bytes>, mut express: mpsc::UnboundedReceiver<Bytes>) {
    let mut frames = FramedWrite::new(writer, codec());
    loop {
        let frame = tokio::select! {
            biased;
            Some(frame) = express.recv() => frame,
            Some(frame) = queue.recv() => frame,
            else => return,
        };
        if frames.feed(frame).await.is_err() {
            return;
        }
        // Together with what waits already.
        while let Ok(frame) = express.try_recv().or_else(|_| queue.try_recv()) {
            if frames.feed(frame).await.is_err() {
                return;
            }
        }
        if SinkExt::<Bytes>::flush(&mut frames).await.is_err() {
            return;
        }
    }
}

fn lost(how: &str) -> Event {
    Event::Ended(Outcome::Lost(format!("its Python worker {how}")))
}

fn encode(order: &Order<'_>) -> Bytes {
    // What is sent is made of JSON.
    serde_json::to_vec(order).unwrap_or_default().into()
}
