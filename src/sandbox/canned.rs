//! Fixed answers of the faults: the words of well-known providers, proxies and serving engines when they fail.
//!
//! The wording is what these products send in public, shortened; a gateway has to tell the failures apart by it. Bodies
//! that are large or compressed are described here and made when asked for.

use std::io::Write;
use std::sync::LazyLock;

use flate2::{Compression, write::GzEncoder};

/// One fixed answer.
#[derive(Debug)]
pub(super) struct Canned {
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    pub(super) headers: &'static [(&'static str, &'static str)],
    pub(super) body: Body,
}

/// The body of a fixed answer.
#[derive(Debug)]
pub(super) enum Body {
    Text(&'static str),
    /// An OpenAI error whose message is this many bytes.
    Huge(usize),
    /// The text, gzip-encoded.
    Gzip(&'static str),
    /// A gzip stream of an OpenAI error that inflates to 100 MiB.
    GzipBomb,
}

impl Canned {
    /// The bytes of the body. The first bomb takes a moment to make.
    pub(super) fn bytes(&self) -> Vec<u8> {
        match self.body {
            Body::Text(text) => text.into(),
            Body::Huge(size) => huge(size),
            Body::Gzip(text) => gzip(|to| to.write_all(text.as_bytes())),
            Body::GzipBomb => BOMB.clone(),
        }
    }
}

const HUGE_START: &[u8] = br#"{"error":{"message":""#;
const HUGE_END: &[u8] = br#"","type":"server_error","param":null,"code":null}}"#;

fn huge(size: usize) -> Vec<u8> {
    let mut body = HUGE_START.to_vec();
    body.resize(HUGE_START.len() + size, b'x');
    body.extend_from_slice(HUGE_END);
    body
}

fn gzip(fill: impl FnOnce(&mut GzEncoder<Vec<u8>>) -> std::io::Result<()>) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    // A Vec takes every write.
    let _ = fill(&mut encoder);
    encoder.finish().unwrap_or_default()
}

static BOMB: LazyLock<Vec<u8>> = LazyLock::new(|| {
    gzip(|to| {
        to.write_all(HUGE_START)?;
        let mebibyte = vec![b'x'; 1024 * 1024];
        for _ in 0..100 {
            to.write_all(&mebibyte)?;
        }
        to.write_all(HUGE_END)
    })
});

const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

const fn canned(status: u16, content_type: &'static str, body: &'static str) -> Canned {
    Canned { status, content_type, headers: &[], body: Body::Text(body) }
}

const fn with(mut answer: Canned, headers: &'static [(&'static str, &'static str)]) -> Canned {
    answer.headers = headers;
    answer
}

macro_rules! answers {
    ($($name:ident = $answer:expr;)*) => { $(pub(super) static $name: Canned = $answer;)* };
}

answers! {
    // Overload, in the words of many.
    OPENAI_503 = canned(503, JSON, r#"{"error":{"message":"The engine is currently overloaded, please try again later","type":"server_error","param":null,"code":null}}"#);
    OPENAI_500 = canned(500, JSON, r#"{"error":{"message":"The server had an error while processing your request. Sorry about that!","type":"server_error","param":null,"code":null}}"#);
    ANTHROPIC_529 = canned(529, JSON, r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"},"request_id":"req_011CSandbox"}"#);
    GEMINI_503 = canned(503, JSON, r#"[{"error":{"code":503,"message":"The model is overloaded. Please try again later.","status":"UNAVAILABLE"}}]"#);
    VERTEX_429 = canned(429, JSON, r#"{"error":{"code":429,"message":"Resource exhausted. Please try again later.","status":"RESOURCE_EXHAUSTED"}}"#);
    AZURE_503 = canned(503, JSON, r#"{"error":{"code":"NoCapacity","message":"The system is currently experiencing high demand and cannot process your request. Your request exceeds the maximum usage size allowed during peak load."}}"#);
    BEDROCK_503 = with(canned(503, JSON, r#"{"message":"Bedrock is unable to process your request."}"#), &[("x-amzn-errortype", "ServiceUnavailableException:http://internal.amazon.com/coral/")]);
    BEDROCK_429 = with(canned(429, JSON, r#"{"message":"Model is not ready for inference. Please wait and try your request again."}"#), &[("x-amzn-errortype", "ModelNotReadyException")]);
    GROQ_498 = canned(498, JSON, r#"{"error":{"message":"Flex tier capacity exceeded, please try again later","type":"capacity_exceeded","code":"capacity_exceeded"}}"#);
    DEEPSEEK_503 = canned(503, JSON, r#"{"error":{"message":"Service is too busy. We advise users to temporarily switch to alternative LLM API service providers.","type":"service_unavailable_error","param":null,"code":"service_unavailable_error"}}"#);
    VLLM_503 = canned(503, TEXT, "Service Unavailable");
    NGINX_502 = with(canned(502, "text/html", "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"), &[("server", "nginx")]);
    CLOUDFLARE_520 = with(canned(520, HTML, "<!DOCTYPE html><html><head><title>api.example.com | 520: Web server is returning an unknown error</title></head><body><h1>Web server is returning an unknown error</h1><span>Error code 520</span></body></html>"), &[("server", "cloudflare"), ("cf-ray", "8f0000000000sand-AMS")]);
    CLOUDFLARE_524 = with(canned(524, HTML, "<!DOCTYPE html><html><head><title>api.example.com | 524: A timeout occurred</title></head><body><h1>A timeout occurred</h1><span>Error code 524</span></body></html>"), &[("server", "cloudflare"), ("cf-ray", "8f0000000000sand-AMS")]);
    ENVOY_503 = with(canned(503, "text/plain", "upstream connect error or disconnect/reset before headers. reset reason: connection failure"), &[("server", "envoy")]);
    NEW_API_500 = canned(500, JSON, r#"{"error":{"message":"当前分组上游负载已饱和，请稍后再试 (request id: 20250101000000000000000sandbox)","type":"new_api_error","param":"","code":null}}"#);
    OLLAMA_503 = canned(503, JSON, r#"{"error":{"message":"server busy, please try again.  maximum pending requests exceeded","type":"api_error","param":null,"code":null}}"#);
    FLAKY_503 = canned(503, JSON, r#"{"error":{"message":"Service temporarily unavailable","type":"server_error","param":null,"code":null}}"#);

    // Rates, quota, bills, credentials.
    RATE_OPENAI = with(canned(429, JSON, r#"{"error":{"message":"Rate limit reached for gpt-4o in organization org-sandbox on requests per min (RPM): Limit 500, Used 500, Requested 1. Please try again in 120ms.","type":"requests","param":null,"code":"rate_limit_exceeded"}}"#), &[("retry-after", "2"), ("x-ratelimit-limit-requests", "500"), ("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-reset-requests", "120ms"), ("x-ratelimit-limit-tokens", "30000"), ("x-ratelimit-remaining-tokens", "29000"), ("x-ratelimit-reset-tokens", "2s")]);
    RATE_GEMINI = canned(429, JSON, r#"[{"error":{"code":429,"message":"You exceeded your current quota. Please retry in 3.5s.","status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[{"quotaMetric":"generativelanguage.googleapis.com/generate_content_requests","quotaId":"GenerateRequestsPerMinutePerProjectPerModel"}]},{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"3.5s"}]}}]"#);
    QUOTA_OPENAI = canned(429, JSON, r#"{"error":{"message":"You exceeded your current quota, please check your plan and billing details.","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}"#);
    BILLING_402 = canned(402, JSON, r#"{"error":{"message":"Insufficient Balance","type":"unknown_error","param":null,"code":"invalid_request_error"}}"#);
    BILLING_ANTHROPIC_400 = canned(400, JSON, r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase credits."}}"#);
    AUTH_401 = canned(401, JSON, r#"{"error":{"message":"Incorrect API key provided: sk-sandb**************0000. You can find your API key at https://platform.openai.com/account/api-keys.","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}"#);
    AUTH_403 = canned(403, JSON, r#"{"error":{"message":"You have insufficient permissions for this operation. Missing scopes: model.request","type":"invalid_request_error","param":null,"code":"missing_scope"}}"#);
    GEMINI_KEY_400 = canned(400, JSON, r#"[{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"API_KEY_INVALID","domain":"googleapis.com"}]}}]"#);
    BLOCKED_403 = with(canned(403, HTML, "<!DOCTYPE html><html><head><title>Attention Required! | Cloudflare</title></head><body><h1>Sorry, you have been blocked</h1><p>You are unable to access api.example.com</p></body></html>"), &[("server", "cloudflare"), ("cf-ray", "8f0000000000sand-AMS")]);
    REGION_403 = canned(403, JSON, r#"{"error":{"message":"Country, region, or territory not supported","type":"request_forbidden","param":null,"code":"unsupported_country_region_territory"}}"#);

    // What the caller, or the model asked for, is to blame for.
    CONTEXT_400 = canned(400, JSON, r#"{"error":{"message":"This model's maximum context length is 128000 tokens. However, your messages resulted in 130052 tokens. Please reduce the length of the messages.","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#);
    BAD_PARAM_400 = canned(400, JSON, r#"{"error":{"message":"Invalid 'temperature': decimal above maximum value. Expected a value <= 2, but got 9 instead.","type":"invalid_request_error","param":"temperature","code":"decimal_above_max_value"}}"#);
    POLICY_400 = canned(400, JSON, r#"{"error":{"message":"Your request was rejected as a result of our safety system.","type":"invalid_request_error","param":null,"code":"content_policy_violation"}}"#);
    MODEL_MISSING_404 = canned(404, JSON, r#"{"error":{"message":"The model `sandbox-missing` does not exist or you do not have access to it.","type":"invalid_request_error","param":null,"code":"model_not_found"}}"#);
    TOO_LARGE_413 = with(canned(413, "text/html", "<html>\r\n<head><title>413 Request Entity Too Large</title></head>\r\n<body>\r\n<center><h1>413 Request Entity Too Large</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"), &[("server", "nginx")]);

    // Successes that are none.
    HTML_200 = canned(200, HTML, "<!DOCTYPE html><html><head><title>Welcome</title></head><body><p>Please sign in.</p></body></html>");
    EMPTY_200 = canned(200, JSON, "");
    NULL_200 = canned(200, JSON, "null");
    NO_CHOICES_200 = canned(200, JSON, r#"{"id":"chatcmpl-sandbox","object":"chat.completion","created":1735689600,"model":"sandbox","choices":[],"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}}"#);
    BROKEN_JSON_200 = canned(200, JSON, r#"{"id":"chatcmpl-sandbox","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"The ti"#);
    ERROR_200 = canned(200, JSON, r#"{"error":{"message":"Provider returned error","type":"server_error","param":null,"code":502}}"#);

    // Awkward bodies and redirects.
    HUGE_ERROR = Canned { status: 500, content_type: JSON, headers: &[], body: Body::Huge(10 * 1024 * 1024) };
    GZIP_ERROR = Canned { status: 503, content_type: JSON, headers: &[("content-encoding", "gzip")], body: Body::Gzip(r#"{"error":{"message":"The engine is currently overloaded, please try again later","type":"server_error","param":null,"code":null}}"#) };
    GZIP_BOMB_ERROR = Canned { status: 500, content_type: JSON, headers: &[("content-encoding", "gzip")], body: Body::GzipBomb };
    REDIRECT_302 = with(canned(302, HTML, "<a href=\"https://elsewhere.invalid/v1/chat/completions\">Found</a>."), &[("location", "https://elsewhere.invalid/v1/chat/completions")]);
}
