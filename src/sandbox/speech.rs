//! Answers in the languages whose events have names: Messages and Responses.
//!
//! Both are the walk of a chat stream in other words: an opening, pieces of text, an end; [`super::stream`] sends them
//! and makes them go wrong.

use super::answer::{Answer, Route, now, quoted};

/// An event: its name and its data.
pub(super) type Event = (&'static str, String);

impl Answer<'_> {
    /// The body of a whole Messages answer.
    pub(super) fn message(&self) -> String {
        let content = format!(r#"[{{"type":"text","text":"{}"}}]"#, self.text());
        self.message_with(&content, r#""end_turn""#, self.completion_tokens())
    }

    fn message_with(&self, content: &str, stop_reason: &str, output: u64) -> String {
        let (serial, model, input) = (self.serial, quoted(&self.ask.model), self.prompt_tokens());
        format!(
            r#"{{"id":"msg_sandbox_{serial}","type":"message","role":"assistant","model":{model},"content":{content},"stop_reason":{stop_reason},"stop_sequence":null,"usage":{{"input_tokens":{input},"output_tokens":{output}}}}}"#
        )
    }

    /// The body of a whole Responses answer.
    pub(super) fn response(&self) -> String {
        self.response_with("completed", "null", &self.output(&self.text()), &self.response_usage())
    }

    /// The body of a compacted conversation: what the user said, and the rest of it in a form that only a provider reads.
    pub(super) fn compaction(&self) -> String {
        let (serial, created, usage) = (self.serial, now(), self.response_usage());
        format!(
            r#"{{"id":"resp_sandbox_{serial}","object":"response.compaction","created_at":{created},"output":[{{"id":"msg_{serial}","type":"message","status":"completed","role":"user","content":[{{"type":"input_text","text":"The tide"}}]}},{{"id":"cmp_{serial}","type":"compaction","encrypted_content":"gAAAAABsandbox\/{serial}=="}}],"usage":{usage}}}"#
        )
    }

    fn output(&self, text: &str) -> String {
        format!(
            r#"[{{"id":"msg_{}","type":"message","status":"completed","role":"assistant","content":[{{"type":"output_text","text":"{text}","annotations":[]}}]}}]"#,
            self.serial
        )
    }

    fn response_usage(&self) -> String {
        let (input, output) = (self.prompt_tokens(), self.completion_tokens());
        format!(
            r#"{{"input_tokens":{input},"input_tokens_details":{{"cached_tokens":0}},"output_tokens":{output},"output_tokens_details":{{"reasoning_tokens":0}},"total_tokens":{}}}"#,
            input + output
        )
    }

    fn response_with(&self, status: &str, error: &str, output: &str, usage: &str) -> String {
        let (serial, created, model) = (self.serial, now(), quoted(&self.ask.model));
        format!(
            r#"{{"id":"resp_sandbox_{serial}","object":"response","created_at":{created},"status":"{status}","error":{error},"incomplete_details":null,"instructions":null,"metadata":{{}},"model":{model},"output":{output},"parallel_tool_calls":true,"temperature":1,"tool_choice":"auto","tools":[],"top_p":1,"service_tier":"default","usage":{usage}}}"#
        )
    }

    /// Events before the first piece of text; none of them is content.
    pub(super) fn opening_events(&self) -> Vec<Event> {
        if self.route == Route::Messages {
            let start = self.message_with("[]", "null", 0);
            let block =
                r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#;
            return vec![
                ("message_start", format!(r#"{{"type":"message_start","message":{start}}}"#)),
                ("ping", r#"{"type":"ping"}"#.to_owned()),
                ("content_block_start", block.to_owned()),
            ];
        }
        let begun = self.response_with("in_progress", "null", "[]", "null");
        let item = format!(
            r#"{{"type":"response.output_item.added","sequence_number":1,"output_index":0,"item":{{"id":"msg_{}","type":"message","status":"in_progress","role":"assistant","content":[]}}}}"#,
            self.serial
        );
        let part = format!(
            r#"{{"type":"response.content_part.added","sequence_number":2,"item_id":"msg_{}","output_index":0,"content_index":0,"part":{{"type":"output_text","text":"","annotations":[]}}}}"#,
            self.serial
        );
        vec![
            (
                "response.created",
                format!(r#"{{"type":"response.created","sequence_number":0,"response":{begun}}}"#),
            ),
            ("response.output_item.added", item),
            ("response.content_part.added", part),
        ]
    }

    /// One piece of text.
    pub(super) fn text_event(&self, number: usize) -> Event {
        let piece = self.piece(number);
        if self.route == Route::Messages {
            let data = format!(
                r#"{{"type":"content_block_delta","index":0,"delta":{{"type":"text_delta","text":"{piece}"}}}}"#
            );
            return ("content_block_delta", data);
        }
        let data = format!(
            r#"{{"type":"response.output_text.delta","sequence_number":{},"item_id":"msg_{}","output_index":0,"content_index":0,"delta":"{piece}","logprobs":[]}}"#,
            number + 3,
            self.serial
        );
        ("response.output_text.delta", data)
    }

    /// The events by which the answer is finished, well or with an error.
    pub(super) fn finish_events(&self, well: bool) -> Vec<Event> {
        let output = self.completion_tokens();
        if self.route == Route::Messages {
            let reason = if well { "end_turn" } else { "error" };
            let delta = format!(
                r#"{{"type":"message_delta","delta":{{"stop_reason":"{reason}","stop_sequence":null}},"usage":{{"output_tokens":{output}}}}}"#
            );
            let stop = r#"{"type":"content_block_stop","index":0}"#.to_owned();
            return vec![("content_block_stop", stop), ("message_delta", delta)];
        }
        let number = self.scene.chunks + 3;
        let (name, whole) = if well {
            ("response.completed", self.response())
        } else {
            let error = r#"{"code":"server_error","message":"The model failed"}"#;
            ("response.failed", self.response_with("failed", error, "[]", "null"))
        };
        vec![(name, format!(r#"{{"type":"{name}","sequence_number":{number},"response":{whole}}}"#))]
    }

    /// The event that says that the stream is complete, where the language has one beside its finish.
    pub(super) fn closing_event(&self) -> Option<Event> {
        (self.route == Route::Messages).then(|| ("message_stop", r#"{"type":"message_stop"}"#.to_owned()))
    }

    /// An event that reports an error.
    pub(super) fn error_event(&self) -> Event {
        let message = "The server had an error while processing your request";
        let data = if self.route == Route::Messages {
            format!(r#"{{"type":"error","error":{{"type":"overloaded_error","message":"{message}"}}}}"#)
        } else {
            format!(
                r#"{{"type":"error","sequence_number":9,"code":"server_error","message":"{message}","param":null}}"#
            )
        };
        ("error", data)
    }
}
