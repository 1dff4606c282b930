//! The CPU budget of a hook call: what Luau's interrupt asks at every loop and call of a script.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use mlua::{Lua, Thread, VmState};
use rustix::time::{ClockId, clock_gettime};

use super::gate::{Gated, SliceEnded};
use super::waits::Waits;

/// How long a script runs before the other tasks of its thread have a turn.
const SLICE: Duration = Duration::from_millis(1);

/// A stretch shorter than this on the wall clock is taken for CPU time as it is: the clock of the thread's CPU time is a system call.
/// Nanoseconds.
const SHORT: u64 = 100_000;

/// No limit, and no need to look at a clock.
const NEVER: u64 = u64::MAX;

/// Counts the CPU time of one hook call at a time. Time that the hook waits, or that other programs have the core, is not counted.
/// All times are nanoseconds.
pub(super) struct Meter {
    /// Zero of the wall clock.
    base: Instant,
    /// When, on the wall clock, the interrupt next asks the dearer clock of the thread's CPU time.
    look_at: AtomicU64,
    /// The thread's CPU time at which the budget is used up.
    ends_at: AtomicU64,
    /// When, on the wall clock, the clock of the thread's CPU time was last read in this stretch, and what it said.
    read_at: AtomicU64,
    read: AtomicU64,
    /// The budget that is left while the call is not being polled.
    left: AtomicU64,
    /// Set for good when the budget is used up: a script that catches the error gets it again at its next step.
    overdue: AtomicBool,
    /// Where in a script that was, as `script:line`.
    place: Mutex<Option<String>>,
    /// The Lua thread that may yield between slices; 0 for none. Inside a script's own coroutine a yield would look like a result.
    top: AtomicUsize,
    /// The Lua thread that yielded last at the end of a slice.
    cut: AtomicUsize,
    /// A slice has ended in the poll that goes on.
    slice_ended: SliceEnded,
    /// What the call's Lua threads wait for.
    waits: Waits,
    /// A script ran into the memory cap and caught the error: no other run gets the VM.
    spoilt: AtomicBool,
}

impl Meter {
    pub(super) fn new() -> Self {
        Meter {
            base: Instant::now(),
            look_at: AtomicU64::new(NEVER),
            ends_at: AtomicU64::new(NEVER),
            read_at: AtomicU64::new(0),
            read: AtomicU64::new(0),
            left: AtomicU64::new(NEVER),
            overdue: AtomicBool::new(false),
            place: Mutex::new(None),
            top: AtomicUsize::new(0),
            cut: AtomicUsize::new(0),
            slice_ended: SliceEnded::default(),
            waits: Waits::default(),
            spoilt: AtomicBool::new(false),
        }
    }

    /// Makes the VM ask this meter.
    pub(super) fn arm(self: &Arc<Self>, lua: &Lua) {
        let asked = Arc::clone(self);
        lua.set_interrupt(move |lua| asked.interrupt(lua));
    }

    /// Begins a call that may use `budget`.
    pub(super) fn start(&self, budget: Duration) {
        self.left.store(nanos(budget), Relaxed);
        if self.overdue.swap(false, Relaxed) {
            *self.place.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    /// Whether the call used up its budget, whatever the script made of the error.
    pub(super) fn is_overdue(&self) -> bool {
        self.overdue.load(Relaxed)
    }

    /// Notes that a script has caught the error of the memory cap.
    pub(super) fn spoil(&self) {
        self.spoilt.store(true, Relaxed);
    }

    /// Whether a script has ever caught the error of the memory cap.
    pub(super) fn is_spoilt(&self) -> bool {
        self.spoilt.load(Relaxed)
    }

    /// `script:line` at which the budget was used up.
    pub(super) fn place(&self) -> Option<String> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Runs `f` on the budget, in one go. For loading, where nobody else waits for the thread.
    pub(super) fn block<R>(&self, f: impl FnOnce() -> R) -> R {
        let _slice = self.slice();
        f()
    }

    /// Runs a Lua thread to its end on the budget, in slices.
    pub(super) async fn drive<F: Future>(&self, thread: &Thread, future: F) -> F::Output {
        let mut future = pin!(future);
        let top = thread.state() as usize;
        let _scope = self.waits.scope(top);
        let mut was_cut = false;
        let mut gated = Gated::new(&self.slice_ended);
        poll_fn(|cx| {
            gated.poll(cx, |cx| {
                self.top.store(top, Relaxed);
                let _slice = self.slice();
                let polled = future.as_mut().poll(cx);
                self.ask_again(top, &mut was_cut, polled, cx)
            })
        })
        .await
    }

    /// A slice may end between the moment at which a waiting function asked what it waits for, and its own yield. What is notified in
    /// between is spent on the poll that only gets it to that yield: it has to be asked once more.
    fn ask_again<T>(&self, thread: usize, was_cut: &mut bool, polled: Poll<T>, cx: &std::task::Context<'_>) -> Poll<T> {
        let is_cut = self.cut.swap(0, Relaxed) == thread;
        if std::mem::replace(was_cut, is_cut) && polled.is_pending() {
            cx.waker().wake_by_ref();
        }
        polled
    }

    /// Runs a Lua thread beside others of the same call; it may yield between slices, too.
    pub(super) async fn branch<F: Future>(&self, thread: &Thread, future: F) -> F::Output {
        let mut future = pin!(future);
        let branch = thread.state() as usize;
        let _scope = self.waits.scope(branch);
        let mut was_cut = false;
        poll_fn(|cx| {
            let trunk = self.top.swap(branch, Relaxed);
            let polled = future.as_mut().poll(cx);
            self.top.store(trunk, Relaxed);
            self.ask_again(branch, &mut was_cut, polled, cx)
        })
        .await
    }

    /// Lets the running Lua thread, which may wait, wait for `future`. It ends at the latest with the thread's work.
    pub(super) fn hold<F>(&self, future: F) -> impl Future<Output = F::Output> + Send + use<F>
    where
        F: Future + Send + 'static,
    {
        self.waits.hold(self.top.load(Relaxed), future)
    }

    /// Waits for work of the gateway's own inside a call, without counting it.
    pub(super) async fn wait<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|cx| self.free(|| future.as_mut().poll(cx))).await
    }

