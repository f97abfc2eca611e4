//! Members of answers that pass, as one table for each API (spec 1.5, 2.8).
//!
//! The tables hold the members of the official specifications and the extensions that client programs read. A member that
//! is in no table is dropped and counted, so that a name that an upstream invents tomorrow does not leave the gateway.
//! A value marked [`Shape::Whole`] passes byte for byte: text, tool arguments, and whatever has a form of its own.

use super::endpoint::Call;
use Shape::{Hidden, Of, Whole};
use std::sync::Arc;

/// Names that pass besides those of the tables, wherever they are looked up (`pass_members`).
pub(super) type Extra = Option<Arc<[String]>>;

/// How the value of a member passes.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// As it is.
    Whole,
    /// Not at all: documented, but about the upstream.
    Hidden,
    /// As an object, or lists of objects, with these members alone.
    Of(Names),
}

/// Members of one kind of object, in the order of their names.
pub(super) type Names = &'static [(&'static str, Shape)];

/// The form of one kind of answer.
#[derive(Debug)]
pub(super) struct Form {
    /// Its members.
    pub(super) members: Names,
    /// It always has an `id`.
    pub(super) has_id: bool,
    /// It always has a `model`.
    pub(super) has_model: bool,
}

/// How the member `name` passes; `None` if it does not.
pub(super) fn find(names: Names, name: &str) -> Option<Shape> {
    let at = names.binary_search_by(|(known, _)| (*known).cmp(name)).ok()?;
    names.get(at).map(|(_, shape)| *shape)
}

/// Whether a channel's own list has this name.
pub(super) fn is_extra(extra: &Extra, name: &str) -> bool {
    extra.as_ref().is_some_and(|extra| extra.iter().any(|known| known == name))
}

/// The form of the answer to a call.
pub(super) fn of(call: Call) -> &'static Form {
    match call {
        Call::Chat | Call::Completions => &CHAT,
        Call::Responses => &RESPONSE,
        Call::Compact => &COMPACTION,
        Call::Messages => &MESSAGE,
        Call::CountTokens => &TOKEN_COUNT,
        Call::Embeddings => &EMBEDDINGS,
        Call::ImageGenerations | Call::ImageEdits => &IMAGES,
        Call::Video => &VIDEO,
    }
}

/// An answer or a chunk of Chat Completions and of completions.
pub(super) static CHAT: Form = Form { members: CHAT_MEMBERS, has_id: true, has_model: true };
/// A response.
pub(super) static RESPONSE: Form = Form { members: RESPONSE_MEMBERS, has_id: true, has_model: true };
/// An event of a stream of Responses.
pub(super) static RESPONSE_EVENT: Form = event(RESPONSE_EVENT_MEMBERS);
static COMPACTION: Form = Form { members: RESPONSE_MEMBERS, has_id: true, has_model: false };
/// A message.
pub(super) static MESSAGE: Form = Form { members: MESSAGE_MEMBERS, has_id: true, has_model: true };
/// An event of a stream of Messages.
pub(super) static MESSAGE_EVENT: Form = event(MESSAGE_EVENT_MEMBERS);
static TOKEN_COUNT: Form = event(&[("context_management", Whole), ("input_tokens", Whole)]);
static EMBEDDINGS: Form = Form { members: EMBEDDINGS_MEMBERS, has_id: false, has_model: true };
/// Images, whole and as events.
pub(super) static IMAGES: Form = event(IMAGES_MEMBERS);
static VIDEO: Form = Form { members: VIDEO_MEMBERS, has_id: true, has_model: true };

const fn event(members: Names) -> Form {
    Form { members, has_id: false, has_model: false }
}

const CHAT_MEMBERS: Names = &[
    ("choices", Of(CHOICE)),
    ("citations", Whole),
    ("created", Whole),
    ("error", Hidden),
    ("id", Whole),
    ("images", Whole),
    ("model", Whole),
    ("moderation", Whole),
    ("obfuscation", Whole),
    ("object", Whole),
    ("prompt_filter_results", Hidden),
    ("prompt_logprobs", Whole),
    ("prompt_token_ids", Whole),
    ("related_questions", Whole),
    ("search_results", Whole),
    ("service_tier", Hidden),
    ("system_fingerprint", Hidden),
    ("usage", Of(USAGE)),
    ("videos", Whole),
    ("web_search", Whole),
];

