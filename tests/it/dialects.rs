//! What each dialect's upstream is asked, and what of its answers the client reads.

use crate::support::scripted::{self, Act, Asked};
use crate::support::{Config, Gateway, http};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tidegate::wire::provenance::{MARK_LEN, PREFIX};

/// A channel of a dialect, and what its upstream should be asked.
struct Dialect {
    id: &'static str,
    provider: &'static str,
    base: &'static str,
    more: &'static str,
    /// The upstream's name of the model.
    name: &'static str,
    /// The model's path in a chat call, in lower case.
    target: &'static str,
    /// What stands in the field of the credential before the credential.
    field: &'static str,
}

const DIALECTS: [Dialect; 5] = [
    Dialect {
        id: "openai",
        provider: "openai",
        base: "/v1",
        more: "",
        name: "gpt-up",
        target: "/v1/chat/completions",
        field: "authorization: bearer ",
    },
    Dialect {
        id: "compatible",
        provider: "openai_compatible",
        base: "/api/v1/",
        more: "",
        name: "gpt \\\"up\\\"",
        target: "/api/v1/chat/completions",
        field: "authorization: bearer ",
    },
    Dialect {
        id: "gemini",
        provider: "gemini",
        base: "/v1beta/openai",
        more: "",
        name: "gemini-up",
        target: "/v1beta/openai/chat/completions",
        field: "authorization: bearer ",
    },
    Dialect {
        id: "azure",
        provider: "azure",
        base: "",
        more: ", api_version: \"2024-10-21\"",
        name: "my dep/1",
        target: "/openai/deployments/my%20dep%2f1/chat/completions?api-version=2024-10-21",
        field: "api-key: ",
    },
    Dialect {
        id: "azure-v1",
        provider: "azure",
        base: "/openai/v1",
        more: ", api_version: preview",
        name: "my dep/1",
        target: "/openai/v1/chat/completions?api-version=preview",
        field: "api-key: ",
    },
];

type Record = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// An upstream that answers by `script` and writes down what it was asked.
fn recorded(script: impl Fn(&Asked) -> Vec<Act> + Send + Sync + 'static) -> (SocketAddr, Record) {
    let record = Record::default();
    let noted = Arc::clone(&record);
    let addr = scripted::start(move |asked| {
        noted.lock().unwrap().push((asked.head.clone(), asked.body.clone()));
        script(asked)
    });
    (addr, record)
}

/// A gateway with a channel of each dialect, which serves the model of its name, and one of Anthropic's.
fn gateway(addr: SocketAddr) -> Gateway {
    let anthropic =
        Dialect { id: "anthropic", provider: "anthropic", base: "/v1", name: "claude-up", ..DIALECTS[0] };
    let add = |mut config: Config, dialect: &Dialect| {
        let Dialect { id, provider, base, more, name, .. } = dialect;
        config = config.model(&format!("p/{id}"), "chat");
        config.channels.push(format!(
            "  - {{ id: {id}, provider: {provider}, base_url: \"http://{addr}{base}\", credentials: [{{ value: secret-of-{id} }}], models: {{ \"p/{id}\": \"{name}\" }}{more} }}\n"
        ));
        config
    };
    DIALECTS.iter().chain([&anthropic]).fold(Config::default(), add).start()
}

/// Numbers that few would write, escapes, an order of its own, members that nobody knows.
const BODY: &str = r#"{ "temperature":1.00e2,"seed":-0,"far":1e999,"n":2 ,"m\u006fdel" : "p\/ID","messages":[{"role":"user","content":"\ud83d\ude00\u0000 \"model\":\"p/ID\""},{"role":"tool","tool_call_id":"c","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,AA=="}}]}], "a":[1,2.50,{"model":"keep"}],"logprobs":true,"top_logprobs":3,"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}],"response_format":{"type":"json_object"},"reasoning_effort":"high","modalities":["text"],"é":null}"#;

/// Fields of a client that concern nobody behind the gateway.
const CLIENT: &str = "openai-organization: org-x\r\nopenai-project: proj-x\r\ncookie: a=b\r\napi-key: mine\r\nx-goog-api-key: mine\r\nx-stainless-os: x\r\n";

