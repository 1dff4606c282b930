//! The waker that a script is polled with. At the end of a slice the other tasks and the runtime's sockets have their turn first:
//! a task that just woke itself would go on before anybody looks at a socket.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst, fence};
use std::task::{Context, Poll, Wake, Waker};

use tokio::task::yield_now;

/// Whether a slice has ended in the poll that goes on. Set by the interrupt, taken by the end of the poll.
pub(super) type SliceEnded = Arc<AtomicBool>;

/// Passes wakes on, but none between the end of a slice and the end of its poll: then the script is polled again anyway.
struct Gate {
    waker: Waker,
    slice_ended: SliceEnded,
}

impl Wake for Gate {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // What the wake tells of is seen by the next poll, or the end of the slice is seen here.
        fence(SeqCst);
        if !self.slice_ended.load(SeqCst) {
            self.waker.wake_by_ref();
        }
    }
}

/// The gate of one call, kept as long as it is polled by the same task.
pub(super) struct Gated {
    slice_ended: SliceEnded,
    behind: Option<(Waker, Waker)>,
}

impl Gated {
    pub(super) fn new(slice_ended: &SliceEnded) -> Gated {
        Gated { slice_ended: Arc::clone(slice_ended), behind: None }
    }

    /// Polls through the gate. When a slice ended, the task is polled again after the runtime has looked at everything else.
    pub(super) fn poll<T>(&mut self, cx: &mut Context<'_>, poll: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        let (behind, gate) = match self.behind.take().filter(|(behind, _)| behind.will_wake(cx.waker())) {
            Some(known) => known,
            None => {
                let gate = Gate { waker: cx.waker().clone(), slice_ended: Arc::clone(&self.slice_ended) };
                (cx.waker().clone(), Waker::from(Arc::new(gate)))
            }
        };
        let polled = poll(&mut Context::from_waker(&gate));
        self.behind = Some((behind, gate));
        if self.slice_ended.swap(false, SeqCst) && polled.is_pending() {
            // Its first poll is all that is needed: it asks for the next one.
            let _ = pin!(yield_now()).poll(cx);
        }
        polled
    }
}
