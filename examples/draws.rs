//! The cost of a draw by the number of channels (spec 9.8): nanoseconds for 10 and for 10,000 channels, and their ratio.

#![allow(clippy::print_stdout, clippy::indexing_slicing, reason = "it prints its figures")]

use std::sync::Arc;
use std::time::Instant;
use tidegate::core::api::{Api, ApiSet};
use tidegate::core::catalog::{Candidate, tiers};
use tidegate::core::channel::{ChannelHealth, ChannelLimits};
use tidegate::core::health::{Board, Now, Times};
use tidegate::core::id::ChannelId;
use tidegate::core::select::{Tier, Wanted, select};

const DRAWS: u32 = 200_000;
const ROUNDS: usize = 15;
/// Models of one channel.
const MODELS_EACH: usize = 10;

/// The candidates of one model at so many channels, which are all well.
fn world(channels: usize) -> (Vec<Tier>, Board) {
    let candidate = |index| Candidate {
        channel: ChannelId::new(index),
        slot: 0,
        upstream_model: "m".into(),
        priority: 0,
        weight: 1 + (index % 5) as u32,
        apis: ApiSet::from_iter([Api::Chat]),
        context_window: None,
        groups: Arc::new([]),
    };
    let health =
        (0..channels).map(|_| Arc::new(ChannelHealth::new(MODELS_EACH, 1, ChannelLimits::default())));
    (tiers((0..channels).map(candidate).collect()), Board::new(health.collect(), Times::default()))
}

/// Nanoseconds of one draw.
fn cost(tiers: &[Tier], board: &Board) -> f64 {
    let wanted = Wanted { api: Api::Chat, group: None, larger_than: None, pinned: None, affinity: None };
    let (view, began) = (Now { board, now: 1 }, Instant::now());
    for _ in 0..DRAWS {
        std::hint::black_box(select(tiers, wanted, &[], &view, &mut || fastrand::u64(..)));
    }
    began.elapsed().as_nanos() as f64 / f64::from(DRAWS)
}

fn main() {
    let worlds = [world(10), world(10_000)];
    // Interleaved, so that what else the machine does touches both.
    let mut ratios: Vec<(f64, f64, f64)> = (0..ROUNDS)
        .map(|_| {
            let [few, many] = [&worlds[0], &worlds[1]].map(|(tiers, board)| cost(tiers, board));
            (many / few, few, many)
        })
        .collect();
    ratios.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (ratio, few, many) = ratios[ROUNDS / 2];
    let (least, most) = (ratios[0].0, ratios[ROUNDS - 1].0);
    println!(
        "a draw of 10 channels: {few:.0} ns, of 10,000: {many:.0} ns, ratio {ratio:.2} (from {least:.2} to {most:.2})"
    );
}
