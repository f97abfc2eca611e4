//! Encrypted and signed reasoning that a request brings along: where it was made, and what a channel is sent of it
//! (spec 1.5, 9.6).

use super::generation::Generation;
use super::upstream::Channel;
use crate::core::catalog::Model;
use crate::core::id::ChannelId;
use crate::wire::provenance::{self, Origin, Sealed};
use crate::wire::seal::Sealer;
use crate::wire::splice::Edit;
use bytes::Bytes;

/// The reasoning of a request, with the accounts that made it as far as their marks say.
#[derive(Default)]
pub(super) struct Thoughts {
    sealed: Vec<Sealed>,
    origins: Vec<Option<Origin>>,
}

/// A channel, and a credential of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) channel: ChannelId,
    pub(super) credential: Option<usize>,
}

impl Thoughts {
    /// Opens the marks that this account was given.
    pub(super) fn open(sealed: Vec<Sealed>, body: &Bytes, sealer: &Sealer, account: &str) -> Self {
        let origin = |sealed: &Sealed| {
            let mark = std::str::from_utf8(body.get(sealed.mark.clone()?)?).ok()?;
            sealer.origin(mark, account)
        };
        let origins = sealed.iter().map(origin).collect();
        Self { sealed, origins }
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.sealed.is_empty()
    }

    /// Whether all of it can be left out.
    pub(super) fn is_droppable(&self) -> bool {
        self.sealed.iter().all(|sealed| sealed.is_droppable)
    }

    /// The place where the conversation went last, among the channels of a model.
    pub(super) fn home(&self, generation: &Generation, model: &Model) -> Option<Place> {
        let origin = self.origins.iter().rev().flatten().next()?;
        place_of(origin, generation, model)
    }

    /// The only place that can read what must not be left out, if there is such a thing and it is known who made it.
    pub(super) fn only_place(&self, generation: &Generation, model: &Model) -> Option<Place> {
        let bound = self.sealed.iter().zip(&self.origins).filter(|(sealed, _)| !sealed.is_droppable);
        let origin = bound.filter_map(|(_, origin)| origin.as_ref()).next_back()?;
        // A channel that is not there any more cannot be drawn.
        let nowhere = || Place { channel: ChannelId::new(usize::MAX), credential: None };
        Some(place_of(origin, generation, model).unwrap_or_else(nowhere))
    }

    /// The edits for a channel: marks are cut off, and what this credential cannot read is left out, or all of it.
    pub(super) fn edits(&self, at: &Channel, credential: Option<usize>, without: bool) -> Vec<Edit> {
        let own = Origin { channel: at.sealed_name, credential: at.sealed_credential(credential) };
        provenance::edits(&self.sealed, |index| {
            let is_droppable = self.sealed.get(index).is_some_and(|sealed| sealed.is_droppable);
            // What has no mark, or one that cannot be opened, may be anybody's.
            let is_foreign = self
                .origins
                .get(index)
                .is_some_and(|origin| origin.as_ref().is_some_and(|origin| !is_same_account(origin, &own)));
            is_droppable && (without || is_foreign)
        })
    }
}

/// Whether two places belong to one account: one credential may be used at several channels.
fn is_same_account(one: &Origin, other: &Origin) -> bool {
    one.credential == other.credential && (one.credential != 0 || one.channel == other.channel)
}

/// Where the account of an origin can be reached, preferably at the same channel.
fn place_of(origin: &Origin, generation: &Generation, model: &Model) -> Option<Place> {
    let places = model.candidates().filter_map(|candidate| {
        let channel = generation.channel(candidate.channel)?;
        let credential = channel.credential_of(origin.credential);
        let is_same = channel.sealed_name == origin.channel;
        let serves = credential.is_some() || origin.credential == 0 && is_same;
        serves.then_some((is_same, Place { channel: candidate.channel, credential }))
    });
    places.max_by_key(|(is_same, _)| *is_same).map(|(_, place)| place)
}
