//! Which channels can serve which model.
//!
//! Built once per configuration generation: models by name, and for each model its candidates, sorted by tier. Ids are
//! positions in the configuration's lists.

use super::api::{Api, ApiSet, ModelKind};
use super::estimate::{Family, ImageRule};
use super::id::{ChannelId, ModelId};
use super::images::ImageRules;
use super::limits::{Limited, Limits, Scope};
use super::parameters::Unsupported;
use super::price::Price;
use super::select::{Tier, Wanted};
use std::collections::HashMap;
use std::sync::Arc;

/// A model on offer.
#[derive(Debug)]
pub struct Model {
    /// The public id, `provider/name`.
    pub id: Arc<str>,
    /// What it produces.
    pub kind: ModelKind,
    /// Since when it is on offer, in Unix seconds, if that is said.
    pub created: Option<u64>,
    /// Whether only verified accounts may call it (spec 5.3).
    pub verification: bool,
    /// Whether slow requests are tried at a second channel beside the first.
    pub hedge: bool,
    /// What it costs; `None` for nothing.
    pub price: Option<Price>,
    /// Input and output tokens that fit together, if that is known.
    pub context_window: Option<u64>,
    /// Output tokens of one answer, if that is bounded.
    pub output_max: Option<u64>,
    /// Answers of one call, if they are bounded.
    pub choices_max: Option<u64>,
    /// Members of requests that it does not take.
    pub unsupported: Unsupported,
    /// Their names, and those of members that a channel of it does not take.
    pub watched: Arc<[Box<str>]>,
    /// Seconds of a video for which a request names none.
    pub seconds_default: u64,
    /// The longest video, in seconds, if that is bounded.
    pub seconds_max: Option<u64>,
    /// The tokenizer whose counts its estimates follow.
    pub tokenizer: Family,
    /// How many tokens an image in a prompt is taken for.
    pub image_tokens: ImageRule,
    /// What it accepts of the images that it is asked for.
    pub images: ImageRules,
    /// Limits over all its callers.
    pub limits: Arc<Limits>,
    /// Enabled channels that serve it, lowest priority number first.
    pub tiers: Vec<Tier>,
}

/// One channel as a way to reach one model.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The channel.
    pub channel: ChannelId,
    /// Which of the channel's models it is.
    pub slot: usize,
    /// What the channel calls the model.
    pub upstream_model: Arc<str>,
    /// The tier; a lower one is used up before the next (spec 9.2).
    pub priority: u32,
    /// The share within the tier; 0 drains (spec 9.1).
    pub weight: u32,
    /// The APIs the channel speaks.
    pub apis: ApiSet,
    /// Input and output tokens that fit together, if that is known.
    pub context_window: Option<u64>,
    /// The groups it serves; empty means all.
    pub groups: Arc<[Box<str>]>,
}

impl Candidate {
    /// Whether the channel may serve a key of this group.
    #[must_use]
    pub fn serves(&self, group: Option<&str>) -> bool {
        serves(&self.groups, group)
    }
}

/// Whether what serves these groups, or all if there are none, may serve a key of this one.
pub(super) fn serves(groups: &[Box<str>], group: Option<&str>) -> bool {
    groups.is_empty() || group.is_some_and(|group| groups.iter().any(|own| **own == *group))
}

/// Puts candidates into tiers, in the order of their priorities.
#[must_use]
pub fn tiers(mut candidates: Vec<Candidate>) -> Vec<Tier> {
    candidates.sort_by_key(|candidate| candidate.priority);
    let groups = candidates.chunk_by(|a, b| a.priority == b.priority);
    groups.map(|group| Tier::new(group.to_vec())).collect()
}

/// All models of one configuration generation.
#[derive(Debug, Default)]
pub struct Catalog {
    models: Vec<Model>,
    by_id: HashMap<Arc<str>, ModelId>,
    /// For each channel, the models that it serves.
    by_channel: HashMap<ChannelId, Vec<ModelId>>,
}

impl Catalog {
    /// The catalog of these models.
    #[must_use]
    pub fn new(models: Vec<Model>) -> Self {
        let by_id = models.iter().enumerate().map(|(i, m)| (Arc::clone(&m.id), ModelId::new(i))).collect();
        let mut by_channel: HashMap<ChannelId, Vec<ModelId>> = HashMap::new();
        for (index, model) in models.iter().enumerate() {
            for candidate in model.candidates() {
                by_channel.entry(candidate.channel).or_default().push(ModelId::new(index));
            }
        }
        Self { models, by_id, by_channel }
    }

    /// For each model that a channel serves: the channel as its candidate, and all tiers of the model.
    pub fn served_by(
        &self,
        channel: ChannelId,
    ) -> impl Iterator<Item = (&Candidate, impl Iterator<Item = &Tier>)> {
        let models = self.by_channel.get(&channel).into_iter().flatten();
        models.filter_map(|id| self.model(*id)).filter_map(move |model| {
            let own = model.candidates().find(|candidate| candidate.channel == channel)?;
            Some((own, model.tiers.iter()))
        })
    }

    /// The model with exactly this id, if any channel serves it (spec 1.3, 2.3).
    #[must_use]
    pub fn find(&self, id: &str) -> Option<(ModelId, &Model)> {
        let index = *self.by_id.get(id)?;
        let model = self.models.get(index.index())?;
        (!model.tiers.is_empty()).then_some((index, model))
    }