    /// Whether the code that is running may wait: the hook itself or a branch of it, and not a coroutine of the script's own,
    /// which would take the waiting for a result.
    pub(super) fn may_wait(&self, lua: &Lua) -> bool {
        lua.state() as usize == self.top.load(Relaxed)
    }

    /// Whether a call is being polled that may wait at all.
    pub(super) fn is_driving(&self) -> bool {
        self.top.load(Relaxed) != 0
    }

    /// Runs `f`, work of the gateway's own inside a call, without counting it.
    pub(super) fn free<R>(&self, f: impl FnOnce() -> R) -> R {
        let from = self.wall_now();
        let look_at = self.look_at.swap(NEVER, Relaxed);
        let result = f();
        self.look_at.store(look_at, Relaxed);
        let now = self.wall_now();
        let took = now.saturating_sub(from);
        // Of a long stretch, the CPU time since the last reading, less what the script had of it at most.
        let at_most = self.cpu_at_most(from);
        let spent = if took < SHORT { took } else { self.read_cpu(now).saturating_sub(at_most) };
        self.ends_at.store(self.ends_at.load(Relaxed).saturating_add(spent), Relaxed);
        result
    }

    /// What the VM calls at loops and function calls. Fails, every time, once the budget is used up.
    pub(super) fn interrupt(&self, lua: &Lua) -> mlua::Result<VmState> {
        if self.is_overdue() {
            return Err(mlua::Error::external(Overdue));
        }
        let look_at = self.look_at.load(Relaxed);
        if look_at == NEVER {
            return Ok(VmState::Continue);
        }
        let now = self.wall_now();
        if now < look_at {
            return Ok(VmState::Continue);
        }
        let left = self.ends_at.load(Relaxed).saturating_sub(self.read_cpu(now));
        if left == 0 {
            self.overdue.store(true, Relaxed);
            *self.place.lock().unwrap_or_else(PoisonError::into_inner) = place(lua);
            return Err(mlua::Error::external(Overdue));
        }
        self.look_at.store(now.saturating_add(left.min(nanos(SLICE))), Relaxed);
        let thread = lua.state() as usize;
        if thread != self.top.load(Relaxed) {
            return Ok(VmState::Continue);
        }
        self.cut.store(thread, Relaxed);
        self.slice_ended.store(true, Relaxed);
        Ok(VmState::Yield)
    }

    fn slice(&self) -> Slice<'_> {
        let left = self.left.load(Relaxed);
        let now = self.wall_now();
        self.look_at.store(now.saturating_add(left.min(nanos(SLICE))), Relaxed);
        self.ends_at.store(self.read_cpu(now).saturating_add(left), Relaxed);
        Slice(self)
    }

    /// The thread's CPU time; `now` on the wall clock.
    fn read_cpu(&self, now: u64) -> u64 {
        let cpu = cpu_now();
        self.read_at.store(now, Relaxed);
        self.read.store(cpu, Relaxed);
        cpu
    }

    /// What the thread's CPU time can have been at most at `now` on the wall clock, without asking for it.
    fn cpu_at_most(&self, now: u64) -> u64 {
        self.read.load(Relaxed).saturating_add(now.saturating_sub(self.read_at.load(Relaxed)))
    }

    fn wall_now(&self) -> u64 {
        nanos(self.base.elapsed())
    }
}

/// One stretch of a call on a thread: from one poll to its return, or to its panic.
struct Slice<'a>(&'a Meter);

impl Drop for Slice<'_> {
    fn drop(&mut self) {
        let meter = self.0;
        let now = meter.wall_now();
        let is_short = now.saturating_sub(meter.read_at.load(Relaxed)) < SHORT;
        let cpu = if is_short { meter.cpu_at_most(now) } else { cpu_now() };
        meter.left.store(meter.ends_at.load(Relaxed).saturating_sub(cpu), Relaxed);
        meter.look_at.store(NEVER, Relaxed);
        meter.ends_at.store(NEVER, Relaxed);
        meter.top.store(0, Relaxed);
    }
}

