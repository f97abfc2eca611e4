//! How many tokens a request will be, without a vocabulary (spec 7.2).
//!
//! [`Features`] of the text are weighed for a [`Family`] of tokenizers: off by 5 to 8 % on 2 KB of code and of most
//! languages, by much more on Vietnamese and Turkish (too high), Greek, Ukrainian and base64 (too low). [`Prompt`] adds what
//! is not text: messages, names, images. [`Learned`] follows how far off a model's estimates are.

pub use super::family::Family;
pub use super::features::Features;
use std::sync::atomic::{AtomicU32, Ordering};

/// Tokens that frame a message, a name, and the reply.
const PER_MESSAGE: u64 = 3;
const PER_NAME: u64 = 1;
const PER_REPLY: u64 = 3;

/// How many tokens an image is, at most; a model's own.
///
/// Images are not decoded, so their size is unknown: what counts is the largest that the provider makes of any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageRule {
    /// So many for each.
    Fixed(u32),
    /// A base, and so many for each of the tiles of 512 pixels into which 2,048 × 768 are cut; no tile at low detail.
    Tiles {
        /// For each image.
        base: u32,
        /// For each tile.
        tile: u32,
    },
    /// Patches of 32 pixels, at most so many, each worth so many thousandths of a token.
    Patches {
        /// The most patches of an image.
        most: u32,
        /// Thousandths of a token for one.
        thousandths: u32,
    },
}

impl Default for ImageRule {
    fn default() -> Self {
        Self::Fixed(4_096)
    }
}

impl ImageRule {
    /// Tiles of the largest image: 2,048 × 768.
    const TILES_MAX: u64 = 8;
    /// Patches of an image at low detail: 512 × 512.
    const PATCHES_LOW: u32 = 256;

    /// The most tokens of an image, at low detail or any other.
    #[must_use]
    pub fn tokens(self, low: bool) -> u64 {
        match self {
            Self::Fixed(tokens) => u64::from(tokens),
            Self::Tiles { base, .. } if low => u64::from(base),
            Self::Tiles { base, tile } => u64::from(base) + Self::TILES_MAX * u64::from(tile),
            Self::Patches { most, thousandths } => {
                let patches = if low { most.min(Self::PATCHES_LOW) } else { most };
                (u64::from(patches) * u64::from(thousandths)).div_ceil(1_000)
            }
        }
    }
}

/// One thing found in a request body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Text that the model reads.
    Text(&'a str),
    /// JSON that describes tools or the form of the answer, which providers put in words of their own.
    Schema(&'a str),
    /// A message, beside its text.
    Message,
    /// A name of a speaker or a tool, beside its text.
    Name,
    /// A token that was given as its number.
    Listed,
    /// An image, or a document of which only a reference is given.
    Image {
        /// Whether low detail is asked for.
        low: bool,
    },
    /// A file, a sound or something encrypted, of about so many tokens.
    Bulk(u64),
}

/// What a request gives a model to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Prompt {
    /// The text, schemas included.
    pub text: Features,
    /// Bytes of the text.
    pub text_bytes: u64,
    /// Messages.
    pub messages: u64,
    /// Names.
    pub names: u64,
    /// Tokens given by number.
    pub listed: u64,
    /// Images at any detail but low.
    pub images: u64,
    /// Images at low detail.
    pub low_detail_images: u64,
    /// Tokens, by a rough bound, of files, sounds and encrypted parts.
    pub bulk: u64,
}

impl Prompt {
    /// Counts one more piece.
    pub fn add(&mut self, piece: Piece<'_>) {
        match piece {
            Piece::Text(text) | Piece::Schema(text) => {
                self.text.add_text(text);
                self.text_bytes += text.len() as u64;
            }
            Piece::Message => self.messages += 1,
            Piece::Name => self.names += 1,
            Piece::Listed => self.listed += 1,
            Piece::Image { low: true } => self.low_detail_images += 1,
            Piece::Image { low: false } => self.images += 1,
            Piece::Bulk(tokens) => self.bulk = self.bulk.saturating_add(tokens),
        }
    }

