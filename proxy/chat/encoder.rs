//! The seam between a run and the protocol in which its client reads the answer.

use super::progress::Doing;
use super::{Delta, Usage};
use crate::error::Error;

/// Writes a run's reply in the words of one protocol. Of a stream, each method returns the bytes that leave now; of a whole answer, only
/// `end` returns any.
pub trait Encoder: Send {
    /// What a stream begins with. It is asked for once, when the first bytes of another method, or a ping, are about to leave.
    fn opening(&mut self) -> Vec<u8>;

    /// A piece of the reply.
    fn piece(&mut self, piece: &Delta) -> Vec<u8>;

    /// What one of the gateway's tools does.
    fn tool(&mut self, doing: &Doing) -> Vec<u8>;

    /// The reply is complete: the end of the stream, or the whole answer.
    fn end(&mut self, usage: &Usage) -> Vec<u8>;

    /// The run failed after its stream had begun: the stream's end.
    fn failure(&mut self, error: &Error) -> Vec<u8>;
}
