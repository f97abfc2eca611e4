//! `GET /v1/models` and `GET /v1/models/{id}` (spec 1.7), in OpenAI's shape, or in Anthropic's for clients that name a version
//! of its API.

use super::admit::Visible;
use super::{Ctx, Cut, Downstream, reply};
use crate::core::catalog::Model;
use crate::core::refusal::Refusal;
use crate::telemetry::record::End;
use bytes::Bytes;
use serde::Serialize;
use std::time::{Duration, UNIX_EPOCH};

/// The header by which a client shows that it speaks Anthropic's API.
const ANTHROPIC_VERSION: &str = "anthropic-version";
/// Models of a page where a client names no number.
const LIMIT_DEFAULT: usize = 20;
/// The most models of a page.
const LIMIT_MAX: usize = 1_000;

#[derive(Serialize)]
struct List<'a> {
    object: &'static str,
    data: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    owned_by: &'a str,
    #[serde(flatten)]
    bounds: Bounds,
}

/// A page of models in Anthropic's shape.
#[derive(Serialize)]
struct Page<'a> {
    data: Vec<Info<'a>>,
    has_more: bool,
    first_id: Option<&'a str>,
    last_id: Option<&'a str>,
}

#[derive(Serialize)]
struct Info<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: &'a str,
    display_name: &'a str,
    created_at: String,
    #[serde(flatten)]
    bounds: Bounds,
}

/// Bounds of a model in tokens, where they are configured.
#[derive(Serialize)]
struct Bounds {
    #[serde(skip_serializing_if = "Option::is_none")]
    context_length: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_output_tokens: Option<u64>,
}

impl Bounds {
    fn of(model: &Model) -> Self {
        Self { context_length: model.context_window, max_output_tokens: model.output_max }
    }
}

impl<'a> Entry<'a> {
    fn of(model: &'a Model, loaded_at: u64) -> Self {
        let created = model.created.unwrap_or(loaded_at);
        let owned_by = model.id.split_once('/').map_or("tidegate", |(owner, _)| owner);
        Self { id: &model.id, object: "model", created, owned_by, bounds: Bounds::of(model) }
    }
}

impl<'a> Info<'a> {
    fn of(model: &'a Model, loaded_at: u64) -> Self {
        let created = UNIX_EPOCH + Duration::from_secs(model.created.unwrap_or(loaded_at));
        Self {
            kind: "model",
            id: &model.id,
            display_name: &model.id,
            created_at: humantime::format_rfc3339_seconds(created).to_string(),
            bounds: Bounds::of(model),
        }
    }
}

/// Which part of the list a client asks for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Paging {
    limit: Option<usize>,
    after: Option<String>,
    before: Option<String>,
}

impl Paging {
    fn parse(query: &str) -> Result<Self, Refusal> {
        let mut paging = Self::default();
        for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            let value = percent_encoding::percent_decode_str(value).decode_utf8_lossy();
            match name {
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
                    let why = "must be a whole number from 1 to 1000";
                    paging.limit = Some(limit.ok_or(Refusal::InvalidValue { param: "limit", why })?);
                }
                "after_id" if !value.is_empty() => paging.after = Some(value.into_owned()),
                "before_id" if !value.is_empty() => paging.before = Some(value.into_owned()),
                _ => {}
            }
        }
        if paging.after.is_some() && paging.before.is_some() {
            return Err(Refusal::InvalidValue {
                param: "before_id",
                why: "cannot be combined with after_id",
            });
        }
        Ok(paging)
    }

    /// The models of the page, and whether there are more in its direction.
    fn part<'m, 'a>(&self, models: &'m [&'a Model]) -> Result<(&'m [&'a Model], bool), Refusal> {
        let limit = self.limit.unwrap_or(LIMIT_DEFAULT);
        let find = |id: &str, param| {
            let why = "does not name a model of the list";
            models.iter().position(|model| *model.id == *id).ok_or(Refusal::InvalidValue { param, why })
        };
        if let Some(before) = &self.before {
            let end = find(before, "before_id")?;
            let start = end.saturating_sub(limit);
            return Ok((models.get(start..end).unwrap_or_default(), start > 0));
        }
        let start = match &self.after {
            Some(after) => find(after, "after_id")? + 1,
            None => 0,
        };
        let end = start.saturating_add(limit).min(models.len());
        Ok((models.get(start..end).unwrap_or_default(), end < models.len()))
    }
}

fn is_anthropic(session: &Downstream) -> bool {
    session.req_header().headers.contains_key(ANTHROPIC_VERSION)
}

/// Answers with the models on offer that the caller may see.
///
/// # Errors
///
/// [`Cut`] if the client left.
///
/// # Cancel safety
///
/// Must be run to its end.
pub(super) async fn list(session: &mut Downstream, ctx: &mut Ctx, visible: &Visible) -> Result<(), Cut> {
    let body = {
        let (catalog, loaded_at) = (&ctx.generation.catalog, ctx.generation.loaded_at);
        let on_offer = catalog.on_offer().filter(|model| visible.sees(model));
        if is_anthropic(session) {
            let models: Vec<&Model> = on_offer.collect();
            page(&models, session.req_header().uri.query().unwrap_or_default(), loaded_at)
        } else {
            let data = on_offer.map(|model| Entry::of(model, loaded_at)).collect();
            Ok(serde_json::to_vec(&List { object: "list", data }))
        }
    };
    match body {
        Ok(body) => answer(session, ctx, body).await,
        Err(refusal) => reply::refuse(session, ctx, &refusal.into()).await,
    }
}

/// A page in Anthropic's shape, as JSON.
fn page(models: &[&Model], query: &str, loaded_at: u64) -> Result<serde_json::Result<Vec<u8>>, Refusal> {
    let (part, has_more) = Paging::parse(query)?.part(models)?;
    let id = |model: Option<&&'_ Model>| model.map(|model| model.id.to_string());
    let (first, last) = (id(part.first()), id(part.last()));
    let data = part.iter().map(|model| Info::of(model, loaded_at)).collect();
    Ok(serde_json::to_vec(&Page { data, has_more, first_id: first.as_deref(), last_id: last.as_deref() }))
}

/// Answers with one model, or 404; a model that the caller may not see does not exist.
///
/// # Errors
///
/// [`Cut`] if the client left.
///
/// # Cancel safety
///
/// Must be run to its end.
pub(super) async fn one(
    session: &mut Downstream,
    ctx: &mut Ctx,
    visible: &Visible,
    id: String,
) -> Result<(), Cut> {
    let found = ctx.generation.catalog.find(&id).filter(|(_, model)| visible.sees(model));
    let loaded_at = ctx.generation.loaded_at;
    let shown = found.map(|(_, model)| match is_anthropic(session) {
        true => serde_json::to_vec(&Info::of(model, loaded_at)),
        false => serde_json::to_vec(&Entry::of(model, loaded_at)),
    });
    match shown {
        Some(body) => answer(session, ctx, body).await,
        None => reply::refuse(session, ctx, &Refusal::NoSuchModel(id).into()).await,
    }
}

async fn answer(
    session: &mut Downstream,
    ctx: &mut Ctx,
    body: serde_json::Result<Vec<u8>>,
) -> Result<(), Cut> {
    let header = reply::header(ctx, 200, "application/json").map_err(|_| Cut::Defect)?;
    reply::send(session, ctx, header, Bytes::from(body.map_err(|_| Cut::Defect)?)).await?;
    ctx.record.end = End::Complete;
    Ok(())
}
