//! `GET /v1/models` and `GET /v1/models/{id}` (spec 1.7).

use super::admit::Visible;
use super::{Ctx, Cut, Downstream, reply};
use crate::core::catalog::Model;
use crate::core::refusal::Refusal;
use crate::telemetry::record::End;
use bytes::Bytes;
use serde::Serialize;

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
}

impl<'a> Entry<'a> {
    fn of(model: &'a Model, loaded_at: u64) -> Self {
        let created = model.created.unwrap_or(loaded_at);
        let owned_by = model.id.split_once('/').map_or("tidegate", |(owner, _)| owner);
        Self { id: &model.id, object: "model", created, owned_by }
    }
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
        let generation = &ctx.generation;
        let on_offer = generation.catalog.on_offer().filter(|model| visible.sees(model));
        let data = on_offer.map(|model| Entry::of(model, generation.loaded_at)).collect();
        serde_json::to_vec(&List { object: "list", data })
    };
    answer(session, ctx, body).await
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
    match found.map(|(_, model)| serde_json::to_vec(&Entry::of(model, ctx.generation.loaded_at))) {
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
