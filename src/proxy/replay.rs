//! The bodies of requests, kept as long as another attempt may need them (spec 10.6).
//!
//! All of them together may take `server.replay_max`. A request beyond that runs all the same, but lets go of its body as soon
//! as an upstream has it, so it is tried once; and every request lets go when its answer is on its way to the client, however
//! long that takes. What still needs the body after that does without: an error is judged without the caller's own words.

use super::body::Received;
use super::byte_budget::{ByteBudget, Share};
use crate::wire::splice::Spliced;
use bytes::Bytes;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is kept over all requests.
#[derive(Debug, Default)]
pub(crate) struct Replay(Arc<ByteBudget>);

/// The body of one request.
pub(super) struct Body {
    kept: Mutex<Kept>,
    replayable: bool,
}

struct Kept {
    /// `None` after it was let go of.
    bytes: Option<Bytes>,
    _share: Option<Share>,
    /// Its part of the memory of all bodies.
    _memory: Option<Share>,
}

/// What one attempt sends.
pub(super) struct Payload<'a> {
    spliced: Mutex<Spliced>,
    of: Option<&'a Body>,
}

impl Replay {
    /// How much is kept, in bytes.
    pub(crate) fn held(&self) -> usize {
        self.0.used()
    }

    /// Takes a body in; it can be sent again if it fits beside the others into `max` bytes.
    pub(super) fn keep(&self, body: Received, max: usize) -> Body {
        let Received { bytes, memory } = body;
        let share = self.0.try_take(bytes.len(), max);
        let replayable = share.is_some();
        let kept = Kept { bytes: Some(bytes), _share: share, _memory: memory };
        Body { kept: Mutex::new(kept), replayable }
    }
}

impl Body {
    /// Whether it is kept for another attempt.
    pub(super) fn is_replayable(&self) -> bool {
        self.replayable
    }

    /// The body; empty after it was let go of.
    pub(super) fn bytes(&self) -> Bytes {
        self.kept().bytes.clone().unwrap_or_default()
    }

    /// Whether it was let go of.
    pub(super) fn is_gone(&self) -> bool {
        self.kept().bytes.is_none()
    }

    /// Gives its memory and its share back.
    pub(super) fn let_go(&self) {
        *self.kept() = Kept { bytes: None, _share: None, _memory: None };
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a> Payload<'a> {
    /// Nothing at all.
    pub(super) const fn empty() -> Self {
        Self { spliced: Mutex::new(Spliced::EMPTY), of: None }
    }

    /// A body as it is edited for one channel.
    pub(super) fn new(spliced: Spliced, of: &'a Body) -> Self {
        Self { spliced: Mutex::new(spliced), of: Some(of) }
    }

    /// What is to be written.
    pub(super) fn spliced(&self) -> Spliced {
        self.spliced.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// An upstream has it: what cannot be sent again is let go of.
    pub(super) fn was_sent(&self) {
        if let Some(body) = self.of.filter(|body| !body.is_replayable()) {
            body.let_go();
            *self.spliced.lock().unwrap_or_else(PoisonError::into_inner) = Spliced::EMPTY;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::splice::splice;

    /// Goal: bodies are kept up to the bound and no further, and room is made by letting go as well as by the end.
    #[test]
    fn kept_up_to_the_bound() {
        let replay = Replay::default();
        let of = |size| Received::from(Bytes::from(vec![b'x'; size]));
        let (first, second) = (replay.keep(of(60), 100), replay.keep(of(40), 100));
        let beyond = replay.keep(of(1), 100);
        assert!(first.is_replayable() && second.is_replayable() && !beyond.is_replayable());
        assert_eq!((replay.held(), beyond.bytes().len()), (100, 1), "it runs all the same");
        first.let_go();
        assert!(first.is_gone() && first.bytes().is_empty());
        assert_eq!(replay.held(), 40);
        drop((first, second, beyond));
        assert_eq!(replay.held(), 0);
        assert!(!replay.keep(of(101), 100).is_replayable() && replay.keep(of(0), 0).is_replayable());
    }

    /// Goal: after it was sent, what is kept can be sent again, and of what is not nothing is left.
    #[test]
    fn sent_once_or_again() {
        let replay = Replay::default();
        for (max, left) in [(10, 3), (0, 0)] {
            let body = replay.keep(Bytes::from_static(b"abc").into(), max);
            let payload = Payload::new(splice(&body.bytes(), Vec::new()), &body);
            assert_eq!(payload.spliced().len(), 3);
            payload.was_sent();
            assert_eq!(
                (payload.spliced().len(), body.bytes().len(), body.is_gone()),
                (left, left, left == 0)
            );
        }
    }
}
