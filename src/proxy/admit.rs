//! Phase 1: what a request asks for, and whether it may (spec 4.1).
//!
//! The checks stand here in their order; the first that fails answers, nothing after it runs, and no upstream hears of
//! it.

use super::asked::{self, Asked};
use super::body::Received;
use super::charge::Need;
use super::generation::Generation;
use super::parameters::{self, Caller, Parameters};
use super::replay::Body;
use super::thoughts::Thoughts;
use super::{Ctx, Downstream, body, clock, origin, quota};
use crate::core::api::{Api, ModelKind};
use crate::core::catalog::{Candidate, Model};
use crate::core::id::{ChannelId, ModelId};
use crate::core::images::ImageFault;
use crate::core::key::Key;
use crate::core::limits::{self, Ask};
use crate::core::overload::Level;
use crate::core::refusal::{Failure, Refusal};
use crate::wire::cors::Field;
use crate::wire::credential::{self, Presented};
use crate::wire::endpoint::{Call, Endpoint, Route, route};
use crate::wire::envelope::Places;
use crate::wire::multipart::Boundary;
use crate::wire::splice::Edit;
use crate::wire::{seal, splice};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Version};
use pingora::http::RequestHeader;
use sha2::{Digest, Sha256};
use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

/// Headers by which clients name a session.
const SESSION_HEADERS: [&str; 7] = [
    "x-session-id",
    "session_id",
    "session-id",
    "x-session-affinity",
    "x-claude-code-session-id",
    "conversation",
    "conversation_id",
];
/// The longest name of a header field, in bytes.
pub(crate) const NAME_MAX: usize = 256;
/// Header fields that a request may have.
pub(crate) const FIELDS_MAX: usize = 128;

/// The refusal of a response that cannot be gone on from.
const NOT_TO_GO_ON_FROM: Refusal = Refusal::InvalidValue {
    param: "previous_response_id",
    why: "names no response that can be gone on from",
};

/// An admitted request.
pub(super) enum Admitted {
    /// The health path of load balancers.
    Health,
    /// A question of a browser, and its answer.
    Preflight(Vec<Field>),
    /// The list of models, for a key or for anyone.
    Models(Visible),
    /// One model by its id.
    Model(Visible, String),
    /// The balance of a key and its account.
    Balance(Arc<Key>),
    /// A call to relay.
    Call(Box<AdmittedCall>),
}

/// Which models a caller may see: all, or those of a key.
pub(super) struct Visible(Option<Arc<Key>>);

/// A call that may be relayed.
pub(super) struct AdmittedCall {
    pub(super) call: Call,
    pub(super) model: ModelId,
    pub(super) public_model: Arc<str>,
    pub(super) group: Option<Box<str>>,
    pub(super) stream: bool,
    /// Requests with the same number belong together (spec 9.6).
    pub(super) affinity: Option<u64>,
    /// Where the response is stored that this one goes on from.
    pub(super) pin: Option<Pin>,
    /// Encrypted and signed reasoning of earlier answers.
    pub(super) thoughts: Thoughts,
    /// Whether the answer may have such reasoning.
    pub(super) thinks: bool,
    /// The response that this one goes on from, as the client says it, as JSON.
    pub(super) previous: Bytes,
    /// What the model or a channel does not take as it is.
    pub(super) parameters: Parameters,
    /// Who asks.
    pub(super) account: Arc<str>,
    pub(super) body: Body,
    pub(super) places: Places,
    /// What the gateway adds to the body for every channel.
    pub(super) added: Option<Edit>,
    /// What separates the parts of the body, where it is a form.
    pub(super) form: Option<Boundary>,
    /// What it may need, in tokens.
    pub(super) need: Need,
    /// The bound of each answer that the balance covers, where that is less than the call's own.
    pub(super) bound: Option<u64>,
}

/// A stored response that a request goes on from (spec 1.5): it is at one channel, under one credential.
pub(super) struct Pin {
    pub(super) channel: ChannelId,
    pub(super) credential: Option<usize>,
    /// Its id there, as JSON.
    pub(super) upstream_id: Bytes,
    /// Where its id stands in the body.
    pub(super) place: Range<usize>,
}

/// Why a request goes no further.
pub(super) enum Stop {
    /// It is refused.
    Failure(Failure),
    /// There is nobody left to answer.
    ClientGone,
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Failure(refusal.into())
    }
}