const CHOICE: Names = &[
    ("content_filter_offsets", Hidden),
    ("content_filter_result", Hidden),
    ("content_filter_results", Hidden),
    ("delta", Of(CHAT_MESSAGE)),
    ("finish_reason", Whole),
    ("index", Whole),
    ("logprobs", Of(LOGPROBS)),
    ("message", Of(CHAT_MESSAGE)),
    ("prompt_logprobs", Whole),
    ("prompt_token_ids", Whole),
    ("stop_reason", Whole),
    ("text", Whole),
    ("token_ids", Whole),
    ("usage", Hidden),
];

/// The log probabilities of chat and of completions.
const LOGPROBS: Names = &[
    ("content", Whole),
    ("refusal", Whole),
    ("text_offset", Whole),
    ("token_ids", Whole),
    ("token_logprobs", Whole),
    ("tokens", Whole),
    ("top_logprobs", Whole),
];

/// A message of a choice, or the part of one that a chunk adds.
const CHAT_MESSAGE: Names = &[
    ("annotations", Of(ANNOTATION)),
    (
        "audio",
        Of(&[
            ("data", Whole),
            ("expires_at", Whole),
            ("format", Whole),
            ("id", Whole),
            ("transcript", Whole),
        ]),
    ),
    ("citations", Whole),
    ("content", Whole),
    ("extra_content", Whole),
    ("function_call", Of(FUNCTION)),
    ("images", Of(IMAGE_PART)),
    ("name", Whole),
    ("reasoning", Whole),
    ("reasoning_content", Whole),
    ("reasoning_details", Whole),
    ("reasoning_opaque", Whole),
    ("reasoning_signature", Whole),
    ("reasoning_text", Whole),
    ("refusal", Whole),
    ("role", Whole),
    ("search_results", Whole),
    ("signature", Whole),
    ("thinking", Whole),
    ("thinking_blocks", Whole),
    ("thought_signature", Whole),
    ("tool_call_id", Whole),
    ("tool_calls", Of(TOOL_CALL)),
    ("videos", Whole),
];

const TOOL_CALL: Names = &[
    ("custom", Of(&[("input", Whole), ("name", Whole)])),
    ("extra_content", Whole),
    ("function", Of(FUNCTION)),
    ("id", Whole),
    ("index", Whole),
    ("thought_signature", Whole),
    ("type", Whole),
];

const FUNCTION: Names = &[("arguments", Whole), ("name", Whole), ("thought_signature", Whole)];

const IMAGE_PART: Names = &[
    ("b64_json", Whole),
    ("image_url", Whole),
    ("index", Whole),
    ("mime_type", Whole),
    ("revised_prompt", Whole),
    ("type", Whole),
    ("url", Whole),
];

/// Sources that a text names, of every API.
const ANNOTATION: Names = &[
    ("cited_text", Whole),
    ("container_file_citation", Whole),
    ("container_id", Whole),
    ("content", Whole),
    ("document_index", Whole),
    ("document_title", Whole),
    ("encrypted_index", Whole),
    ("end_block_index", Whole),
    ("end_char_index", Whole),
    ("end_index", Whole),
    ("end_page_number", Whole),
    ("file", Whole),
    ("file_citation", Whole),
    ("file_id", Whole),
    ("file_path", Whole),
    ("filename", Whole),
    ("index", Whole),
    ("search_result_index", Whole),
    ("source", Whole),
    ("start_block_index", Whole),
    ("start_char_index", Whole),
    ("start_index", Whole),
    ("start_page_number", Whole),
    ("text", Whole),
    ("title", Whole),
    ("type", Whole),
    ("url", Whole),
    ("url_citation", Whole),
];