    /// About how many tokens it is.
    #[must_use]
    pub fn tokens(&self, family: Family, images: ImageRule) -> u64 {
        let high = self.images.saturating_mul(images.tokens(false));
        let low = self.low_detail_images.saturating_mul(images.tokens(true));
        let media = self.bulk.saturating_add(high).saturating_add(low);
        self.text_tokens(family).saturating_add(media)
    }

    /// About how many tokens it is without images, files and sounds.
    #[must_use]
    pub fn text_tokens(&self, family: Family) -> u64 {
        family.tokens(&self.text).saturating_add(self.frame())
    }

    /// Tokens that need no estimate: those listed, and those around messages, names and the reply.
    #[must_use]
    pub fn frame(&self) -> u64 {
        let reply = if self.messages > 0 { PER_REPLY } else { 0 };
        self.listed + PER_MESSAGE * self.messages + PER_NAME * self.names + reply
    }
}

/// How the estimates of one model compare to what upstreams report, as a factor that follows slowly.
#[derive(Debug, Default)]
pub struct Learned {
    /// Millionths; zero before the first sample.
    factor: AtomicU32,
}

impl Learned {
    /// Between these the factor stays, in thousandths, whatever is reported.
    pub const RANGE: (u32, u32) = (700, 3_000);
    /// Estimates below this say nothing: the frame of a message weighs too much in them.
    const ESTIMATE_MIN: u64 = 50;
    /// A ratio beyond these, in thousandths, is another matter than a tokenizer: a hidden prompt, a part not counted.
    const BELIEVED: (u64, u64) = (200, 6_000);
    /// The weight of a sample is one in so many.
    const WEIGHT: u64 = 16;
    /// What is reserved beyond the estimate, in hundredths: enough for the spread among most texts, not for a language
    /// that is estimated too low; that is what the factor is for.
    const MARGIN: u64 = 115;

    /// Takes a sample: what was estimated, without the factor, and what was reported.
    ///
    /// Estimates with images or files in them are bounds, and no samples.
    pub fn record(&self, estimated: u64, reported: u64) {
        if estimated < Self::ESTIMATE_MIN {
            return;
        }
        let ratio = reported.saturating_mul(1_000) / estimated;
        if ratio < Self::BELIEVED.0 || ratio > Self::BELIEVED.1 {
            return;
        }
        let sample = ratio.clamp(Self::RANGE.0.into(), Self::RANGE.1.into()) * 1_000;
        let follow = |word: u32| {
            let before = u64::from(whole(word));
            let next = (before * (Self::WEIGHT - 1) + sample) / Self::WEIGHT;
            u32::try_from(next).ok()
        };
        let _ = self.factor.fetch_update(Ordering::AcqRel, Ordering::Acquire, follow);
    }

    /// Reported over estimated tokens, in thousandths.
    #[must_use]
    pub fn thousandths(&self) -> u32 {
        whole(self.factor.load(Ordering::Acquire)).div_ceil(1_000)
    }

    /// Reported over estimated tokens, for a metric.
    #[must_use]
    pub fn factor(&self) -> f64 {
        f64::from(whole(self.factor.load(Ordering::Acquire))) / 1e6
    }

    /// What to expect for an estimate.
    #[must_use]
    pub fn expected(&self, estimated: u64) -> u64 {
        scaled(estimated, self.thousandths().into(), 1_000)
    }

    /// What to reserve for an estimate: what is expected, and a margin.
    #[must_use]
    pub fn reserve(&self, estimated: u64) -> u64 {
        scaled(self.expected(estimated), Self::MARGIN, 100)
    }
}

/// So many parts of a number, rounded up.
fn scaled(number: u64, parts: u64, whole: u64) -> u64 {
    let product = u128::from(number) * u128::from(parts);
    u64::try_from(product.div_ceil(whole.into())).unwrap_or(u64::MAX)
}

/// The factor of a word that may not have been written yet, in millionths.
fn whole(word: u32) -> u32 {
    if word == 0 { 1_000_000 } else { word }
}

#[cfg(test)]
#[path = "estimate_tests.rs"]
mod tests;
