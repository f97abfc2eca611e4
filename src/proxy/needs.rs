//! What a request needs of a channel that some lack, as far as a look at its bytes can tell (spec 3.2).
//!
//! It decides only which channels are asked first, so that a word in a message that looks like a need does no harm.

use super::admit::AdmittedCall;
use crate::core::failure::Capability;

/// Whether a request may need a capability.
pub(super) fn needs(capability: Capability, call: &AdmittedCall) -> bool {
    let words: &[&str] = match capability {
        Capability::Streaming => return call.stream,
        Capability::Tools => &["\"tools\"", "\"functions\"", "\"tool_calls\""],
        Capability::Images => &["image_url", "\"input_image\"", "\"image\"", "image/"],
        Capability::Audio => &["\"input_audio\"", "audio_url", "\"audio\""],
        Capability::Video => &["video_url", "\"input_video\"", "\"video\""],
        Capability::Documents => &["\"document\"", "\"file\"", "\"input_file\""],
        Capability::StructuredOutput => &["\"response_format\"", "\"json_schema\"", "\"output_format\""],
        Capability::Reasoning => &["\"reasoning", "\"thinking\""],
        Capability::PromptCaching => &["\"cache_control\"", "\"prompt_cache"],
        Capability::Logprobs => &["logprobs\""],
        Capability::SystemMessages => &["\"system\"", "\"developer\"", "\"instructions\""],
    };
    let body = call.body.bytes();
    words.iter().any(|word| memchr::memmem::find(&body, word.as_bytes()).is_some())
}