/// The usage of every API.
pub(super) const USAGE: Names = &[
    ("cache_creation", Of(CACHE_CREATION)),
    ("cache_creation_input_tokens", Whole),
    ("cache_creation_tokens", Whole),
    ("cache_read_input_tokens", Whole),
    ("cache_write_tokens", Whole),
    ("cached_creation_tokens", Whole),
    ("cached_tokens", Whole),
    ("citation_tokens", Whole),
    ("completion_tokens", Whole),
    ("completion_tokens_details", Of(TOKENS)),
    ("duration", Whole),
    ("duration_seconds", Whole),
    ("fallback_credit", Whole),
    ("inference_geo", Hidden),
    ("input_tokens", Whole),
    ("input_tokens_details", Of(TOKENS)),
    ("iterations", Of(ITERATION)),
    ("num_search_queries", Whole),
    ("num_sources_used", Whole),
    ("output_tokens", Whole),
    ("output_tokens_details", Of(TOKENS)),
    ("prompt_audio_seconds", Whole),
    ("prompt_cache_hit_tokens", Whole),
    ("prompt_cache_miss_tokens", Whole),
    ("prompt_tokens", Whole),
    ("prompt_tokens_details", Of(TOKENS)),
    ("reasoning_tokens", Whole),
    ("search_context_size", Whole),
    ("seconds", Whole),
    ("server_tool_use", Of(SERVER_TOOLS)),
    ("service_tier", Hidden),
    ("speed", Whole),
    ("total_tokens", Whole),
];

const CACHE_CREATION: Names = &[("ephemeral_1h_input_tokens", Whole), ("ephemeral_5m_input_tokens", Whole)];

const SERVER_TOOLS: Names = &[
    ("code_execution_requests", Whole),
    ("tool_search_requests", Whole),
    ("web_fetch_requests", Whole),
    ("web_search_requests", Whole),
];

/// A step of an answer that had several; the model of a step would be an upstream's name.
const ITERATION: Names = &[
    ("cache_creation", Of(CACHE_CREATION)),
    ("cache_creation_input_tokens", Whole),
    ("cache_read_input_tokens", Whole),
    ("input_tokens", Whole),
    ("model", Hidden),
    ("output_tokens", Whole),
    ("type", Whole),
];

/// The parts of an input or an output.
const TOKENS: Names = &[
    ("accepted_prediction_tokens", Whole),
    ("audio_tokens", Whole),
    ("cache_creation", Of(CACHE_CREATION)),
    ("cache_creation_input_tokens", Whole),
    ("cache_creation_tokens", Whole),
    ("cache_read_input_tokens", Whole),
    ("cache_write_tokens", Whole),
    ("cache_write_tokens_details", Whole),
    ("cached_creation_tokens", Whole),
    ("cached_tokens", Whole),
    ("cached_tokens_details", Whole),
    ("document_tokens", Whole),
    ("file_tokens", Whole),
    ("image_tokens", Whole),
    ("prompt_cache_hit_tokens", Whole),
    ("reasoning_tokens", Whole),
    ("rejected_prediction_tokens", Whole),
    ("text_tokens", Whole),
    ("thinking_tokens", Whole),
    ("tool_tokens", Whole),
    ("video_tokens", Whole),
];

const RESPONSE_MEMBERS: Names = &[
    ("access_programs", Whole),
    ("background", Whole),
    ("citations", Whole),
    ("completed_at", Whole),
    ("content_filters", Hidden),
    ("context_management", Whole),
    ("conversation", Whole),
    ("created_at", Whole),
    ("error", Whole),
    ("frequency_penalty", Whole),
    ("id", Whole),
    ("image", Whole),
    ("incomplete_details", Whole),
    ("input_transformations", Whole),
    ("instructions", Whole),
    ("max_output_tokens", Whole),
    ("max_tool_calls", Whole),
    ("metadata", Whole),
    ("model", Whole),
    ("moderation", Whole),
    ("object", Whole),
    ("output", Of(ITEM)),
    ("output_text", Whole),
    ("parallel_tool_calls", Whole),
    ("presence_penalty", Whole),
    ("previous_response_id", Whole),
    ("prompt", Whole),
    ("prompt_cache_diagnostics", Whole),
    ("prompt_cache_key", Whole),
    ("prompt_cache_options", Whole),
    ("prompt_cache_retention", Whole),
    ("reasoning", Whole),
    ("response_id", Whole),
    ("safety_identifier", Whole),
    ("service_tier", Hidden),
    ("status", Whole),
    ("store", Whole),
    ("temperature", Whole),
    ("text", Whole),
    ("tool_choice", Whole),
    ("tool_usage", Whole),
    ("tools", Whole),
    ("top_logprobs", Whole),
    ("top_p", Whole),
    ("truncation", Whole),
    ("usage", Of(USAGE)),
    ("user", Whole),
];

