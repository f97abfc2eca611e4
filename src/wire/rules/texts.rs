//! Words, of the first 600 characters, and last the account guard.

use super::words::{ABOUT_REQUEST, CLIENT, EXCESS, LENGTHS, OUTPUT, POLICY_TEXTS, UNSUPPORTED};
use crate::core::failure::{Class, Next};
use crate::wire::reading::Form;
use crate::wire::rule::Row;
use Class::{
    AccountEmpty, BodyTooLarge, CallerMistake, ContentRefused, ContextTooLong, Misconfigured, ModelMissing,
};

/// The rows, in order.
pub(super) const ROWS: &[Row] = &[
    // Texts, of the first 600 characters.
    Row::new("text: context length", ContextTooLong)
        .status(ABOUT_REQUEST)
        .texts(LENGTHS)
        .also(EXCESS)
        .unless(OUTPUT),
    Row::new("text: body too large", BodyTooLarge)
        .status(&[(400, 400), (413, 413), (422, 422)])
        .texts(&[
            &["payload size exceeds"],
            &["payload too large"],
            &["request size", "exceed"],
            &["request body", "too large"],
            &["maximum", "number of bytes"],
            &["request entity too large"],
        ])
        .unless(&[&["context"]])
        .next(Next::Stop),
    Row::new("text: context length by size", ContextTooLong)
        .status(ABOUT_REQUEST)
        .texts(&[&["request size", "context"], &["exceed", "token", "prompt"], &["exceed", "token", "input"]])
        .unless(OUTPUT),
    Row::new("text: content refused", ContentRefused)
        .status(&[(200, 299), (400, 400), (422, 422), (451, 451)])
        .texts(POLICY_TEXTS),
    Row::new("text: wrong endpoint", CallerMistake).status(&[(400, 400), (404, 404), (422, 422)]).texts(&[
        &["only supported in", "/"],
        &["not a chat model"],
        &["use", "endpoint instead"],
        &["not supported in the", "endpoint"],
        &["did you mean to use", "/"],
    ]),
    Row::new("text: a thing of the caller's not found", CallerMistake)
        .status(&[(404, 404)])
        .texts(&[
            &["file not found"],
            &["no such file"],
            &["file", "not found"],
            &["previous response"],
            &["response with id"],
            &["item with id"],
            &["conversation with id"],
            &["container", "not found"],
            &["vector store"],
        ])
        .unless(&[&["model"]]),
    Row::new("text: api version", Misconfigured)
        .status(&[(400, 400), (404, 404)])
        .texts(&[
            &["api version", "enabled only"],
            &["only for api versions"],
            &["api-version"],
            &["api version not supported"],
            &["unsupported api version"],
        ])
        .unless(&[&["is not found for api version"]]),
    Row::new("text: model missing", ModelMissing)
        .status(&[(200, 299), (400, 400), (404, 404), (422, 422)])
        .texts(&[
            &["model", "does not exist"],
            &["model", "not found"],
            &["models/", "not found"],
            &["not found", "model"],
            &["model", "no longer available"],
            &["unknown model"],
            &["no such model"],
            &["model not exist"],
            &["model", "not deployed"],
            &["model", "reached the end of its life"],
            &["model", "not activated"],
            &["model identifier", "invalid"],
            &["does not work with the specified model"],
            &["model", "has been retired"],
            &["model", "is deprecated"],
            &["model", "not available"],
            &["invalid model"],
            &["unsupported model"],
            &["model is not supported"],
            &["model not supported"],
            &["is not a supported model"],
            &["supported models are"],
            &["not a valid model"],
            &["no endpoints found"],
            &["decommissioned"],
            &["does not support tools"],
            &["does not support tool use"],
            &["does not support embeddings"],
            &["tool choice requires"],
            &["template not found"],
            &["on-demand throughput"],
            &["not yet available for this subscription"],
            &["no available channel"],
            &["模型不存在"],
            &["不存在", "模型"],
            &["不支持的模型"],
        ])
        // What a model lacks is about the request.
        .unless(&[&["for this model"], &["with this model"], &["by this model"], &["on this model"]]),
    Row::new("text: no channel at a relay", ModelMissing)
        .status(&[(400, 599)])
        .texts(&[&["无可用渠道"], &["no available channel"]]),
    Row::new("status: 404 about a model", ModelMissing)
        .status(&[(404, 404)])
        .forms(&[Form::Json])
        .texts(&[&["model"], &["deployment"], &["function"], &["endpoint"]])
        .unless(&[&["unknown request url"], &["invalid url"]]),
    Row::new("field: the model", ModelMissing)
        .status(&[(400, 400), (404, 404), (422, 422)])
        .params(&["model"]),
    Row::new("text: an unsupported parameter", CallerMistake).status(&[(500, 599)]).texts(UNSUPPORTED),
    // The account guard: what speaks of our money or plan, and names no field, is never the caller's.
    Row::new("guard: words of billing", AccountEmpty).status(CLIENT).words(&[
        "billing",
        "credit",
        "credits",
        "payment",
        "subscription",
        "your plan",
        "your balance",
        "quota",
        "recharge",
        "invoice",
        "purchase",
    ]),
];