impl Visible {
    /// Whether the caller may know of this model.
    pub(super) fn sees(&self, model: &Model) -> bool {
        self.0.as_ref().is_none_or(|key| key.may_use(&model.id) && model.exists_for(key.group()))
    }
}

/// Runs all checks.
///
/// # Errors
///
/// [`Stop`] for the first that failed.
///
/// # Cancel safety
///
/// May be dropped; permits go back with `ctx`.
pub(super) async fn admit(session: &mut Downstream, ctx: &mut Ctx) -> Result<Admitted, Stop> {
    check_head(session.req_header(), ctx.generation.server.header_max)?;
    if ctx.shared.shedding.reaches(Level::RefuseRequests) {
        return Err(Refusal::Overloaded.into());
    }
    ctx.slot = Some(ctx.generation.slots.try_acquire().ok_or(Refusal::Busy)?);
    let path = session.req_header().uri.path().to_owned();
    if ctx.generation.server.health_path.as_deref() == Some(&path) {
        ctx.record.route = "health";
        return Ok(Admitted::Health);
    }
    let found = route(session.req_header().method.as_str(), &path);
    if found != Route::Unknown && wants_websocket(session.req_header()) {
        return Err(Refusal::WebSocket.into());
    }
    let endpoint = match found {
        Route::Found(endpoint) => endpoint,
        Route::WrongMethod(allow) if session.req_header().method == Method::OPTIONS => {
            let cors = ctx.generation.cors.as_ref();
            let told = cors.and_then(|cors| cors.preflight(&session.req_header().headers, allow));
            ctx.record.route = "preflight";
            return told.map(Admitted::Preflight).ok_or(Refusal::WrongMethod(allow).into());
        }
        Route::WrongMethod(allow) => return Err(Refusal::WrongMethod(allow).into()),
        Route::Unknown => return Err(Refusal::UnknownPath.into()),
    };
    ctx.record.route = endpoint.label();
    match endpoint {
        Endpoint::Models => Ok(Admitted::Models(visible(session, ctx)?)),
        Endpoint::Model(id) => {
            let id = percent_encoding::percent_decode_str(id).decode_utf8_lossy().into_owned();
            Ok(Admitted::Model(visible(session, ctx)?, id))
        }
        Endpoint::Balance => Ok(Admitted::Balance(visible(session, ctx)?.0.ok_or(Refusal::MissingKey)?)),
        Endpoint::Call(call) => admit_call(session, ctx, call).await,
    }
}

async fn admit_call(session: &mut Downstream, ctx: &mut Ctx, call: Call) -> Result<Admitted, Stop> {
    let generation = Arc::clone(&ctx.generation);
    body::check_declared_size(session, generation.server.body_max)?;
    let key = authenticate(session, ctx)?.ok_or(Refusal::MissingKey)?;
    let form = check_media_type(&session.req_header().headers, call)?;
    check_prospects(session, ctx, &key, call)?;
    let received = read_body(session, ctx).await?;
    let body = received.bytes.clone();
    let mut asked = asked::read(&body, form, call).await?;
    let thoughts = std::mem::take(&mut asked.thoughts);
    let thoughts = Thoughts::open(thoughts, &body, &ctx.shared.sealer, &key.account.id);
    let pin = if call.is_response() { pin(ctx, &key.account.id, &asked)? } else { None };
    ctx.record.stream = asked.stream && call.can_stream();
    let unknown = || Refusal::UnknownModel(asked.model.clone());
    let found = generation.catalog.find(&asked.model);
    let (model, entry) = found.filter(|(_, model)| model.exists_for(key.group())).ok_or_else(unknown)?;
    ctx.record.model = Some(model);
    check_access(session, ctx, &key, entry)?;
    check_rules(entry, key.group(), call, &asked)?;
    check_pin(pin.as_ref(), entry, key.group())?;
    check_images(entry, &asked)?;
    let caller = Caller { group: key.group(), api: call.api(), pin: pin.as_ref() };
    let mut parameters = parameters::check(&generation, entry, caller, &asked, &body).await?;
    if call.is_response() {
        parameters.barred.extend(untrusted(&generation, entry, key.group(), &asked)?);
    }
    let mut need = quota::need(entry, generation.learned(model), call, &asked, ctx.record.stream);
    if let Some(largest) = quota::check_context(entry, call, &asked, &body).await? {
        need.in_context = largest;
    }
    let limits = [&generation.limits, &key.account.limits, &key.limits, &entry.limits];
    let ask = Ask { input: need.input, output: need.output_ahead(), now: ctx.shared.clock.nanos() };
    ctx.admission = Some(limits::try_admit(&limits, ask).map_err(Refusal::Limited)?);
    ctx.need = Some(need).filter(|_| !call.is_free());
    let bound = quota::reserve(ctx, &key, entry, call, need).await?;
    ctx.in_flight = generation.labels.begin(model);
    Ok(Admitted::Call(Box::new(AdmittedCall {
        call,
        model,
        public_model: Arc::clone(&entry.id),
        group: key.group().map(Into::into),
        stream: ctx.record.stream,
        affinity: affinity(&session.req_header().headers, &key, &asked),
        pin,
        previous: previous(&asked, &body),
        thoughts,
        thinks: asked.thinks || call == Call::Compact,
        parameters,
        account: Arc::clone(&key.account.id),
        body: keep(ctx, received),
        added: added(entry, &asked),
        form: asked.form,
        places: asked.places,
        need,
        bound,
    })))
}

