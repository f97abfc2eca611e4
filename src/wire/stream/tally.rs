//! What a stream has used so far: as its upstream reports it, and by what it delivered (spec 7.1, 7.2).
//!
//! The rules are those of [`crate::wire::usage`]; here is kept what they need of a stream under way, in constant memory.

use super::Expected;
use crate::core::estimate::{Features, Piece};
use crate::core::usage::{Usage, UsageSource};
use crate::wire::prompt::{self, Member};
use crate::wire::usage::{Counted, Objects, Reading, Reported};
use bytes::Bytes;
use serde_json::value::RawValue;

/// Reports and deliveries of one stream.
#[derive(Debug, Default)]
pub(super) struct Tally {
    reported: Reported,
    /// The reports merged into one object, for a client that is to read it.
    object: Option<Bytes>,
    /// The text that was delivered up to the last report of output, and after it.
    covered: Features,
    since: Features,
    /// Bytes of all text that was delivered.
    bytes: u64,
    /// Images that were delivered, and those of them up to the last report of output.
    images: u64,
    images_covered: u64,
}

impl Tally {
    /// Counts a member of an event that is text for the client, or holds some.
    pub(super) fn deliver(&mut self, value: &RawValue) {
        prompt::read(Member::Text, value, |piece| {
            if let Piece::Text(text) = piece {
                self.deliver_text(text);
            }
        });
    }

    /// Counts a text.
    pub(super) fn deliver_text(&mut self, text: &str) {
        self.bytes += text.len() as u64;
        self.since.add_text(text);
    }

    /// Bytes of all text that was delivered.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Counts more images.
    pub(super) fn deliver_images(&mut self, more: u64) {
        self.images += more;
    }

    /// Sets how many images there are so far.
    pub(super) fn set_images(&mut self, images: u64) {
        self.images = images;
    }

    /// Takes a report in, after what its event delivers; `keep` its object for the client.
    pub(super) fn report(&mut self, usage: &RawValue, keep: bool) {
        let usage = usage.get().as_bytes();
        self.take(Reported::read(usage));
        if keep {
            let object = match &self.object {
                Some(before) => Objects::merge(before, usage).0,
                None => Bytes::copy_from_slice(usage),
            };
            self.object = Some(object);
        }
    }

    /// Takes the figures of a report in.
    pub(super) fn take(&mut self, report: Reported) {
        if report.covers_output(&self.reported) {
            self.covered.merge(&std::mem::take(&mut self.since));
            self.images_covered = self.images;
        }
        self.reported = self.reported.merged(report);
    }

    /// The merged object of all reports that were kept.
    pub(super) fn object(&self) -> Option<&Bytes> {
        self.object.as_ref()
    }

    /// What the reports come to.
    pub(super) fn reading(&self) -> Reading {
        self.reported.finish()
    }

    /// Whether the upstream says that it made output, or only that it thought.
    pub(super) fn says_output(&self) -> bool {
        self.reading().usage.is_some_and(|usage| usage.output > 0)
    }

    /// Whether the upstream says that it thought.
    pub(super) fn says_reasoning(&self) -> bool {
        self.reading().usage.is_some_and(|usage| usage.reasoning > 0)
    }

    /// What has been used so far.
    pub(super) fn usage(&self, expected: &Expected) -> (Usage, UsageSource) {
        let (usage, source) = self.reading().resolve(&self.counted(expected));
        (Usage { images: self.images, ..usage }, source)
    }

    /// What has been used so far by count alone.
    pub(super) fn counted_usage(&self, expected: &Expected) -> Usage {
        let Counted { input, output, image_output, .. } = self.counted(expected);
        Usage { input, output, image_output, images: self.images, ..Usage::default() }
    }

    /// All text that was delivered.
    pub(super) fn delivered(&self) -> Features {
        let mut all = self.covered;
        all.merge(&self.since);
        all
    }

    fn counted(&self, expected: &Expected) -> Counted {
        let tokens = |text: &Features| expected.tokenizer.tokens(text);
        let of_images = |images: u64| images.saturating_mul(expected.image_tokens);
        let image_output = of_images(self.images);
        let image_since = of_images(self.images.saturating_sub(self.images_covered));
        Counted {
            input: expected.input,
            output: tokens(&self.delivered()).saturating_add(image_output),
            image_output,
            since: tokens(&self.since).saturating_add(image_since),
            image_since,
            no_output: false,
        }
    }
}