    /// The id of a model, whether anybody serves it or not.
    #[must_use]
    pub fn position(&self, id: &str) -> Option<ModelId> {
        self.by_id.get(id).copied()
    }

    /// All models that are configured, also those that nobody serves.
    pub fn all(&self) -> impl Iterator<Item = &Model> {
        self.models.iter()
    }

    /// Models that at least one enabled channel serves (spec 1.7).
    pub fn on_offer(&self) -> impl Iterator<Item = &Model> {
        self.models.iter().filter(|model| !model.tiers.is_empty())
    }

    /// The model of an id.
    #[must_use]
    pub fn model(&self, id: ModelId) -> Option<&Model> {
        self.models.get(id.index())
    }
}

impl Model {
    /// A model that costs nothing, has no limits, and that nobody serves.
    #[must_use]
    pub fn free(id: &str, kind: ModelKind) -> Self {
        Self {
            id: id.into(),
            kind,
            created: None,
            verification: false,
            hedge: false,
            price: None,
            context_window: None,
            output_max: None,
            choices_max: None,
            unsupported: Unsupported::default(),
            watched: Arc::default(),
            seconds_default: 0,
            seconds_max: None,
            tokenizer: Family::default(),
            image_tokens: ImageRule::default(),
            images: ImageRules::default(),
            limits: Limits::new(Scope::Model, Limited::default()),
            tiers: Vec::new(),
        }
    }

    /// How long a video will be for which a request names so many seconds, or none.
    #[must_use]
    pub fn seconds(&self, asked: Option<u64>) -> u64 {
        asked.unwrap_or(self.seconds_default).min(self.seconds_max.unwrap_or(u64::MAX))
    }

    /// All candidates, tier after tier.
    pub fn candidates(&self) -> impl Iterator<Item = &Candidate> {
        self.tiers.iter().flat_map(|tier| &tier.candidates)
    }

    /// The largest context of the channels that could serve a request, if every one of them is too small for it.
    #[must_use]
    pub fn too_small_for(&self, wanted: Wanted<'_>) -> Option<u64> {
        let mut largest = None;
        for candidate in self.candidates() {
            match wanted.mismatch(candidate) {
                Some("context_window") => largest = largest.max(candidate.context_window),
                Some(_) => {}
                None => return None,
            }
        }
        largest
    }

    /// The API to name to a caller who used a wrong one: one by which a channel serves the model, for keys of this group
    /// if there is one for them.
    #[must_use]
    pub fn home(&self, group: Option<&str>) -> Api {
        let served = |api: &Api, by_any: bool| {
            let mut candidates = self.candidates().filter(|candidate| by_any || candidate.serves(group));
            self.kind.speaks(*api) && candidates.any(|candidate| candidate.apis.contains(*api))
        };
        let order = [self.kind.home(), Api::Responses, Api::Messages, Api::Completions];
        let ours = order.into_iter().find(|api| served(api, false));
        let named = ours.or_else(|| order.into_iter().find(|api| served(api, true)));
        named.unwrap_or_else(|| self.kind.home())
    }

    /// Whether some channel serves this model to a key of this group through `api`.
    #[must_use]
    pub fn reachable_for(&self, group: Option<&str>, api: Api) -> bool {
        self.kind.speaks(api) && self.tiers.iter().any(|tier| tier.offers(Some(api), group))
    }

    /// Whether some channel serves this model to a key of this group at all; for others it does not exist (spec 1.7).
    #[must_use]
    pub fn exists_for(&self, group: Option<&str>) -> bool {
        self.tiers.iter().any(|tier| tier.offers(None, group))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(kind: ModelKind, channels: &[(&[Api], Option<&str>)]) -> Model {
        let candidate = |(index, (apis, group)): (usize, &(&[Api], Option<&str>))| Candidate {
            channel: ChannelId::new(index),
            slot: 0,
            upstream_model: "m".into(),
            priority: 0,
            weight: 1,
            apis: apis.iter().copied().collect(),
            context_window: None,
            groups: group.iter().map(|group| (*group).into()).collect(),
        };
        let tiers = tiers(channels.iter().enumerate().map(candidate).collect());
        Model { tiers, ..Model::free("m", kind) }
    }

    /// Goal: what is named to a caller at a wrong endpoint is one where a channel serves the model, the caller's own
    /// channels first (spec 11.1).
    #[test]
    fn a_model_is_at_home_where_it_is_served() {
        use Api::{Chat, Completions, Embeddings, Images, Messages, Responses};
        for (kind, channels, home) in [
            (ModelKind::Chat, &[(&[Chat, Messages][..], None)][..], Chat),
            (ModelKind::Chat, &[(&[Messages], None)], Messages),
            (ModelKind::Chat, &[(&[Completions, Responses], None)], Responses),
            (ModelKind::Chat, &[(&[Completions, Embeddings], None)], Completions),
            (ModelKind::Chat, &[(&[Chat], Some("gold")), (&[Messages], None)], Messages),
            (ModelKind::Chat, &[(&[Chat], Some("gold"))], Chat),
            (ModelKind::Image, &[(&[Chat, Images], None)], Images),
            (ModelKind::GeminiImage, &[(&[Chat, Images], None)], Chat),
        ] {
            assert_eq!(model(kind, channels).home(None), home, "{kind:?} {channels:?}");
        }
        let channels: [(&[Api], _); 2] = [(&[Chat], Some("gold")), (&[Messages], None)];
        assert_eq!(model(ModelKind::Chat, &channels).home(Some("gold")), Chat);
    }
}