/// The error that ends a script at its deadline.
#[derive(Debug)]
struct Overdue;

impl std::fmt::Display for Overdue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the hook used up its CPU budget")
    }
}

impl std::error::Error for Overdue {}

/// The innermost line of a script that is running; builtins and `std.*` have none that helps.
fn place(lua: &Lua) -> Option<String> {
    (0..16).find_map(|level| {
        lua.inspect_stack(level, |frame| {
            let name = frame.source().short_src?.into_owned();
            let line = frame.current_line()?;
            (!name.starts_with("std.")).then(|| format!("{name}:{line}"))
        })?
    })
}

/// CPU time of the calling thread.
pub(super) fn cpu_now() -> u64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    u64::try_from(now.tv_sec).unwrap_or(0).saturating_mul(1_000_000_000) + u64::try_from(now.tv_nsec).unwrap_or(0)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(NEVER)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn burn(time: Duration) -> mlua::Result<()> {
        let from = cpu_now();
        while cpu_now() - from < nanos(time) {}
        Ok(())
    }

    #[test]
    fn a_call_is_overdue_for_good_once_its_budget_is_used_up() {
        let (meter, lua) = (Meter::new(), Lua::new());
        meter.start(Duration::from_millis(5));
        let started = Instant::now();
        meter.block(|| {
            while meter.interrupt(&lua).is_ok() {
                assert!(started.elapsed() < Duration::from_secs(10), "the budget never ended");
            }
            assert!(meter.interrupt(&lua).is_err());
        });
        assert!(meter.is_overdue());
        meter.start(Duration::from_millis(5));
        assert!(!meter.is_overdue());
    }

    #[test]
    fn work_of_the_gateway_is_not_counted() {
        let (meter, lua) = (Meter::new(), Lua::new());
        meter.start(Duration::from_millis(20));
        meter.block(|| {
            meter.free(|| burn(Duration::from_millis(40))).unwrap();
            for _ in 0..1000 {
                meter.free(|| burn(Duration::from_micros(40))).unwrap();
            }
            assert!(meter.interrupt(&lua).is_ok());
        });
    }

    /// What a waiting function waits for comes while it is on its way to its yield, and the slice ends just there.
    #[tokio::test]
    async fn no_notification_is_lost_at_the_end_of_a_slice() {
        let (meter, lua) = (Arc::new(Meter::new()), Lua::new());
        meter.arm(&lua);
        let once = |_: Lua, (): ()| {
            let mut polls = 0;
            poll_fn(move |cx| {
                polls += 1;
                burn(2 * SLICE).unwrap();
                cx.waker().wake_by_ref();
                if polls < 3 { Poll::Pending } else { Poll::Ready(Ok(7)) }
            })
        };
        lua.globals().set("wait", lua.create_async_function(once).unwrap()).unwrap();
        let thread = lua.create_thread(lua.load("return wait()").into_function().unwrap()).unwrap();
        meter.start(Duration::from_secs(1));
        let driven = meter.drive(&thread, thread.clone().into_async::<i64>(()).unwrap());
        assert_eq!(tokio::time::timeout(Duration::from_secs(5), driven).await.expect("it ends").unwrap(), 7);
    }

    /// The runtime looks at its sockets after each slice, not only after so many polls.
    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "they end with the test's runtime")]
    async fn a_socket_is_served_between_slices() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (mut near, mut far) = tokio::net::UnixStream::pair().unwrap();
        let reader = tokio::spawn(async move { near.read_u8().await.unwrap() });
        let spinning = tokio::spawn(async move {
            let (meter, lua) = (Arc::new(Meter::new()), Lua::new());
            meter.arm(&lua);
            let thread = lua.create_thread(lua.load("while true do end").into_function().unwrap()).unwrap();
            meter.start(20 * SLICE);
            far.write_u8(7).await.unwrap();
            assert!(meter.drive(&thread, thread.clone().into_async::<()>(()).unwrap()).await.is_err());
            reader.is_finished()
        });
        assert!(spinning.await.unwrap());
    }

    #[test]
    fn many_short_stretches_add_up() {
        let (meter, lua) = (Meter::new(), Lua::new());
        meter.start(Duration::from_millis(5));
        let from = cpu_now();
        while meter.block(|| burn(Duration::from_micros(20)).and(meter.interrupt(&lua))).is_ok() {
            assert!(cpu_now() - from < nanos(Duration::from_millis(50)), "the budget never ended");
        }
        assert!(meter.is_overdue());
    }

    #[test]
    fn time_without_the_core_is_not_counted() {
        let (meter, lua) = (Meter::new(), Lua::new());
        meter.start(Duration::from_millis(20));
        let (_silent, events) = std::sync::mpsc::channel::<()>();
        for _ in 0..4 {
            meter.block(|| events.recv_timeout(Duration::from_millis(10)).unwrap_err());
        }
        assert!(meter.block(|| meter.interrupt(&lua)).is_ok());
    }

    #[test]
    fn nothing_is_limited_between_calls() {
        let (meter, lua) = (Meter::new(), Lua::new());
        assert!(matches!(meter.interrupt(&lua), Ok(VmState::Continue)));
    }
}
