//! Capabilities that a request needs and the channel lacks: neither the caller's mistake nor a model that is missing.
//!
//! Most upstreams say so in words alone. Words may choose another channel and what the caller reads, and no more
//! (spec 3.5): none of these rows has an effect on health.

use crate::core::failure::{Capability, Class};
use crate::wire::rule::{Row, Texts};
use Class::CapabilityMissing;

/// Statuses under which a lack is told.
const STATUSES: &[(u16, u16)] = &[(200, 299), (400, 400), (403, 404), (415, 415), (422, 422), (500, 502)];
/// How a text says that something is lacking.
const LACK: Texts = &[
    &["not supported"],
    &["does not support"],
    &["doesn't support"],
    &["do not support"],
    &["don't support"],
    &["not support"],
    &["unsupported"],
    &["not enabled"],
    &["not configured"],
    &["no endpoints found that support"],
    &["no endpoints available that support"],
    &["requires --"],
    &["not compiled for"],
    &["not capable"],
    &["is not a multimodal model"],
    &["is not a vision model"],
    &["is not multimodal"],
    &["cannot process"],
    &["cannot handle"],
    &["cannot accept"],
    &["not available for this model"],
    &["must be verified"],
    &["不支持"],
];
/// Formats and sizes that the caller can change are no capabilities.
const FORMATS: Texts = &[
    &["format"],
    &["media type"],
    &["mime"],
    &["file type"],
    &["image type"],
    &["resolution"],
    &["dimension"],
    &["image size"],
    &["url is not"],
    &["aspect"],
    &["quality"],
];

const fn row(name: &'static str, capability: Capability, texts: Texts) -> Row {
    Row::new(name, CapabilityMissing).status(STATUSES).texts(texts).also(LACK).lacking(capability)
}

/// The rows, in order.
pub(super) const ROWS: &[Row] = &[
    // What an unverified organisation lacks is no fault of the request, whatever field it shows at.
    Row::new("text: our organisation may not stream", CapabilityMissing)
        .status(&[(400, 400), (403, 403)])
        .texts(&[&["must be verified to stream"]])
        .lacking(Capability::Streaming)
        .firm(),
    Row::new("text: our organisation may not read reasoning", CapabilityMissing)
        .status(&[(400, 400), (403, 403)])
        .texts(&[&["must be verified to generate reasoning"], &["must be verified to use reasoning"]])
        .lacking(Capability::Reasoning)
        .firm(),
    row(
        "text: no images",
        Capability::Images,
        &[
            &["image input"],
            &["image_url"],
            &["image content"],
            &["image part"],
            &["image understanding"],
            &["images"],
            &["vision"],
            &["multimodal"],
            &["multi-modal"],
            &["image modality"],
            &["modality", "image"],
            &["modalities", "image"],
            &["image is not supported"],
            &["图片"],
            &["图像"],
        ],
    )
    .unless(FORMATS),
    row(
        "text: no audio",
        Capability::Audio,
        &[
            &["audio input"],
            &["input_audio"],
            &["audio output"],
            &["audio content"],
            &["audio is not supported"],
            &["modality", "audio"],
            &["audio modality"],
        ],
    )
    .unless(FORMATS),
    row(
        "text: no video",
        Capability::Video,
        &[&["video input"], &["video_url"], &["video content"], &["videos"], &["video is not supported"]],
    )
    .unless(FORMATS),
    row(
        "text: no documents",
        Capability::Documents,
        &[
            &["file input"],
            &["document input"],
            &["pdf input"],
            &["pdf documents"],
            &["pdfs"],
            &["file content"],
            &["document content"],
            &["documents are"],
            &["documents is"],
        ],
    )
    .unless(FORMATS),
    row(
        "text: no tools",
        Capability::Tools,
        &[
            &["tool choice requires"],
            &["tool use"],
            &["tool calling"],
            &["tool calls"],
            &["tool call"],
            &["tool-call-parser"],
            &["function calling"],
            &["function call"],
            &["functions"],
            &["tools"],
            &["工具"],
        ],
    )
    .unless(&[
        &["this tool"],
        &["parallel"],
        &["tool type"],
        &["type of tool"],
        &["tool schema"],
        &["built-in"],
    ]),
    row(
        "text: no structured output",
        Capability::StructuredOutput,
        &[
            &["structured output"],
            &["json mode"],
            &["json_mode"],
            &["json schema"],
            &["json_schema"],
            &["response_format"],
            &["response format"],
            &["guided decoding"],
            &["json_object"],
        ],
    )
    .unless(&[
        &["keyword"],
        &["fields"],
        &["property"],
        &["draft"],
        &["unsupported json schema"],
        &["features"],
        &["subset"],
    ]),
    row(
        "text: no prompt caching",
        Capability::PromptCaching,
        &[&["cache control"], &["cache_control"], &["prompt caching"], &["prompt cache"]],
    ),
    row(
        "text: no reasoning",
        Capability::Reasoning,
        &[
            &["support thinking"],
            &["supports thinking"],
            &["support reasoning"],
            &["thinking is not supported"],
            &["reasoning is not supported"],
            &["thinking mode"],
            &["reasoning mode"],
            &["extended thinking"],
            &["reasoning-parser"],
        ],
    )
    .unless(&[&["effort level"], &["value"]]),
    row("text: no log probabilities", Capability::Logprobs, &[&["logprobs"], &["log probabilities"]]),
    row(
        "text: no system messages",
        Capability::SystemMessages,
        &[
            &["system role"],
            &["system message"],
            &["system prompt"],
            &["system instruction"],
            &["developer instruction"],
            &["developer role"],
            &["role", "system"],
        ],
    ),
    row(
        "text: no streaming",
        Capability::Streaming,
        &[
            &["streaming"],
            &["stream mode"],
            &["stream is"],
            &["support stream"],
            &["stream output"],
            &["stream=true"],
        ],
    )
    .unless(&[
        &["non-streaming"],
        &["only support stream"],
        &["only supports stream"],
        &["stream_options"],
    ]),
    // What no row above names is a route that the server was not started with.
    Row::new("code: not supported", Class::Misconfigured).codes(&["not_supported"]),
];
