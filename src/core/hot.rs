//! What every draw looks at of a channel: sixteen bytes, side by side with those of other channels.
//!
//! Ten thousand of them fit into the cache of one core, which ten thousand [`ChannelHealth`](super::channel::ChannelHealth)s
//! do not. They stand in rows. A channel keeps its [`Seat`] for as long as it lives, so its state stays with it when other
//! channels come and go; a row goes with the last channel that sits in it.

use super::load::Load;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

/// The hot state of one channel.
#[derive(Debug, Default)]
#[repr(C, align(16))]
pub struct Hot {
    /// How busy and quick it is.
    pub load: Load,
    /// Whether anything of the channel may be other than well, so that more has to be looked at: set by whatever is not
    /// well, taken back by the next look that finds all well.
    troubled: AtomicBool,
}

/// A row of hot states.
pub(super) type Row = Arc<[Hot]>;

/// The place of one channel in a row.
#[derive(Debug, Clone)]
pub struct Seat {
    pub(super) row: Row,
    pub(super) index: usize,
}

impl Hot {
    /// Whether it is known that nothing of the channel rests or is readmitted slowly, and that its limits leave room.
    #[must_use]
    pub fn is_calm(&self) -> bool {
        !self.troubled.load(Ordering::Acquire)
    }

    /// Takes the flag back, before one looks whether all is well: what begins to rest meanwhile is either seen by that
    /// look, or sets the flag after this.
    pub(super) fn calm(&self) {
        self.troubled.store(false, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// Something of the channel rests, is about to, or is used up: draws have to look.
    pub(super) fn trouble(&self) {
        // After what made it so, and before what it is about to become.
        fence(Ordering::SeqCst);
        self.troubled.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }
}

impl Seat {
    /// The seats of a new row for so many channels.
    pub fn row(channels: usize) -> impl Iterator<Item = Self> {
        let row: Row = std::iter::repeat_with(Hot::default).take(channels).collect();
        (0..channels).map(move |index| Self { row: Arc::clone(&row), index })
    }

    /// What is kept there.
    #[must_use]
    #[expect(clippy::indexing_slicing, reason = "a seat is made with its row, and rows do not shrink")]
    pub fn hot(&self) -> &Hot {
        &self.row[self.index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: four channels in a line of the cache, as the module says, and no two in one place.
    #[test]
    fn seats_are_small_and_apart() {
        assert_eq!(size_of::<Hot>(), 16);
        let seats: Vec<_> = Seat::row(3).collect();
        seats[1].hot().load.begin();
        assert_eq!(seats.iter().map(|seat| seat.hot().load.in_flight()).collect::<Vec<_>>(), [0, 1, 0]);
    }
}