/// Keeps a body for as many attempts as there may be, if there is room for it.
fn keep(ctx: &Ctx, body: Received) -> Body {
    let body = ctx.shared.replay.keep(body, ctx.generation.server.replay_max);
    if !body.is_replayable() {
        ctx.shared.metrics.health().not_replayable();
    }
    body
}

/// What a request belongs to: a session that a header names, the prompt cache's key, a stored conversation, the end user, or
/// a conversation by its first message. It is bound to the account, and nothing is remembered: the same number draws the same channel (spec 9.6).
fn affinity(headers: &HeaderMap, key: &Key, asked: &Asked) -> Option<u64> {
    let session = SESSION_HEADERS.iter().find_map(|name| headers.get(*name)).map(HeaderValue::as_bytes);
    let what = session.map(asked::digest).or(asked.affinity)?;
    let mut hasher = std::hash::DefaultHasher::new();
    (&*key.account.id, &*asked.model, what).hash(&mut hasher);
    Some(hasher.finish())
}

/// Where the response is stored that a request goes on from; an id that is not the gateway's
/// is for trusted channels (see [`untrusted`]).
fn pin(ctx: &Ctx, account: &str, asked: &Asked) -> Result<Option<Pin>, Refusal> {
    let Some((raw, place)) = &asked.previous else { return Ok(None) };
    let Ok(id) = serde_json::from_str::<String>(raw) else { return Ok(None) };
    if !id.starts_with(seal::PREFIX) {
        return Ok(None);
    }
    let unknown = NOT_TO_GO_ON_FROM;
    let stored = ctx.shared.sealer.open(&id, account).ok_or(unknown.clone())?;
    let channels = ctx.generation.channels.iter().enumerate();
    let (index, channel) = channels
        .filter(|(_, channel)| channel.settings.enabled)
        .find(|(_, channel)| channel.sealed_name == stored.channel)
        .ok_or(unknown.clone())?;
    let credential = channel.credential_of(stored.credential);
    if credential.is_none() && stored.credential != 0 {
        return Err(unknown);
    }
    Ok(Some(Pin {
        channel: ChannelId::new(index),
        credential,
        upstream_id: splice::json_string(&stored.upstream_id).into(),
        place: place.clone(),
    }))
}

/// The channels that must not see the response id of a request, because the gateway did not give it: whoever learns an
/// upstream's id could go on from another caller's response there. Only trusted channels give their own ids.
fn untrusted(
    generation: &Generation,
    model: &Model,
    group: Option<&str>,
    asked: &Asked,
) -> Result<Vec<ChannelId>, Refusal> {
    let named = asked.previous.as_ref().and_then(|(raw, _)| serde_json::from_str::<String>(raw).ok());
    if named.is_none_or(|id| id.starts_with(seal::PREFIX)) {
        return Ok(Vec::new());
    }
    let trusted = |candidate: &Candidate| {
        generation.channel(candidate.channel).is_some_and(|channel| channel.settings.trusted)
    };
    let serves = |candidate: &Candidate| {
        trusted(candidate) && candidate.apis.contains(Api::Responses) && candidate.serves(group)
    };
    if !model.candidates().any(serves) {
        return Err(NOT_TO_GO_ON_FROM);
    }
    let others = model.candidates().filter(|candidate| !trusted(candidate));
    Ok(others.map(|candidate| candidate.channel).collect())
}

