//! What the body of a call asks for, read once, as values of its own.

use super::admit::Stop;
use super::offload;
use crate::core::estimate::{Piece, Prompt};
use crate::core::images::ImageWishes;
use crate::core::refusal::Refusal;
use crate::wire::edit_form::EditForm;
use crate::wire::endpoint::Call;
use crate::wire::envelope::{Envelope, Places, UsageOption, opening};
use crate::wire::images::Modalities;
use crate::wire::multipart::Boundary;
use crate::wire::prompt::{self, Member};
use crate::wire::provenance::{self, Sealed};
use bytes::Bytes;
use memchr::memmem::Finder;
use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::sync::LazyLock;

/// Larger bodies are read on the pool for blocking work, so that they keep no other request waiting, in bytes.
const INLINE_MAX: usize = 256 * 1024;
/// One of these stands in every request of a conversation that goes on: members of requests whose answers may carry thoughts
/// that belong to one account, tools, and earlier answers.
static ONGOING: LazyLock<[Finder<'static>; 6]> = LazyLock::new(|| {
    ["\"thinking\"", "\"reasoning\"", "\"encrypted_content\"", "\"assistant\"", "\"tools\"", "\"functions\""]
        .map(Finder::new)
});

/// One of these stands in every request whose answer may have reasoning that one account alone can read.
static THINKS: LazyLock<[Finder<'static>; 3]> =
    LazyLock::new(|| ["encrypted_content", "\"thinking\"", "\"context_management\""].map(Finder::new));

/// What the body of a call asks for.
pub(super) struct Asked {
    /// The model, as named by the client.
    pub(super) model: String,
    /// Whether a stream is asked for.
    pub(super) stream: bool,
    /// Whether the answer is to be made in the background, and fetched later.
    pub(super) background: bool,
    /// How many answers are asked for, to each prompt.
    pub(super) choices: u64,
    /// How many prompts there are (completions).
    pub(super) prompts: u64,
    /// How many inputs there are (embeddings).
    pub(super) inputs: u64,
    /// The member that asks for so many.
    pub(super) choices_param: &'static str,
    /// The seconds of each video, where it names them.
    pub(super) seconds: Option<u64>,
    /// What the model is given to read.
    pub(super) prompt: Prompt,
    /// The response that this one goes on from, as it stands, and where.
    pub(super) previous: Option<(String, Range<usize>)>,
    /// What the request belongs to, as far as its body says so, as a digest.
    pub(super) affinity: Option<u64>,
    /// Encrypted and signed reasoning of earlier answers.
    pub(super) thoughts: Vec<Sealed>,
    /// Whether the answer may have such reasoning.
    pub(super) thinks: bool,
    /// How images should be.
    pub(super) wishes: ImageWishes,
    /// What an answer should consist of.
    pub(super) modalities: Modalities,
    /// What separates the parts of the body, where it is a form.
    pub(super) form: Option<Boundary>,
    /// Where to edit.
    pub(super) places: Places,
}

/// Reads the body of a call: a form with this boundary, or JSON.
///
/// # Errors
///
/// A refusal of the envelope stage.
///
/// # Cancel safety
///
/// May be dropped; a large body is still read to its end, for nobody.
pub(super) async fn read(body: &Bytes, form: Option<Boundary>, call: Call) -> Result<Asked, Stop> {
    let text = body.clone();
    Ok(off_thread(body.len(), move || parse(&text, form, call)).await??)
}

/// Runs work on a body of this size: at once, or where it keeps nobody waiting if it may take long.
///
/// # Errors
///
/// As of [`offload::run`].
///
/// # Cancel safety
///
/// May be dropped; work on a large body is still done to its end, for nobody.
pub(super) async fn off_thread<T: Send + 'static>(
    size: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Stop> {
    if size <= INLINE_MAX {
        return Ok(work());
    }
    offload::run(work).await
}

fn parse(body: &[u8], form: Option<Boundary>, call: Call) -> Result<Asked, Refusal> {
    if let Some(boundary) = form {
        return Ok(of_form(EditForm::parse(body, &boundary)?, boundary));
    }
    let envelope = Envelope::parse(body, call)?;
    Ok(Asked {
        affinity: envelope
            .affinity
            .map(|what| digest(what.as_bytes()))
            .or_else(|| conversation(&envelope, body)),
        thoughts: envelope.conversation.map(|list| provenance::find(list, body)).unwrap_or_default(),
        thinks: THINKS.iter().any(|name| name.find(body).is_some()),
        model: envelope.model.into_owned(),
        stream: envelope.stream,
        background: envelope.background,
        choices: envelope.choices,
        prompts: envelope.prompts,
        inputs: envelope.inputs,
        choices_param: envelope.choices_param,
        seconds: envelope.seconds,
        prompt: envelope.prompt,
        previous: envelope.previous.map(|(raw, place)| (raw.to_owned(), place)),
        wishes: envelope.wishes,
        modalities: envelope.modalities,
        form: None,
        places: envelope.places,
    })
}

fn of_form(form: EditForm, boundary: Boundary) -> Asked {
    Asked {
        model: form.model,
        stream: form.stream,
        background: false,
        choices: form.choices,
        prompts: 1,
        inputs: 1,
        choices_param: "n",
        prompt: form.prompt,
        previous: None,
        affinity: form.user.map(|user| digest(user.as_bytes())),
        thoughts: Vec::new(),
        thinks: false,
        wishes: form.wishes,
        modalities: Modalities::Settled,
        form: Some(boundary),
        seconds: None,
        places: Places { model: form.place, usage: UsageOption::NoOptions(None), bounds: Vec::new() },
    }
}

/// The text of the message with which a conversation begins, as a digest: it stays together where nothing else says that it
/// does, since prompt caches help only there, and what a provider signs or encrypts can be read under the account alone that
/// made it. The system message before it is the same in many conversations; marks of caching move from turn to turn, and
/// do not count. What is asked once, and goes on from nothing, is spread.
fn conversation(envelope: &Envelope<'_>, body: &[u8]) -> Option<u64> {
    let goes_on = || ONGOING.iter().any(|name| name.find(body).is_some());
    let first = envelope.conversation.filter(|_| goes_on()).and_then(opening)?;
    let mut hasher = std::hash::DefaultHasher::new();
    prompt::read(Member::Conversation, first, |piece| match piece {
        Piece::Text(text) => text.hash(&mut hasher),
        Piece::Bulk(size) => size.hash(&mut hasher),
        _ => {}
    });
    Some(hasher.finish())
}

/// A number for something that names what a request belongs to.
pub(super) fn digest(what: &[u8]) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}