/// The beginning and the end of an answer, with its choices as they should reach the client.
const CHOICES: &str = r#""choices":[{"index":0,"message":{"role":"assistant","content":null,"reasoning_content":"h\u006dm","refusal":null,"tool_calls":[{"id":"call_1","type":"function","function":{"name":"f","arguments":"{\"content_filter_results\":1.0}"},"extra_content":{"google":{"thought_signature":"c2ln"}}}]},"logprobs":{"content":[{"token":"a","logprob":-1.50e0,"bytes":[97],"top_logprobs":[]}]},"finish_reason":"tool_calls"},{"index":1,"message":{"role":"assistant","content":"{\"a\": 1}"},"logprobs":null,"finish_reason":"stop"}]"#;
const USAGE: &str = r#""usage":{"prompt_tokens":9,"completion_tokens":7,"total_tokens":16,"completion_tokens_details":{"reasoning_tokens":3}}"#;

/// The choices as Azure gives them.
fn filtered() -> String {
    let findings = r#""content_filter_results":{"hate":{"filtered":false,"severity":"safe"}}"#;
    CHOICES
        .replace(r#""index":0,"#, &format!(r#"{findings},"index":0,"#))
        .replace(r#""finish_reason":"stop""#, &format!(r#""finish_reason":"stop",{findings}"#))
}

fn answer(asked: &Asked) -> Vec<Act> {
    let json = [("content-type".to_owned(), "application/json".to_owned())];
    let choices = if asked.head.contains("/openai/") { filtered() } else { CHOICES.to_owned() };
    let body = format!(
        r#"{{"id":"up-1","object":"chat.completion","created":1.7e9,"model":"up",{choices},"prompt_filter_results":[{{"prompt_index":0}}],"system_fingerprint":"fp_1","x":[1.00],{USAGE}}}"#
    );
    scripted::whole(200, &json, body.as_bytes())
}

/// Goal: every dialect's upstream is asked at its own path, with its own credential in its own field, for the client's
/// body with the model renamed and nothing else changed; what it answers reaches the client but for ids, names and traces
/// of the upstream (spec 1.4, 1.5, 2.8, 5.5).
#[test]
fn bodies_pass_both_ways() {
    let (addr, record) = recorded(answer);
    let gateway = gateway(addr);
    for dialect in &DIALECTS {
        let body = BODY.replace("ID", dialect.id);
        let reply = gateway.post_with("/v1/chat/completions", &body, CLIENT);
        assert_eq!(reply.status, 200, "{}: {}", dialect.id, reply.text());
        let id = reply.json()["id"].as_str().unwrap().to_owned();
        let expected = format!(
            r#"{{"id":"{id}","object":"chat.completion","created":1.7e9,"model":"p/{}",{CHOICES},{USAGE}}}"#,
            dialect.id
        );
        assert!(id.starts_with("gate-") && reply.text() == expected, "{}: {}", dialect.id, reply.text());

        let (head, sent) = record.lock().unwrap().pop().unwrap();
        let renamed = body.replace(&format!("\"p\\/{}\"", dialect.id), &format!("\"{}\"", dialect.name));
        assert_eq!(String::from_utf8(sent).unwrap(), renamed, "{}", dialect.id);
        assert!(head.starts_with(&format!("post {} http/1.1\r\n", dialect.target)), "{head}");
        assert!(head.contains(&format!("\r\n{}secret-of-{}", dialect.field, dialect.id)), "{head}");
        let mut fields: Vec<_> = head.lines().skip(1).filter_map(|line| line.split(':').next()).collect();
        fields.sort_unstable();
        let mut expected =
            vec!["accept", "accept-encoding", "content-length", "content-type", "host", "user-agent"];
        expected.push(dialect.field.split(':').next().unwrap());
        expected.sort_unstable();
        assert_eq!(fields, expected, "{}", dialect.id);
    }
    tells_no_secrets(&gateway);
    gateway.finish();
}

/// No credential stands in a log, a metric or a page.
fn tells_no_secrets(gateway: &Gateway) {
    let pages = ["/metrics", "/failures"].map(|path| http::get(gateway.admin, path).unwrap().text());
    let log = serde_json::to_string(&gateway.log()).unwrap();
    assert!(pages.iter().chain([&log]).all(|text| !text.contains("secret-of-")));
}

/// Goal: Anthropic's upstream gets `x-api-key` and a version, the client's own if there is one, at both of its endpoints;
/// the tier and region beside its usage are not told (spec 1.1, 1.5).
#[test]
fn anthropic_is_asked_its_own_way() {
    let (addr, record) = recorded(|asked| {
        let body: &[u8] = if asked.head.contains("count_tokens") {
            br#"{"input_tokens":12}"#
        } else {
            br#"{"id":"msg_up","type":"message","role":"assistant","model":"claude-up","content":[{"type":"thinking","thinking":"h\u006dm","signature":"c2ln"},{"type":"text","text":"hi"}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":3,"cache_creation_input_tokens":0,"output_tokens":1,"service_tier":"standard","inference_geo":"eu"}}"#
        };
        scripted::whole(200, &[], body)
    });
    let gateway = gateway(addr);
    let body = r#"{"max_tokens":64,"model":"p\/anthropic","messages":[{"role":"user","content":"hi"}],"thinking":{"type":"enabled","budget_tokens":1.00e3},"x":-0}"#;
    for (path, version, shown) in [
        ("/v1/messages", "", "2023-06-01"),
        (
            "/v1/messages",
            "anthropic-version: 2099-01-01\r\nanthropic-beta: a,b\r\nanthropic-beta: c\r\n",
            "2099-01-01",
        ),
        ("/v1/messages/count_tokens", "", "2023-06-01"),
    ] {
        let reply = gateway.post_with(path, body, version);
        assert!(reply.status == 200 || path != "/v1/messages", "{}", reply.text());
        let (head, sent) = record.lock().unwrap().pop().unwrap();
        assert_eq!(String::from_utf8(sent).unwrap(), body.replace(r#""p\/anthropic""#, r#""claude-up""#));
        for line in [
            format!("post {path} http/1.1\r\n"),
            "\r\nx-api-key: secret-of-anthropic".to_owned(),
            format!("\r\nanthropic-version: {shown}"),
        ] {
            assert!(head.contains(&line), "{line}: {head}");
        }
        assert!(!head.contains("authorization:"), "{head}");
        for beta in ["anthropic-beta: a,b", "anthropic-beta: c"] {
            assert_eq!(head.contains(beta), !version.is_empty(), "{head}");
        }
        if path == "/v1/messages" {
            let answer = reply.json();
            let id = answer["id"].as_str().unwrap().to_owned();
            let signature = answer["content"][0]["signature"].as_str().unwrap().to_owned();
            let sealed = signature.strip_suffix("c2ln").unwrap();
            assert!(sealed.starts_with(PREFIX) && sealed.len() == MARK_LEN, "{signature}");
            assert_eq!(
                reply.text(),
                format!(
                    r#"{{"id":"{id}","type":"message","role":"assistant","model":"p/anthropic","content":[{{"type":"thinking","thinking":"h\u006dm","signature":"{signature}"}},{{"type":"text","text":"hi"}}],"stop_reason":"end_turn","stop_sequence":null,"usage":{{"input_tokens":3,"cache_creation_input_tokens":0,"output_tokens":1}}}}"#
                )
            );
            let turn = |signature: &str| {
                body.replace(
                    r#"[{"role":"user","content":"hi"}]"#,
                    &format!(r#"[{{"role":"assistant","content":[{{"type":"thinking","thinking":"h\u006dm","signature":"{signature}"}}]}}]"#),
                )
            };
            gateway.post_with(path, &turn(&signature), version);
            let (_, sent) = record.lock().unwrap().pop().unwrap();
            let expected = turn("c2ln").replace(r#""p\/anthropic""#, r#""claude-up""#);
            assert_eq!(String::from_utf8(sent).unwrap(), expected, "the provider reads its own signature");
        }
    }
    tells_no_secrets(&gateway);
    gateway.finish();
}

/// A stream of two choices, as it should reach the client, in chunks without their names.
const CHUNKS: [&str; 5] = [
    r#""choices":[{"index":0,"delta":{"role":"assistant","content":"","reasoning_content":"h\u006dm"},"logprobs":null,"finish_reason":null}]"#,
    r#""choices":[{"index":1,"delta":{"content":"{\"a\": 1}"},"logprobs":{"content":[{"token":"a","logprob":-1.50}]},"finish_reason":null}]"#,
    r#""choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"f","arguments":"{\"usage\":1.0}"}}]},"finish_reason":null}]"#,
    r#""choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]"#,
    r#""choices":[{"index":1,"delta":{},"finish_reason":"stop"}]"#,
];

fn streamed(asked: &Asked) -> Vec<Act> {
    let named =
        |rest: &str| format!("data: {{\"id\":\"up-1\",\"created\":1.7e9,\"model\":\"up\",{rest}}}\n\n");
    let findings = r#""content_filter_results":{"hate":{"filtered":false}}"#;
    let note =
        |rest: &str| format!("data: {{\"id\":\"\",\"object\":\"\",\"created\":0,\"model\":\"\",{rest}}}\n\n");
    let mut text = String::new();
    let azure = asked.head.contains("post /openai/");
    if azure {
        text += &note(r#""prompt_filter_results":[{"prompt_index":0}],"choices":[]"#);
    }
    for chunk in CHUNKS {
        text += &match azure {
            true => named(&chunk.replacen(r#""index":"#, &format!("{findings},\"index\":"), 1)),
            false => named(chunk),
        };
        if azure {
            text += &note(&format!(r#""choices":[{{"index":0,"finish_reason":null,{findings}}}]"#));
        }
    }
    text += &named(&format!(r#""choices":[],{USAGE}"#));
    text += "data: [DONE]\n\n";
    let chunks = [text.as_bytes(), b""].map(scripted::chunk);
    [scripted::chunked(200, &[])].into_iter().chain(chunks).collect()
}

/// Goal: streams of each dialect ask for usage and pass but for ids, names and traces; two choices, thoughts, tools and
/// probabilities stay as they are (spec 1.4 to 1.6, 2.8).
#[test]
fn streams_pass_but_for_names() {
    let (addr, record) = recorded(streamed);
    let gateway = gateway(addr);
    for dialect in &DIALECTS {
        for asks in [false, true] {
            let option = if asks { r#""stream_options":{"include_usage":true},"# } else { "" };
            let body = format!(
                r#"{{"model":"p/{}",{option}"stream":true,"n":2,"messages":[{{"role":"user","content":"hi"}}],"seed":-0}}"#,
                dialect.id
            );
            let reply = gateway.post_with("/v1/chat/completions", &body, CLIENT);
            let events = reply.events();
            let first: serde_json::Value = serde_json::from_str(&events[0]).unwrap();
            let (id, model) = (first["id"].as_str().unwrap(), dialect.id);
            let mut expected: Vec<_> = CHUNKS
                .iter()
                .map(|chunk| format!(r#"{{"id":"{id}","created":1.7e9,"model":"p/{model}",{chunk}}}"#))
                .collect();
            if asks {
                let usage: serde_json::Value = serde_json::from_str(&events[events.len() - 2]).unwrap();
                expected.push(format!(
                    r#"{{"id":"{id}","object":"chat.completion.chunk","created":{},"model":"p/{model}","choices":[],{USAGE}}}"#,
                    usage["created"]
                ));
            }
            expected.push("[DONE]".to_owned());
            assert_eq!(events, expected, "{}", dialect.id);
            let (head, sent) = record.lock().unwrap().pop().unwrap();
            let asked = if asks { "" } else { r#","stream_options":{"include_usage":true}"# };
            let renamed = body.replace(&format!("\"p/{model}\""), &format!("\"{}\"{asked}", dialect.name));
            assert_eq!(String::from_utf8(sent).unwrap(), renamed, "{}", dialect.id);
            assert!(head.starts_with(&format!("post {} http/1.1\r\n", dialect.target)), "{head}");
            assert_eq!(gateway.log_of(reply.request_id())["tokens"]["output"], 7);
        }
    }
    gateway.finish();
}

/// Goal: each dialect's errors are known through it, and tell nothing of who made them (spec 2.8, 3.1).
#[test]
fn errors_are_known_in_each_dialect() {
    let cases = [
        (
            "azure",
            401,
            r#"{"error":{"code":"401","message":"Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key for an active subscription and use a correct regional API endpoint for your resource."}}"#,
            502,
            "credential_refused",
        ),
        (
            "azure",
            404,
            r#"{"error":{"code":"DeploymentNotFound","message":"The API deployment for this resource does not exist."}}"#,
            503,
            "model_missing",
        ),
        (
            "azure-v1",
            400,
            r#"{"error":{"message":"The response was filtered due to the prompt triggering Azure OpenAI's content management policy.","type":null,"param":"prompt","code":"content_filter","status":400,"innererror":{"code":"ResponsibleAIPolicyViolation","content_filter_result":{"hate":{"filtered":true,"severity":"high"}}}}}"#,
            400,
            "content_refused",
        ),
        (
            "azure-v1",
            429,
            r#"{"error":{"code":"429","message":"Requests to the ChatCompletions_Create Operation under Azure OpenAI API version have exceeded token rate limit. Please retry after 6 seconds."}}"#,
            502,
            "rate_limited",
        ),
        (
            "gemini",
            400,
            r#"[{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"API_KEY_INVALID","domain":"googleapis.com"}]}}]"#,
            502,
            "credential_refused",
        ),
        (
            "gemini",
            503,
            r#"[{"error":{"code":503,"message":"The model is overloaded. Please try again later.","status":"UNAVAILABLE"}}]"#,
            502,
            "overloaded",
        ),
        (
            "openai",
            429,
            r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}"#,
            502,
            "account_empty",
        ),
    ];
    for (dialect, status, body, public, class) in cases {
        let gateway = gateway(scripted::start(move |_| scripted::whole(status, &[], body.as_bytes())));
        for stream in [false, true] {
            let reply = gateway.chat(&format!("p/{dialect}"), stream);
            assert_eq!(reply.status, public, "{dialect} {status}: {}", reply.text());
            let told = format!("{}{:?}", reply.text(), reply.headers).to_lowercase();
            let told = told.replace(&format!("p/{dialect}"), "the model");
            for word in ["azure", "google", "deployment", "secret", "subscription", "innererror"] {
                assert!(!told.contains(word), "{word}: {told}");
            }
            if !stream {
                let attempts = &gateway.log_of(reply.request_id())["attempts"];
                assert_eq!(attempts[0]["outcome"], class, "{dialect} {status}: {attempts}");
            }
        }
        tells_no_secrets(&gateway);
        gateway.finish();
    }
}

/// Goal: an image that is too large to be held loses what filters found, wherever it stands, and nothing else.
#[test]
fn large_images_tell_nothing_of_filters() {
    let image = "QUJD".repeat(1024 * 1024);
    let (sent, findings) = (image.clone(), r#""content_filter_results":{"violence":{"filtered":false}}"#);
    let addr = scripted::start(move |_| {
        let body = format!(
            r#"{{"created":1,"data":[{{{findings},"b64_json":"{sent}"}},{{"b64_json":"{sent}","prompt_filter_results":{{}},{findings}}}],"usage":{{"total_tokens":1,"input_tokens":1,"output_tokens":0}}}}"#
        );
        scripted::whole(200, &[], body.as_bytes())
    });
    let mut config = Config::default().model("p/image", "image");
    config.channels.push(format!(
        "  - {{ id: azure, provider: azure, base_url: \"http://{addr}\", api_version: v1, credentials: [{{ value: s }}], models: {{ \"p/image\": d }} }}\n"
    ));
    let gateway = config.start();
    let reply = gateway.post("/v1/images/generations", r#"{"model":"p/image","prompt":"x","n":2}"#);
    let expected = format!(
        r#"{{"created":1,"data":[{{"b64_json":"{image}"}},{{"b64_json":"{image}"}}],"usage":{{"total_tokens":1,"input_tokens":1,"output_tokens":0}}}}"#
    );
    assert!(reply.complete && reply.text() == expected);
    gateway.finish();
}

/// Goal: a model called at a wrong endpoint is refused with one where a channel serves it; one that no channel could
/// serve anywhere is on offer nowhere (spec 2.3, 11.1).
#[test]
fn wrong_endpoints_name_a_right_one() {
    let (addr, record) = recorded(answer);
    let kinds = [
        ("p/claude", "chat"),
        ("p/none", "image"),
        ("p/old", "chat"),
        ("p/new", "chat"),
        ("p/chat", "chat"),
        ("p/vector", "embedding"),
        ("p/picture", "image"),
        ("p/drawing", "gemini_image"),
        ("p/film", "video"),
    ];
    let mut config = kinds.iter().fold(Config::default(), |config, (id, kind)| config.model(id, kind));
    for (provider, models, more) in [
        ("anthropic", &["p/claude", "p/none"][..], ""),
        ("openai", &["p/old"], ", apis: [completions]"),
        ("openai", &["p/new"], ", apis: [completions, responses]"),
        ("gemini", &["p/chat", "p/vector", "p/picture", "p/drawing"], ""),
        ("openai", &["p/film"], ""),
    ] {
        let id = config.channels.len();
        let served: Vec<_> = models.iter().map(|model| format!("\"{model}\": up")).collect();
        config.channels.push(format!(
            "  - {{ id: c{id}, provider: {provider}, base_url: \"http://{addr}/v1\", credentials: [{{ value: s }}], models: {{ {} }}{more} }}\n",
            served.join(", ")
        ));
    }
    let gateway = config.start();
    for (model, called, named) in [
        ("p/claude", "/v1/chat/completions", "/v1/messages"),
        ("p/claude", "/v1/responses", "/v1/messages"),
        ("p/old", "/v1/chat/completions", "/v1/completions"),
        ("p/new", "/v1/messages", "/v1/responses"),
        ("p/chat", "/v1/messages", "/v1/chat/completions"),
        ("p/chat", "/v1/responses", "/v1/chat/completions"),
        ("p/vector", "/v1/chat/completions", "/v1/embeddings"),
        ("p/picture", "/v1/chat/completions", "/v1/images/generations"),
        ("p/drawing", "/v1/images/generations", "/v1/chat/completions"),
        ("p/film", "/v1/images/generations", "/v1/video/generations"),
    ] {
        let body = format!(r#"{{"model":"{model}","prompt":"x","input":"x","messages":[],"max_tokens":9}}"#);
        let reply = gateway.post(called, &body);
        let error = &reply.json()["error"];
        assert_eq!(reply.status, 400, "{model} {called}: {}", reply.text());
        let message = format!("The model {model} is not served here. Use POST {named} for it.");
        assert_eq!(error["message"], message, "{called}");
        let (member, word) = match called {
            "/v1/messages" => ("type", "invalid_request_error"),
            _ => ("code", "wrong_endpoint"),
        };
        assert_eq!(error[member], word, "{called}");
    }
    let explained = http::get(gateway.admin, "/explain?model=p/claude&api=chat").unwrap().text();
    assert!(explained.contains("Use POST /v1/messages for it."), "{explained}");
    let reply = gateway.post("/v1/images/generations", r#"{"model":"p/none","prompt":"x"}"#);
    assert_eq!((reply.status, reply.json()["error"]["code"].as_str()), (503, Some("model_not_found")));
    let list = gateway.raw(b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n").text();
    assert!(list.contains("p/claude") && !list.contains("p/none"), "{list}");
    assert!(record.lock().unwrap().is_empty());
    gateway.finish();
}