/// An output item of Responses, of any type.
const ITEM: Names = &[
    ("acknowledged_safety_checks", Whole),
    ("action", Whole),
    ("actions", Whole),
    ("approval_request_id", Whole),
    ("approve", Whole),
    ("arguments", Whole),
    ("async", Whole),
    ("background", Whole),
    ("call_id", Whole),
    ("caller", Whole),
    ("code", Whole),
    ("container_id", Whole),
    ("content", Of(PART)),
    ("created_by", Whole),
    ("encrypted_content", Whole),
    ("environment", Whole),
    ("error", Whole),
    ("execution", Whole),
    ("extra_content", Whole),
    ("fingerprint", Whole),
    ("format", Whole),
    ("id", Whole),
    ("input", Whole),
    ("max_output_length", Whole),
    ("name", Whole),
    ("namespace", Whole),
    ("operation", Whole),
    ("output", Whole),
    ("output_format", Whole),
    ("outputs", Whole),
    ("parsed_arguments", Whole),
    ("pending_safety_checks", Whole),
    ("phase", Whole),
    ("quality", Whole),
    ("queries", Whole),
    ("reason", Whole),
    ("result", Whole),
    ("results", Whole),
    ("revised_prompt", Whole),
    ("role", Whole),
    ("server_label", Whole),
    ("signature", Whole),
    ("size", Whole),
    ("status", Whole),
    ("summary", Of(PART)),
    ("svg_usage", Whole),
    ("thought_signature", Whole),
    ("tools", Whole),
    ("type", Whole),
];

/// A part of an output item's content.
const PART: Names = &[
    ("annotations", Of(ANNOTATION)),
    ("audio", Whole),
    ("b64_json", Whole),
    ("data", Whole),
    ("detail", Whole),
    ("encrypted_content", Whole),
    ("file_data", Whole),
    ("file_id", Whole),
    ("file_url", Whole),
    ("filename", Whole),
    ("image_url", Whole),
    ("input_audio", Whole),
    ("logprobs", Whole),
    ("refusal", Whole),
    ("signature", Whole),
    ("text", Whole),
    ("transcript", Whole),
    ("type", Whole),
];

const RESPONSE_EVENT_MEMBERS: Names = &[
    ("action", Whole),
    ("annotation", Of(ANNOTATION)),
    ("annotation_index", Whole),
    ("arguments", Whole),
    ("background", Whole),
    ("code", Whole),
    ("command", Whole),
    ("command_index", Whole),
    ("content_index", Whole),
    ("delta", Whole),
    ("input", Whole),
    ("item", Of(ITEM)),
    ("item_id", Whole),
    ("logprobs", Whole),
    ("message", Whole),
    ("name", Whole),
    ("obfuscation", Whole),
    ("output", Whole),
    ("output_format", Whole),
    ("output_index", Whole),
    ("param", Whole),
    ("part", Of(PART)),
    ("partial_image_b64", Whole),
    ("partial_image_index", Whole),
    ("quality", Whole),
    ("refusal", Whole),
    ("response", Of(RESPONSE_MEMBERS)),
    ("response_id", Whole),
    ("sequence_number", Whole),
    ("size", Whole),
    ("status", Whole),
    ("summary_index", Whole),
    ("text", Whole),
    ("type", Whole),
];

const MESSAGE_MEMBERS: Names = &[
    ("container", Whole),
    ("content", Of(BLOCK)),
    ("context_management", Whole),
    ("diagnostics", Whole),
    ("id", Whole),
    ("input_transformations", Whole),
    ("model", Whole),
    ("role", Whole),
    ("stop_details", Whole),
    ("stop_reason", Whole),
    ("stop_sequence", Whole),
    ("type", Whole),
    ("usage", Of(USAGE)),
];

/// A content block of Messages, of any type.
const BLOCK: Names = &[
    ("caller", Whole),
    ("citations", Of(ANNOTATION)),
    ("content", Whole),
    ("data", Whole),
    ("encrypted_content", Whole),
    ("file_id", Whole),
    ("from", Whole),
    ("id", Whole),
    ("input", Whole),
    ("is_error", Whole),
    ("mcp_server_name", Whole),
    ("name", Whole),
    ("server_name", Whole),
    ("signature", Whole),
    ("source", Whole),
    ("text", Whole),
    ("thinking", Whole),
    ("to", Whole),
    ("tool_changes", Whole),
    ("tool_use_id", Whole),
    ("tools", Whole),
    ("toolset_name", Whole),
    ("trigger", Whole),
    ("type", Whole),
];

