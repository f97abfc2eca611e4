//! One generation of the configuration, in the form that requests use.
//!
//! A request takes one snapshot when it begins and keeps it to its end, whatever is loaded meanwhile.

use super::directory::network;
use super::limit_pool::LimitPool;
use super::upstream::Channel;
use crate::config::{self, Config, Tariff};
use crate::core::api::ApiSet;
use crate::core::catalog::{Candidate, Catalog, Model, tiers};
use crate::core::estimate::Learned;
use crate::core::health::Board;
use crate::core::hot::Seat;
use crate::core::id::{ChannelId, ModelId};
use crate::core::key::Network;
use crate::core::lacking::Lacking;
use crate::core::limits::{Limits, Scope};
use crate::core::permit::Permits;
use crate::core::quantile::Latencies;
use crate::telemetry::metrics::{Labels, Metrics};
use crate::wire::cors::Policy;
use crate::wire::custom::CustomRow;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Everything a request needs to know of the configuration.
pub(crate) struct Generation {
    /// Counts up with every load, from 1.
    pub(crate) number: u64,
    /// When it was loaded, in Unix seconds.
    pub(crate) loaded_at: u64,
    /// Bounds and times of the public listener.
    pub(crate) server: config::Server,
    /// Requests that may be under way at the same time.
    pub(crate) slots: Arc<Permits>,
    /// The status for a model that nobody serves (spec 2.3).
    pub(crate) unknown_model: u16,
    /// Clients that are told in the stream that an input is too long.
    pub(crate) stream_overflow_clients: Vec<String>,
    /// Which pages of other origins may call from a browser.
    pub(crate) cors: Option<Policy>,
    /// Models and their candidates.
    pub(crate) catalog: Catalog,
    /// Limits over all traffic.
    pub(crate) limits: Arc<Limits>,
    /// Load balancers whose word on a client's address is believed.
    pub(crate) trusted_proxies: Vec<Network>,
    /// Channels, by [`ChannelId`].
    pub(crate) channels: Vec<Arc<Channel>>,
    /// Rules for upstream failures that the operator added.
    pub(crate) classify: Vec<CustomRow>,
    /// The health of the channels.
    pub(crate) board: Board,
    /// Times to first content of each model.
    pub(crate) latencies: Vec<Arc<Latencies>>,
    /// How the estimates of each model compare to what is reported.
    learned: Vec<Arc<Learned>>,
    unlearned: Learned,
    /// What channels of each model were found to lack.
    lacking: Vec<Arc<Lacking>>,
    /// Bounds of failover.
    pub(crate) retry: config::Retry,
    /// Names and resolved metrics.
    pub(crate) labels: Arc<Labels>,
}

impl Generation {
    /// Builds the generation of a checked configuration that follows `before`, or the first one.
    pub(crate) fn new(config: &Config, metrics: &Metrics, pool: &LimitPool, before: Option<&Self>) -> Self {
        let seated = config.channels.iter().zip(Seat::row(config.channels.len()));
        let channels: Vec<_> = seated
            .map(|(channel, seat)| {
                let known =
                    before.and_then(|before| before.channels.iter().find(|known| *known.id == channel.id));
                Channel::succeeding(channel, seat, pool, known)
            })
            .collect();
        let model_names: Vec<Arc<str>> = config.models.iter().map(|model| model.id.as_str().into()).collect();
        let channel_names: Vec<Arc<str>> = channels.iter().map(|channel| Arc::clone(&channel.id)).collect();
        let slots = u32::try_from(config.server.max_connections).unwrap_or(u32::MAX);
        let same_slots = before.map(|before| &before.slots).filter(|before| before.limit() == slots);
        Self {
            number: before.map_or(1, |before| before.number + 1),
            loaded_at: super::clock::unix().as_secs(),
            slots: same_slots.cloned().unwrap_or_else(|| Permits::new(slots)),
            server: config.server.clone(),
            unknown_model: config.errors.unknown_model,
            stream_overflow_clients: config.errors.stream_overflow_clients.clone(),
            cors: config.cors.clone(),
            catalog: Catalog::new(
                config.models.iter().map(|model| catalog_model(model, config, pool)).collect(),
            ),
            limits: pool.of(Scope::Global, "", config.limits),
            trusted_proxies: config.server.trusted_proxies.iter().map(network).collect(),
            learned: kept(config, before, |before| &before.learned),
            unlearned: Learned::default(),
            // Channels are known by their position, which may be another one now.
            lacking: config.models.iter().map(|_| Arc::default()).collect(),
            classify: config.classify.clone(),
            board: Board::new(
                channels.iter().map(|channel| (Arc::clone(&channel.health), channel.settings.weight)),
                config.retry.times,
            ),
            latencies: kept(config, before, |before| &before.latencies),
            retry: config.retry,
            labels: metrics.labels(&model_names, &channel_names),
            channels,
        }
    }

