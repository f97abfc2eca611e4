//! The typed client `async-openai`, unmodified, against a running gateway.
//!
//! Usage: async-openai-client BASE_URL KEY NARROW_KEY LIMITED_KEY. Each check is one sentence of the contract; the first
//! that does not hold ends the run with an error. Whatever the client cannot put into its types is an error of its own.

use async_openai::Client;
use async_openai::config::OpenAIConfig;
use async_openai::error::{ApiErrorResponse, OpenAIError};
use async_openai::types::chat::{
    ChatCompletionMessageToolCalls, CreateChatCompletionRequest, CreateChatCompletionStreamResponse,
    FinishReason,
};
use async_openai::types::embeddings::CreateEmbeddingRequest;
use async_openai::types::responses::{CreateResponse, ResponseStreamEvent, Status};
use futures::StreamExt;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::cell::Cell;

/// The client, and how many requests it made: it tries again only after 429 and 5xx, which no check here waits for.
struct Counted {
    client: Client<OpenAIConfig>,
    made: Cell<u32>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let [base, key, narrow, _] =
        std::env::args().skip(1).collect::<Vec<_>>().try_into().expect("four arguments");
    let of_key = |key: &str| Client::with_config(OpenAIConfig::new().with_api_base(&base).with_api_key(key));
    let counted = Counted { client: of_key(&key), made: Cell::new(0) };
    counted.models().await;
    counted.chats().await;
    counted.chat_streams().await;
    counted.responses().await;
    counted.embeddings().await;
    counted.broken_streams().await;
    counted.errors(&of_key("wrong"), &of_key(&narrow)).await;
    println!("ok {}", counted.made.get());
}

fn chat(model: &str, more: Value) -> CreateChatCompletionRequest {
    request(model, json!({"messages": [{"role": "user", "content": "hello"}]}), more)
}

fn response(model: &str) -> CreateResponse {
    request(model, json!({"input": "hello"}), json!({}))
}

/// A typed request of these members.
fn request<T: DeserializeOwned>(model: &str, mut members: Value, more: Value) -> T {
    members["model"] = model.into();
    members.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(members).expect("a request of the documented members")
}

fn tools() -> Value {
    json!({"tools": [{"type": "function", "function": {"name": "weather", "parameters": {
        "type": "object", "properties": {"city": {"type": "string"}}}}}], "tool_choice": "required"})
}

impl Counted {
    /// The client, for one more request.
    fn ask(&self) -> &Client<OpenAIConfig> {
        self.made.set(self.made.get() + 1);
        &self.client
    }

    async fn models(&self) {
        let list = self.ask().models().list().await.unwrap();
        assert!(list.data.iter().any(|model| model.id == "openai/gpt"), "{list:?}");
        let model = self.ask().models().retrieve("openai/gpt").await.unwrap();
        assert_eq!((model.id.as_str(), model.object.as_str()), ("openai/gpt", "model"));
    }

    async fn chats(&self) {
        let answer = self.ask().chat().create(chat("openai/gpt", json!({}))).await.unwrap();
        assert_eq!(answer.model, "openai/gpt");
        assert!(answer.id.starts_with("gate-"), "{}", answer.id);
        assert!(answer.usage.is_some_and(|usage| usage.total_tokens > 0));
        assert!(answer.choices[0].message.content.as_ref().is_some_and(|text| !text.is_empty()));
        assert_eq!(answer.choices[0].finish_reason, Some(FinishReason::Stop));
        let called = self.ask().chat().create(chat("openai/gpt", tools())).await.unwrap();
        assert_eq!(called.choices[0].finish_reason, Some(FinishReason::ToolCalls));
        let calls = called.choices[0].message.tool_calls.as_ref().unwrap();
        let ChatCompletionMessageToolCalls::Function(call) = &calls[0] else { panic!("{calls:?}") };
        assert_eq!(call.function.name, "weather");
    }

    /// Every chunk of a stream, or the first error.
    async fn chunks(
        &self,
        request: CreateChatCompletionRequest,
    ) -> Result<Vec<CreateChatCompletionStreamResponse>, OpenAIError> {
        let mut stream = self.ask().chat().create_stream(request).await?;
        let mut chunks = Vec::new();
        while let Some(chunk) = stream.next().await {
            chunks.push(chunk?);
        }
        Ok(chunks)
    }

