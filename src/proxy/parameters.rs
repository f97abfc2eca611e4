//! Rules of a model and its channels about members of a request: what is refused before any upstream, which channels are
//! passed by, and what a channel is not sent.

use super::admit::{Pin, Stop};
use super::asked::{self, Asked};
use super::generation::Generation;
use super::upstream::Channel;
use crate::core::api::Api;
use crate::core::catalog::Model;
use crate::core::id::ChannelId;
use crate::core::parameters::Treatment;
use crate::core::refusal::{ParameterFault, Refusal};
use crate::wire::parameters::Found;
use crate::wire::splice::Edit;
use bytes::Bytes;

/// What of a call the model or a channel does not take as it is.
#[derive(Default)]
pub(super) struct Parameters {
    found: Found,
    /// Channels that do not take the call.
    pub(super) barred: Vec<ChannelId>,
}

/// For whom a channel has to do.
#[derive(Clone, Copy)]
pub(super) struct Caller<'a> {
    pub(super) group: Option<&'a str>,
    pub(super) api: Api,
    /// The only channel that will do.
    pub(super) pin: Option<&'a Pin>,
}

/// Holds a call to the bounds of its model, and to what the model and its channels take.
///
/// # Errors
///
/// [`Refusal::Parameter`] for the first member that cannot be sent to anyone.
///
/// # Cancel safety
///
/// May be dropped; a large body is still read to its end, for nobody.
pub(super) async fn check(
    generation: &Generation,
    model: &Model,
    caller: Caller<'_>,
    asked: &Asked,
    body: &Bytes,
) -> Result<Parameters, Stop> {
    check_bounds(model, asked)?;
    if model.watched.is_empty() {
        return Ok(Parameters::default());
    }
    let (text, names, form) = (body.clone(), model.watched.clone(), asked.form.clone());
    let find = move || match form {
        Some(boundary) => Found::in_form(&text, &boundary, &names),
        None => Found::find(&text, &names),
    };
    let found = asked::off_thread(body.len(), find).await?;
    Ok(judge(generation, model, caller, found)?)
}

/// Numbers that the model's configuration bounds.
fn check_bounds(model: &Model, asked: &Asked) -> Result<(), Refusal> {
    let over =
        |param: &str, max| Refusal::Parameter { param: param.into(), fault: ParameterFault::Over(max) };
    if let Some(max) = model.choices_max.filter(|max| asked.choices > *max) {
        return Err(over(asked.choices_param, max));
    }
    let Some(max) = model.output_max else { return Ok(()) };
    let found = asked.places.bounds.iter().find(|bound| bound.tokens.is_some_and(|tokens| tokens > max));
    found.map_or(Ok(()), |bound| Err(over(bound.param, max)))
}

/// What becomes of a call with these members.
fn judge(
    generation: &Generation,
    model: &Model,
    caller: Caller<'_>,
    found: Found,
) -> Result<Parameters, Refusal> {
    let name = |index: usize| model.watched.get(index).map(|name| &**name).unwrap_or_default();
    let refusal = |name: &str, fault| Refusal::Parameter { param: name.to_owned(), fault };
    if let Some(index) = found.repeated() {
        return Err(refusal(name(index), ParameterFault::Repeated));
    }
    let names: Vec<&str> = found.names().map(name).collect();
    let rejected = |name: &&&str| model.unsupported.treatment(name) == Some(Treatment::Reject);
    if let Some(name) = names.iter().find(rejected) {
        return Err(refusal(name, ParameterFault::Unsupported));
    }
    let (mut barred, mut first, mut some_take_it) = (Vec::new(), None, false);
    for candidate in model.candidates().filter(|_| !names.is_empty()) {
        let Some(channel) = generation.channel(candidate.channel) else { continue };
        let refused = names.iter().find(|name| rejected_by(channel, model, name));
        let fits = candidate.apis.contains(caller.api)
            && candidate.serves(caller.group)
            && match caller.pin {
                Some(pin) => pin.channel == candidate.channel,
                None => candidate.weight > 0,
            };
        match refused {
            Some(name) => {
                barred.push(candidate.channel);
                first = first.or(Some(*name).filter(|_| fits));
            }
            None => some_take_it |= fits,
        }
    }
    match first.filter(|_| !some_take_it) {
        Some(name) => Err(refusal(name, ParameterFault::Unsupported)),
        None => Ok(Parameters { found, barred }),
    }
}

fn rejected_by(channel: &Channel, model: &Model, name: &str) -> bool {
    model.unsupported.treatment(name).is_none() && channel.settings.treatment(name) == Some(Treatment::Reject)
}

impl Parameters {
    /// The edits that leave out what the model or this channel does not take.
    pub(super) fn edits(&self, model: &Model, channel: &Channel) -> Vec<Edit> {
        self.found.without(|index| {
            let name = model.watched.get(index).map(|name| &**name).unwrap_or_default();
            let treatment = model.unsupported.treatment(name);
            treatment.or_else(|| channel.settings.treatment(name)) == Some(Treatment::Drop)
        })
    }
}
