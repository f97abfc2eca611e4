//! The language of image streams: partial images, then the whole one with its usage.
//!
//! Events are `image_generation.partial_image` and `image_generation.completed`, or `image_edit.…`; others pass. An event
//! with an image is content (spec 10.1). As many completed ones as images were asked for are the end; fewer are one where
//! the upstream ends there too. There is no success marker besides.

use super::{EventForm, Fault, Head, Language, Shell, StreamOptions, is_of_responses, unreadable};
use crate::core::usage::{Usage, UsageSource};
use crate::wire::allowed::IMAGES;
use crate::wire::envelope::{Text, is_present};
use crate::wire::error::{Dialect, PublicError};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

/// A stream of images.
pub(super) struct Images {
    options: StreamOptions,
    /// Events that completed something.
    completed: u64,
    /// Whole images.
    whole: u64,
}

/// How events pass.
const FORM: EventForm = EventForm { event: &IMAGES, whole: ("", &IMAGES) };

#[derive(Deserialize)]
struct View<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Option<Text<'a>>,
    #[serde(borrow, default)]
    b64_json: Option<&'a RawValue>,
    #[serde(borrow, default)]
    url: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
}

impl Images {
    pub(super) fn new(options: StreamOptions) -> Self {
        Self { options, completed: 0, whole: 0 }
    }
}

impl Language for Images {
    fn event(&mut self, data: &Bytes, out: &mut Shell) -> Result<(), Fault> {
        let Ok(view) = serde_json::from_slice::<View<'_>>(data) else {
            return unreadable(data, out, self.is_finished());
        };
        let is_own = |kind: &str| kind.starts_with("image_") && !kind.ends_with(".failed");
        let kind = match Head::read(view.kind.as_ref(), view.error, data, is_own)? {
            Head::Error => return out.error_event(data, self.is_finished()),
            Head::Nothing => return Ok(()),
            Head::Of(kind) if is_of_responses(kind) => return Err(Fault::NotAnEvent),
            Head::Of(kind) => kind,
        };
        let pictured = view.b64_json.is_some_and(is_present) || view.url.is_some_and(is_present);
        let completes = kind.ends_with(".completed");
        if pictured {
            self.whole += u64::from(!kind.ends_with(".partial_image"));
            // What was shown in part has been made as well.
            out.tally.set_images(self.whole.max(1));
        }
        if let Some(usage) = view.usage.filter(|usage| is_present(usage)) {
            out.tally.report(usage, false);
        }
        out.note(pictured);
        out.dropped += FORM.write(&mut out.out, &self.options.identity, (kind, data), None);
        self.completed += u64::from(completes);
        out.done = self.completed >= self.options.expected.images.max(1);
        Ok(())
    }

    fn is_finished(&self) -> bool {
        self.completed > 0
    }

    fn complete(&mut self, out: &mut Shell, _used: (&Usage, UsageSource)) -> Result<(), Fault> {
        match self.is_finished() {
            true if out.content => Ok(()),
            true => Err(Fault::NoContent),
            false if out.content => Err(Fault::Cut),
            false => Err(Fault::Empty),
        }
    }

    /// Named, as the providers' own are, with the five members where every SDK looks for them.
    fn error(&self, error: &PublicError, request_id: &str) -> String {
        let body = error.render(Dialect::OpenAi, request_id);
        let nested = body.strip_prefix('{').unwrap_or_default();
        format!("event: error\ndata: {{\"type\":\"error\",{nested}\n\n")
    }
}

#[cfg(test)]
mod tests {
    use super::super::{EventStream, Expected, Step};
    use super::*;
    use crate::wire::answer::Identity;
    use crate::wire::endpoint::Call;

    const PARTIAL: &str = r#"{"type":"image_edit.partial_image","b64_json":"QQ==","partial_image_index":0,"request_id":"secret"}"#;
    const WHOLE: &str = r#"{"type":"image_edit.completed","b64_json":"Qg==","model":"up","usage":{"input_tokens":9,"output_tokens":300,"total_tokens":309,"input_tokens_details":{"text_tokens":5,"image_tokens":4}}}"#;

    fn stream(images: u64) -> EventStream {
        let expected = Expected { input: 7, images, image_tokens: 1_000, ..Expected::default() };
        let identity = Identity::new("gate-1", "pub/m");
        EventStream::new(StreamOptions {
            call: Call::ImageEdits,
            identity,
            wants_usage: false,
            created: 7,
            expected,
        })
    }