/// What the client says of the response that its request goes on from; it is all that it is told of it (spec 1.5, 2.8).
fn previous(asked: &Asked, body: &Bytes) -> Bytes {
    let told = asked.previous.as_ref().filter(|(_, place)| place.end <= body.len());
    told.map_or(Bytes::from_static(b"null"), |(_, place)| body.slice(place.clone()))
}

/// A response is gone on from with a model that the channel serves where it is stored; no other channel will ever do.
fn check_pin(pin: Option<&Pin>, model: &Model, group: Option<&str>) -> Result<(), Refusal> {
    let Some(pin) = pin else { return Ok(()) };
    let serves = |candidate: &Candidate| {
        candidate.channel == pin.channel && candidate.apis.contains(Api::Responses) && candidate.serves(group)
    };
    if model.candidates().any(serves) { Ok(()) } else { Err(NOT_TO_GO_ON_FROM) }
}

/// Bounds and form of the request head (spec 15.1, 15.2).
fn check_head(head: &RequestHeader, bytes_max: usize) -> Result<(), Refusal> {
    let fields = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
    let bytes: usize = head.raw_path().len() + fields.sum::<usize>();
    if bytes > bytes_max || head.headers.len() > FIELDS_MAX {
        return Err(Refusal::HeadersTooLarge);
    }
    if head.headers.keys().any(|name| name.as_str().len() > NAME_MAX) {
        return Err(Refusal::HeadersTooLarge);
    }
    if head.uri.authority().is_some() && head.version < Version::HTTP_2 {
        return Err(Refusal::BadRequest("The request names another server."));
    }
    match head.headers.get("host").map(HeaderValue::as_bytes) {
        None if head.version == Version::HTTP_11 => Err(Refusal::BadRequest("The request has no Host.")),
        Some(host) if host.contains(&b'@') => {
            Err(Refusal::BadRequest("The Host of the request is not a host."))
        }
        _ => Ok(()),
    }
}

/// Whether a request is the handshake of a WebSocket (RFC 6455, 4.1).
fn wants_websocket(head: &RequestHeader) -> bool {
    let upgrades = head.headers.get_all("upgrade").iter().filter_map(|value| value.to_str().ok());
    head.method == Method::GET
        && upgrades
            .flat_map(|value| value.split(','))
            .any(|protocol| protocol.trim().eq_ignore_ascii_case("websocket"))
}

/// The caller's key, if one was presented.
fn authenticate(session: &Downstream, ctx: &mut Ctx) -> Result<Option<Arc<Key>>, Refusal> {
    let now = clock::unix().as_secs();
    let known = ctx.shared.directory.current();
    let find = |presented: &str| {
        let digest: [u8; 32] = Sha256::digest(presented.as_bytes()).into();
        known.authenticate(&digest, now)
    };
    let key = match credential::presented(&session.req_header().headers)? {
        Presented::Nothing => return Ok(None),
        Presented::One(presented) => find(presented).ok_or(Refusal::InvalidKey)?,
        // The one that is a key counts, if the other is none.
        Presented::Two(one, other) => match (one.and_then(&find), other.and_then(&find)) {
            (Some(key), None) | (None, Some(key)) => key,
            _ => return Err(Refusal::CredentialsDiffer),
        },
    };
    ctx.record.key = Some(Arc::clone(&key.id));
    Ok(Some(Arc::clone(key)))
}

/// The caller's key for what it may read: none, or one that is used from where it may.
fn visible(session: &Downstream, ctx: &mut Ctx) -> Result<Visible, Refusal> {
    let key = authenticate(session, ctx)?;
    if let Some(key) = &key {
        check_address(session, ctx, key)?;
    }
    Ok(Visible(key))
}

/// The body is JSON, or a form where images are edited (spec 4.3), whose boundary is given then; parameters of JSON
/// (`charset`) do not matter, it is UTF-8.
fn check_media_type(headers: &HeaderMap, call: Call) -> Result<Option<Boundary>, Refusal> {
    let media_type = headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
    if let Some(boundary) = Boundary::of(media_type).filter(|_| call == Call::ImageEdits) {
        return boundary.map(Some).map_err(Refusal::BadForm);
    }
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    let is_json = essence.eq_ignore_ascii_case("application/json")
        || essence
            .to_ascii_lowercase()
            .strip_prefix("application/")
            .is_some_and(|sub| sub.ends_with("+json"));
    if is_json { Ok(None) } else { Err(Refusal::MediaType) }
}