    /// After which time without an answer a second attempt is made beside the first; `None` for models that do not ask
    /// for it, or of which too little is known.
    pub(crate) fn hedge_after(&self, model: ModelId) -> Option<Duration> {
        let hedges = self.catalog.model(model)?.hedge;
        hedges.then(|| self.latencies.get(model.index())?.p95()).flatten()
    }

    /// How the estimates of a model compare to what is reported.
    pub(crate) fn learned(&self, model: ModelId) -> &Learned {
        self.learned.get(model.index()).map_or(&self.unlearned, |learned| learned)
    }

    /// What channels of a model were found to lack.
    pub(crate) fn lacking(&self, model: ModelId) -> Option<&Arc<Lacking>> {
        self.lacking.get(model.index())
    }

    /// The channel of an id.
    pub(crate) fn channel(&self, id: ChannelId) -> Option<&Arc<Channel>> {
        self.channels.get(id.index())
    }
}

/// What is known of each model, from the generation before where the model was there.
fn kept<T: Default>(
    config: &Config,
    before: Option<&Generation>,
    known: impl Fn(&Generation) -> &Vec<Arc<T>>,
) -> Vec<Arc<T>> {
    let of = |model: &config::Model| {
        let before = before?;
        known(before).get(before.catalog.position(&model.id)?.index()).cloned()
    };
    config.models.iter().map(|model| of(model).unwrap_or_default()).collect()
}

fn catalog_model(model: &config::Model, config: &Config, pool: &LimitPool) -> Model {
    // A model that nobody has priced is not offered (spec 8.6).
    let offered = model.tariff != Tariff::Unknown;
    let enabled = config.channels.iter().enumerate().filter(|(_, channel)| channel.enabled && offered);
    let candidates = enabled.filter_map(|(index, channel)| candidate(index, channel, model)).collect();
    Model {
        id: model.id.as_str().into(),
        kind: model.kind,
        created: model.created,
        verification: model.verification,
        hedge: model.hedge,
        price: match model.tariff {
            Tariff::Priced(price) => Some(price),
            Tariff::Free | Tariff::Unknown => None,
        },
        context_window: model.context_window,
        output_max: model.output_max,
        choices_max: model.choices_max,
        unsupported: model.unsupported.clone(),
        watched: watched(model, config),
        seconds_default: model.seconds_default,
        seconds_max: model.seconds_max,
        tokenizer: model.tokenizer,
        image_tokens: model.image_tokens,
        images: model.images.clone(),
        limits: pool.of(Scope::Model, &model.id, model.limits),
        tiers: tiers(candidates),
    }
}

/// The names of the members of requests that the model, or a channel of it, does not take.
fn watched(model: &config::Model, config: &Config) -> Arc<[Box<str>]> {
    let serves = |channel: &&config::Channel| channel.models.iter().any(|(public, _)| *public == model.id);
    let of_channels = config.channels.iter().filter(serves).flat_map(config::Channel::not_taken);
    let names: BTreeSet<&str> = model.unsupported.names().chain(of_channels).collect();
    names.into_iter().map(Into::into).collect()
}

fn candidate(index: usize, channel: &config::Channel, model: &config::Model) -> Option<Candidate> {
    let mut models = channel.models.iter().enumerate();
    let (slot, (_, upstream_model)) = models.find(|(_, (public, _))| *public == model.id)?;
    // Where no API fits the model, nobody can call it.
    channel.apis.iter().find(|api| model.kind.speaks(**api))?;
    Some(Candidate {
        channel: ChannelId::new(index),
        slot,
        upstream_model: upstream_model.as_str().into(),
        priority: channel.priority,
        weight: channel.weight,
        apis: channel.apis.iter().copied().collect::<ApiSet>(),
        context_window: channel.context_window.or(model.context_window),
        groups: channel.groups.iter().map(|group| group.as_str().into()).collect(),
    })
}