const MESSAGE_EVENT_MEMBERS: Names = &[
    ("content_block", Of(BLOCK)),
    ("context_management", Whole),
    ("delta", Of(MESSAGE_DELTA)),
    ("index", Whole),
    ("input_transformations", Whole),
    ("message", Of(MESSAGE_MEMBERS)),
    ("type", Whole),
    ("usage", Of(USAGE)),
];

/// What an event adds to a block or to the message.
const MESSAGE_DELTA: Names = &[
    ("citation", Of(ANNOTATION)),
    ("container", Whole),
    ("content", Whole),
    ("encrypted_content", Whole),
    ("estimated_tokens", Whole),
    ("partial_json", Whole),
    ("signature", Whole),
    ("stop_details", Whole),
    ("stop_reason", Whole),
    ("stop_sequence", Whole),
    ("text", Whole),
    ("thinking", Whole),
    ("type", Whole),
];

const EMBEDDINGS_MEMBERS: Names = &[
    ("created", Whole),
    ("data", Of(&[("embedding", Whole), ("index", Whole), ("object", Whole), ("sparse_embedding", Whole)])),
    ("error", Hidden),
    ("id", Whole),
    ("model", Whole),
    ("object", Whole),
    ("usage", Of(USAGE)),
];

const IMAGES_MEMBERS: Names = &[
    ("b64_json", Whole),
    ("background", Whole),
    ("created", Whole),
    ("created_at", Whole),
    ("data", Of(IMAGE_ITEM)),
    ("error", Hidden),
    ("id", Whole),
    ("model", Whole),
    ("object", Whole),
    ("output_format", Whole),
    ("partial_image_index", Whole),
    ("quality", Whole),
    ("revised_prompt", Whole),
    ("safety_identifier", Whole),
    ("size", Whole),
    ("svg_usage", Whole),
    ("type", Whole),
    ("url", Whole),
    ("usage", Of(USAGE)),
];

const IMAGE_ITEM: Names = &[
    ("b64_json", Whole),
    ("content_filter_results", Hidden),
    ("content_type", Whole),
    ("height", Whole),
    ("index", Whole),
    ("mime_type", Whole),
    ("output_format", Whole),
    ("prompt_filter_results", Hidden),
    ("revised_prompt", Whole),
    ("size", Whole),
    ("type", Whole),
    ("url", Whole),
    ("width", Whole),
];

const VIDEO_MEMBERS: Names = &[
    ("aspect_ratio", Whole),
    ("completed_at", Whole),
    ("created", Whole),
    ("created_at", Whole),
    ("data", Of(VIDEO_ITEM)),
    ("duration", Whole),
    ("duration_seconds", Whole),
    ("error", Whole),
    ("expires_at", Whole),
    ("id", Whole),
    ("model", Whole),
    ("object", Whole),
    ("progress", Whole),
    ("prompt", Whole),
    ("quality", Whole),
    ("remixed_from_video_id", Whole),
    ("resolution", Whole),
    ("seconds", Whole),
    ("size", Whole),
    ("status", Whole),
    ("usage", Of(USAGE)),
    ("video", Of(VIDEO_ITEM)),
    ("videos", Of(VIDEO_ITEM)),
];

const VIDEO_ITEM: Names = &[
    ("aspect_ratio", Whole),
    ("b64_json", Whole),
    ("content_type", Whole),
    ("duration", Whole),
    ("duration_seconds", Whole),
    ("fps", Whole),
    ("height", Whole),
    ("id", Whole),
    ("index", Whole),
    ("mime_type", Whole),
    ("object", Whole),
    ("resolution", Whole),
    ("revised_prompt", Whole),
    ("seconds", Whole),
    ("size", Whole),
    ("thumbnail_url", Whole),
    ("type", Whole),
    ("url", Whole),
    ("width", Whole),
];

#[cfg(test)]
#[path = "allowed_tests.rs"]
mod tests;
