//! Images: by the images endpoints, whole or streamed, and in a conversation.
//!
//! Every image is the same grey pixel, followed by as many bytes as are asked for.

use super::answer::{Answer, Route, now};
use super::speech::Event;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// A grey pixel.
const PNG: [u8; 67] = [
    0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0x00, 0x00, 0x00, 0x0d, 0x49, 0x48, 0x44, 0x52, 0x00,
    0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x01, 0x08, 0x00, 0x00, 0x00, 0x00, 0x3a, 0x7e, 0x9b, 0x55, 0x00,
    0x00, 0x00, 0x0a, 0x49, 0x44, 0x41, 0x54, 0x78, 0xda, 0x63, 0x68, 0x00, 0x00, 0x00, 0x82, 0x00, 0x81,
    0xda, 0x45, 0x08, 0x3b, 0x00, 0x00, 0x00, 0x00, 0x49, 0x45, 0x4e, 0x44, 0xae, 0x42, 0x60, 0x82,
];
/// What an image costs, and a partial one besides.
const TOKENS: u64 = 272;
const PARTIAL_TOKENS: u64 = 100;

impl Answer<'_> {
    /// Whether this answer is made of images.
    pub(super) fn is_pictured(&self) -> bool {
        self.makes_images() || self.route == Route::Chat && self.ask.wants_image()
    }

    /// Whether the route is one of those for images.
    pub(super) fn makes_images(&self) -> bool {
        matches!(self.route, Route::Images | Route::Edits)
    }

    /// The image, in base64.
    fn picture(&self) -> String {
        let mut picture = PNG.to_vec();
        // Bytes after the end of a PNG are no part of the picture, and bytes enough for any size.
        picture.resize(self.scene.size.unwrap_or(PNG.len()), 0);
        STANDARD.encode(picture)
    }

    /// The body of a whole answer of the images endpoints.
    pub(super) fn images(&self) -> String {
        let item = format!(r#"{{"b64_json":"{}"}}"#, self.picture());
        let count = self.ask.choices();
        let usage = self.image_usage(TOKENS * count as u64);
        format!(r#"{{"created":{},"data":[{}],"usage":{usage}}}"#, now(), vec![item; count].join(","))
    }

    fn image_usage(&self, output: u64) -> String {
        let (images, output) = (self.ask.images_in() as u64 * TOKENS, self.scene.tokens.unwrap_or(output));
        let text = self.prompt_tokens();
        let input = text + images;
        format!(
            r#"{{"input_tokens":{input},"output_tokens":{output},"total_tokens":{},"input_tokens_details":{{"text_tokens":{text},"image_tokens":{images}}}}}"#,
            input + output
        )
    }

    /// The members of a message or a delta that shows an image.
    pub(super) fn pictured_members(&self) -> String {
        format!(
            r#""content":null,"images":[{{"type":"image_url","index":0,"image_url":{{"url":"data:image/png;base64,{}"}}}}]"#,
            self.picture()
        )
    }

    /// The event of a partial image.
    pub(super) fn partial_image(&self, number: usize) -> Event {
        let name = match self.route {
            Route::Edits => "image_edit.partial_image",
            _ => "image_generation.partial_image",
        };
        (name, self.image_event(name, &format!(r#""partial_image_index":{number}"#)))
    }

    /// The events of the whole images.
    pub(super) fn completed_images(&self) -> Vec<Event> {
        let name = match self.route {
            Route::Edits => "image_edit.completed",
            _ => "image_generation.completed",
        };
        let partial = PARTIAL_TOKENS * self.ask.partial_images() as u64;
        let one = |number: usize| {
            let usage = self.image_usage(TOKENS * number as u64 + partial);
            (name, self.image_event(name, &format!(r#""usage":{usage}"#)))
        };
        (1..=self.ask.choices()).map(one).collect()
    }

    fn image_event(&self, name: &str, more: &str) -> String {
        format!(
            r#"{{"type":"{name}","b64_json":"{}","created_at":{},"size":"1024x1024","quality":"low","background":"opaque","output_format":"png",{more}}}"#,
            self.picture(),
            now(),
        )
    }
}