/// Looks at the limits and the money of a key before a large or compressed body is read: who has none costs no more.
///
/// # Errors
///
/// The refusal that would answer a request of any size.
fn check_prospects(session: &Downstream, ctx: &Ctx, key: &Key, call: Call) -> Result<(), Refusal> {
    let declared = body::declared_size(session).unwrap_or(u64::MAX);
    let is_compressed = session.get_header("content-encoding").is_some();
    if call.is_free() || (declared <= body::SMALL_MAX && !is_compressed) {
        return Ok(());
    }
    let ask = Ask { input: 0, output: 0, now: ctx.shared.clock.nanos() };
    limits::check(&[&ctx.generation.limits, &key.account.limits, &key.limits], ask)
        .map_err(Refusal::Limited)?;
    if key.account.prepaid && !quota::has_funds(&ctx.shared.teller, key) {
        // The model may be free; it is not known yet, but a large input to it is not worth more than this.
        let all_paid = ctx.generation.catalog.all().all(|model| quota::charged(key, model).is_some());
        if all_paid {
            return Err(Refusal::InsufficientQuota);
        }
    }
    Ok(())
}

async fn read_body(session: &mut Downstream, ctx: &mut Ctx) -> Result<Received, Stop> {
    let server = &ctx.generation.server;
    let encoding =
        session.get_header("content-encoding").map(|value| value.to_str().unwrap_or("?").to_owned());
    let bounds = body::Bounds {
        size: server.body_max,
        time: server.body_timeout,
        total: server.body_total_max.unwrap_or(ctx.shared.bodies_max),
        ratio: server.inflation_max,
    };
    let began = Instant::now();
    let read = body::read(session, bounds, &ctx.shared.bodies).await;
    ctx.waited_for_client = began.elapsed();
    let received = match read {
        Ok(received) => received,
        Err(body::Unread::Refused(refusal)) => return Err(refusal.into()),
        Err(body::Unread::Gone) => return Err(Stop::ClientGone),
    };
    body::inflate(received, encoding.as_deref(), bounds, &ctx.shared.bodies).await
}

fn check_address(session: &Downstream, ctx: &Ctx, key: &Key) -> Result<(), Refusal> {
    if !key.networks.is_empty() {
        let origin = origin::of(session, &ctx.generation.trusted_proxies);
        if !origin.is_some_and(|address| key.may_come_from(address)) {
            return Err(Refusal::AddressDenied);
        }
    }
    Ok(())
}

fn check_access(session: &Downstream, ctx: &Ctx, key: &Key, model: &Model) -> Result<(), Refusal> {
    check_address(session, ctx, key)?;
    check_model(key, model)
}

/// Whether the holder of a key may call a model.
pub(super) fn check_model(key: &Key, model: &Model) -> Result<(), Refusal> {
    if !key.may_use(&model.id) {
        return Err(Refusal::ModelDenied(model.id.to_string()));
    }
    if model.verification && !key.account.verified {
        return Err(Refusal::VerificationRequired(model.id.to_string()));
    }
    Ok(())
}

/// The images asked for are those that the model makes (spec 11.2).
fn check_images(model: &Model, asked: &Asked) -> Result<(), Refusal> {
    // What is added to a request has to be what its upstream reads.
    let doubtful = asked.wishes.doubtful.filter(|_| model.kind == ModelKind::GeminiImage);
    match doubtful {
        Some(member) => Err(Refusal::ImageRule(ImageFault::Doubtful(member))),
        None => model.images.check(&asked.wishes).map_err(Refusal::ImageRule),
    }
}

/// A model that makes images in a conversation is asked for one (spec 11.1).
fn added(model: &Model, asked: &Asked) -> Option<Edit> {
    let end = asked.places.model.end;
    Some(&asked.modalities).filter(|_| model.kind == ModelKind::GeminiImage)?.with_image(end)
}

/// The endpoint fits the model, a stream is asked for only where there is one, and no answer that nobody could fetch.
fn check_rules(model: &Model, group: Option<&str>, call: Call, asked: &Asked) -> Result<(), Refusal> {
    if !model.reachable_for(group, call.api()) {
        return Err(Refusal::WrongEndpoint { model: model.id.to_string(), home: model.home(group) });
    }
    if asked.stream && !call.can_stream() {
        return Err(Refusal::InvalidValue { param: "stream", why: "must be false at this endpoint" });
    }
    if asked.background && !asked.stream && call.is_response() {
        let why = "must be false, unless a stream is asked for: answers cannot be fetched later";
        return Err(Refusal::InvalidValue { param: "background", why });
    }
    Ok(())
}