    async fn chat_streams(&self) {
        let usage = json!({"stream_options": {"include_usage": true}});
        let chunks = self.chunks(chat("openai/gpt", usage)).await.unwrap();
        assert!(chunks.iter().all(|chunk| chunk.id == chunks[0].id && chunk.model == "openai/gpt"));
        let text: String =
            chunks.iter().flat_map(|chunk| &chunk.choices).filter_map(|c| c.delta.content.clone()).collect();
        assert!(!text.is_empty());
        assert_eq!(chunks.iter().filter(|chunk| chunk.usage.is_some()).count(), 1);
        let ends = chunks.iter().flat_map(|chunk| &chunk.choices).filter_map(|choice| choice.finish_reason);
        assert_eq!(ends.collect::<Vec<_>>(), [FinishReason::Stop]);
        let chunks = self.chunks(chat("openai/gpt", tools())).await.unwrap();
        let calls =
            chunks.iter().flat_map(|chunk| &chunk.choices).filter_map(|c| c.delta.tool_calls.as_ref());
        let arguments = calls.flatten().filter_map(|call| call.function.as_ref()?.arguments.clone());
        assert!(arguments.collect::<String>().contains("Paris"));
        let chunks = self.chunks(chat("openai/failover", json!({}))).await.unwrap();
        assert!(chunks.iter().all(|chunk| chunk.model == "openai/failover"), "another channel answers");
    }

    async fn responses(&self) {
        let answer = self.ask().responses().create(response("openai/gpt")).await.unwrap();
        assert!(answer.id.starts_with("resp-gate-"), "{}", answer.id);
        assert_eq!((answer.model.as_str(), &answer.status), ("openai/gpt", &Status::Completed));
        assert!(answer.output_text().is_some_and(|text| !text.is_empty()));
        let mut stream = self.ask().responses().create_stream(response("openai/gpt")).await.unwrap();
        let mut text = String::new();
        let mut completed = 0;
        while let Some(event) = stream.next().await {
            match event.unwrap() {
                ResponseStreamEvent::ResponseOutputTextDelta(delta) => text.push_str(&delta.delta),
                ResponseStreamEvent::ResponseCompleted(end) => {
                    assert_eq!(end.response.output_text(), Some(text.clone()));
                    completed += 1;
                }
                _ => {}
            }
        }
        assert_eq!(completed, 1);
    }

    async fn embeddings(&self) {
        let words = "word ".repeat(500);
        let texts: Vec<_> = (0..20).map(|n| format!("{n} {words}")).collect();
        let batch: CreateEmbeddingRequest =
            request("openai/window", json!({"input": texts, "dimensions": 8}), json!({}));
        let vectors = self.ask().embeddings().create(batch).await.unwrap();
        assert_eq!(vectors.data.len(), 20, "each input is measured by itself");
        assert!(
            vectors.data.iter().enumerate().all(|(n, v)| v.index as usize == n && v.embedding.len() == 8)
        );
        assert_eq!(vectors.model, "openai/window");
    }

    /// A stream that breaks off is an error and no end.
    async fn broken_streams(&self) {
        let error = self.chunks(chat("fails/cut", json!({}))).await.unwrap_err();
        assert!(error.to_string().contains("Service temporarily unavailable"), "{error}");
        let mut stream = self.ask().responses().create_stream(response("fails/cut")).await.unwrap();
        let mut told = Vec::new();
        while let Some(event) = stream.next().await {
            match event.unwrap() {
                ResponseStreamEvent::ResponseError(error) => told.push(error.message),
                ResponseStreamEvent::ResponseFailed(failed) => {
                    told.push(failed.response.error.unwrap().message)
                }
                ResponseStreamEvent::ResponseCompleted(_) => panic!("a stream that broke off was completed"),
                _ => {}
            }
        }
        assert_eq!(told, ["Service temporarily unavailable"; 2]);
    }

    async fn errors(&self, wrong: &Client<OpenAIConfig>, narrow: &Client<OpenAIConfig>) {
        let hello = |model: &str| chat(model, json!({}));
        let code = |error: OpenAIError| match error {
            OpenAIError::ApiError(ApiErrorResponse { status_code, api_error }) => (
                status_code.as_u16(),
                api_error.r#type.unwrap_or_default(),
                api_error.code.unwrap_or_default(),
            ),
            other => panic!("{other:?}"),
        };
        let of = |status: u16, kind: &str, code: &str| (status, kind.to_owned(), code.to_owned());
        let unknown = wrong.chat().create(hello("openai/gpt")).await.unwrap_err();
        assert_eq!(code(unknown), of(401, "authentication_error", "invalid_api_key"));
        let denied = narrow.chat().create(hello("openai/gpt")).await.unwrap_err();
        assert_eq!(code(denied), of(403, "permission_error", "model_access_denied"));
        self.made.set(self.made.get() + 2);
        for (model, expected) in [
            ("fails/parameter", of(400, "invalid_request_error", "invalid_value")),
            ("fails/policy", of(400, "invalid_request_error", "content_policy_violation")),
            ("openai/priced", of(402, "insufficient_quota", "insufficient_quota")),
            ("fails/context", of(413, "context_length_exceeded", "context_length_exceeded")),
        ] {
            let error = self.ask().chat().create(hello(model)).await.unwrap_err();
            assert_eq!(code(error), expected, "{model}");
            let error = self.ask().chat().create_stream(hello(model)).await.err().unwrap();
            assert_eq!(code(error), expected, "{model}, as a stream");
        }
    }
}