    fn sse(data: &str) -> String {
        format!("event: x\ndata: {data}\n\n")
    }

    fn taken(stream: &mut EventStream) -> String {
        String::from_utf8(stream.take().to_vec()).unwrap()
    }

    /// Goal: images pass as they are under the gateway's names, a partial one commits, the whole one ends it with its usage.
    #[test]
    fn a_good_stream_passes() {
        let mut images = stream(1);
        assert_eq!(images.push(b"event: x\ndata: {\"type\":\"image_edit.queued\"}\n\n"), Step::Preamble);
        assert_eq!(images.push(sse(PARTIAL).as_bytes()), Step::Content);
        assert_eq!(images.usage().1, UsageSource::Estimated);
        assert_eq!((images.usage().0.image_output, images.usage().0.images), (1_000, 1));
        assert_eq!(images.push(sse(WHOLE).as_bytes()), Step::Done);
        let text = taken(&mut images);
        let expected = "event: image_edit.queued\ndata: {\"type\":\"image_edit.queued\"}\n\n\
             event: image_edit.partial_image\ndata: {\"type\":\"image_edit.partial_image\",\"b64_json\":\"QQ==\",\"partial_image_index\":0}\n\n\
             event: image_edit.completed\ndata: ";
        assert!(text.starts_with(expected), "{text}");
        assert!(text.contains(r#""model":"pub/m""#) && !text.contains("[DONE]"));
        let (usage, source) = images.usage();
        assert_eq!((usage.input, usage.output, usage.image_input, usage.image_output), (9, 300, 4, 300));
        assert_eq!((usage.images, source), (1, UsageSource::Reported));
    }

    /// Goal: several images end with the last one, or where the upstream ends after one; what breaks before is no success.
    #[test]
    fn ends_are_told_from_cuts() {
        let mut two = stream(2);
        assert_eq!(two.push(sse(WHOLE).as_bytes()), Step::Content);
        assert_eq!(two.push(sse(WHOLE).as_bytes()), Step::Done);
        assert_eq!(two.usage().0.images, 2);
        let mut fewer = stream(2);
        assert_eq!((fewer.push(sse(WHOLE).as_bytes()), fewer.finish()), (Step::Content, Step::Done));
        let mut marked = stream(2);
        let done = format!("{}data: [DONE]\n\n", sse(WHOLE));
        assert_eq!((marked.push(done.as_bytes()), taken(&mut marked).contains("DONE")), (Step::Done, false));
        let mut cut = stream(1);
        assert_eq!(
            (cut.push(sse(PARTIAL).as_bytes()), cut.finish()),
            (Step::Content, Step::Failed(Fault::Cut))
        );
        assert_eq!(stream(1).finish(), Step::Failed(Fault::Empty));
        assert_eq!(stream(1).push(b"data: [DONE]\n\n"), Step::Failed(Fault::Empty));
        let nothing = sse(r#"{"type":"image_edit.completed","usage":null}"#);
        assert_eq!(stream(1).push(nothing.as_bytes()), Step::Failed(Fault::NoContent));
        for broken in ["[1]", r#"{"type":"a\nb"}"#, r#"{"b64_json":"x"}"#] {
            assert_eq!(stream(1).push(sse(broken).as_bytes()), Step::Failed(Fault::NotAnEvent), "{broken}");
        }
        for error in
            [r#"{"type":"error","message":"x"}"#, r#"{"type":"image_edit.failed","error":{"code":"x"}}"#]
        {
            let step = stream(1).push(sse(error).as_bytes());
            assert_eq!(step, Step::Failed(Fault::ErrorEvent(error.into())));
        }
    }

    /// Goal: an error has a name and a type for those who look there, and the member that the SDKs look at.
    #[test]
    fn errors_are_noticed_by_everyone() {
        let error = stream(1).error(&PublicError::unavailable(), "req-1");
        let data =
            error.strip_prefix("event: error\ndata: ").and_then(|rest| rest.strip_suffix("\n\n")).unwrap();
        let data: serde_json::Value = serde_json::from_str(data).unwrap();
        assert_eq!((&data["type"], &data["error"]["status"]), (&"error".into(), &502.into()));
        assert_eq!(data["error"].as_object().unwrap().len(), 5);
    }
}
