//! The cost of a draw by the number of channels (spec 9.8), in nanoseconds: one model at 10 channels; one model at 10,000;
//! and 1,000 models at 10,000 channels, each of which serves ten, where each draw is for another model. And the two
//! ratios to the first. A draw begins when the one before has ended, as it were that of another request.

#![allow(
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::expect_used,
    reason = "it prints its figures, and panics where it is wrong"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};
use tidegate::core::api::{Api, ApiSet};
use tidegate::core::catalog::{Candidate, tiers};
use tidegate::core::channel::{ChannelHealth, Turn};
use tidegate::core::health::{Board, Now, Times};
use tidegate::core::hot::Seat;
use tidegate::core::id::ChannelId;
use tidegate::core::limits::{Limited, Limits, Scope};
use tidegate::core::select::{Tier, Wanted, select};

const DRAWS: u32 = 20_000;
const ROUNDS: usize = 201;
/// Models of one channel.
const MODELS_EACH: usize = 10;

/// Limits that every channel has, and none reaches.
const LIMITS: Limited = Limited { concurrency: Some(1_000), rpm: Some(1_000_000), tpm: None, shadow: false };

/// Models, each as its tiers, and the board of their channels.
struct World {
    models: Vec<Vec<Tier>>,
    board: Board,
}

fn weight(index: usize) -> u32 {
    1 + (index % 5) as u32
}

/// So many channels of different weights, which are all well and at work, and of each model every channel that serves it;
/// a third of them serves one group only.
fn world(channels: usize, models: usize) -> World {
    let candidate = |index, slot| Candidate {
        channel: ChannelId::new(index),
        slot,
        upstream_model: "m".into(),
        priority: 0,
        weight: weight(index),
        apis: ApiSet::from_iter([Api::Chat]),
        context_window: None,
        groups: if index % 3 == 0 { Arc::new(["gold".into()]) } else { Arc::new([]) },
    };
    let served = |model: usize| match models {
        1 => tiers((0..channels).map(|index| candidate(index, 0)).collect()),
        _ => {
            let slot_of =
                |index: usize| (0..MODELS_EACH).find(|slot| (index * 7 + slot * 101) % models == model);
            tiers((0..channels).filter_map(|index| Some(candidate(index, slot_of(index)?))).collect())
        }
    };
    let seats = Seat::row(channels);
    let health: Vec<_> = seats
        .map(|seat| Arc::new(ChannelHealth::new(seat, MODELS_EACH, 1, Limits::new(Scope::Channel, LIMITS))))
        .collect();
    let world = World {
        models: (0..models).map(served).collect(),
        board: Board::new(health.iter().cloned().zip((0..channels).map(weight)), Times::default()),
    };
    let mut random = fastrand::Rng::with_seed(1);
    for health in health {
        let [done, under_way] =
            [0, 1].map(|turn| health.try_enter(0, Turn::Next(turn), 1, 1).expect("it is well"));
        world.board.answered(&done, Duration::from_millis(random.u64(300..500)));
        world.board.completed(done, 1);
        if random.bool() {
            std::mem::forget(under_way);
        }
    }
    world
}

/// Nanoseconds of one draw.
fn cost(world: &World) -> f64 {
    let wanted = Wanted {
        api: Api::Chat,
        group: Some("gold"),
        larger_than: None,
        input: 0,
        pinned: None,
        affinity: None,
    };
    let (view, began) = (Now { board: &world.board, now: 1, tokens: 1 }, Instant::now());
    let mut random = fastrand::Rng::with_seed(2);
    // What is drawn next depends on what was drawn before, so that only what is inside of a draw overlaps.
    let mut before = 0;
    for _ in 0..DRAWS {
        let model = (random.u64(..) ^ before) % world.models.len() as u64;
        let mut number = || random.u64(..) ^ before;
        let drawn = select(&world.models[model as usize], wanted, &[], &view, &mut number);
        before = std::hint::black_box(drawn).map_or(0, |drawn| std::ptr::from_ref(drawn).addr() as u64);
    }
    began.elapsed().as_nanos() as f64 / f64::from(DRAWS)
}

/// The value below which a quarter of these are, and what four of five are between.
fn spread(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    (values[values.len() / 4], values[values.len() / 10], values[values.len() - 1 - values.len() / 10])
}

fn main() {
    let worlds = [world(10, 1), world(10_000, 1), world(10_000, 1_000)];
    // Interleaved, so that what else the machine does touches all; it can only make a round dearer.
    let rounds: Vec<[f64; 3]> = (0..ROUNDS).map(|_| [0, 1, 2].map(|index| cost(&worlds[index]))).collect();
    let of = |index: usize| rounds.iter().map(|round| round[index]).collect();
    let (few, ..) = spread(of(0));
    println!("a draw of 10 channels of one model: {few:.1} ns");
    for (index, name) in [(1, "one model"), (2, "1,000 models")] {
        let (many, ..) = spread(of(index));
        let (_, least, most) = spread(rounds.iter().map(|round| round[index] / round[0]).collect());
        let ratio = many / few;
        println!(
            "of 10,000 channels of {name}: {many:.1} ns, ratio {ratio:.2} (most rounds from {least:.2} to {most:.2})"
        );
    }
}
