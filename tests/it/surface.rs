//! What every route has in common: its spellings, its methods, and the headers that every answer carries (spec 1.1, 1.2, 2.7).

use crate::support::{Config, Gateway, KEY, Upstream, http};
use tidegate::wire::endpoint::{Endpoint, Line, TABLE};

fn gateway(upstream: &Upstream) -> Gateway {
    Config::default()
        .model("a/chat", "chat")
        .model("a/fails", "chat")
        .channel_each("c", upstream.addr, &[("a/chat", "x"), ("a/fails", "fault/overload-openai")], "")
        .start()
}

/// A path of the table as clients write it, in all spellings.
fn spellings(line: &Line) -> [String; 4] {
    let path = line.path.replace("{id}", "a/chat");
    [format!("/v1{path}"), format!("/v1{path}/"), path.clone(), format!("{path}/")]
}

fn ask(gateway: &Gateway, method: &str, path: &str, headers: &str, body: &str) -> http::Reply {
    let head = format!("host: x\r\n{headers}content-length: {}\r\n", body.len());
    gateway.raw(format!("{method} {path} HTTP/1.1\r\n{head}\r\n{body}").as_bytes())
}

fn with_key() -> String {
    format!("authorization: Bearer {KEY}\r\ncontent-type: application/json\r\n")
}

/// Goal: every route answers in each of its spellings and to each of its methods, with the same; to other methods it is
/// 404 with the right ones named, OPTIONS among them; a second slash, or a second version, is another path.
#[test]
fn routes_have_four_spellings() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream);
    for line in &TABLE {
        let read = !matches!(line.endpoint, Endpoint::Call(_));
        for path in spellings(line) {
            let (found, body) = if read { ("GET", "") } else { ("POST", r#"{"model":"a/none"}"#) };
            let reply = ask(&gateway, found, &path, &with_key(), body);
            assert_eq!(reply.status, if read { 200 } else { 503 }, "{found} {path}: {}", reply.text());
            assert_eq!(gateway.log_of(reply.request_id())["route"], line.endpoint.label(), "{path}");
            for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"] {
                if method == found {
                    continue;
                }
                let reply = ask(&gateway, method, &path, "", "");
                assert_eq!(
                    (reply.status, reply.header("allow")),
                    (404, Some(line.methods)),
                    "{method} {path}"
                );
                assert!(reply.text().contains("This path answers to"), "{method} {path}: {}", reply.text());
            }
        }
        let path = line.path.replace("{id}", "a/chat");
        for path in
            [format!("/v1{path}//"), format!("/v1/v1{path}"), format!("//v1{path}"), format!("/V1{path}")]
        {
            let reply = ask(&gateway, "GET", &path, &with_key(), "");
            assert_eq!((reply.status, reply.header("allow")), (404, None), "{path}");
        }
    }
    gateway.finish();
}

/// Goal: HEAD answers what GET does, without the body, to reads alone.
#[test]
fn head_is_get_without_a_body() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream);
    for line in &TABLE {
        for path in spellings(line) {
            let whole = ask(&gateway, "GET", &path, &with_key(), "");
            gateway.count(1);
            let mut stream = http::connect(gateway.public).unwrap();
            let request =
                format!("HEAD {path} HTTP/1.1\r\nhost: x\r\n{}connection: close\r\n\r\n", with_key());
            std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
            let mut answer = String::new();
            std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
            let answer = answer.to_lowercase();
            assert!(answer.starts_with(&format!("http/1.1 {}", whole.status)), "{path}: {answer}");
            assert!(answer.ends_with("\r\n\r\n"), "{path}: {answer}");
            let length = format!("\r\ncontent-length: {}\r\n", whole.body.len());
            assert!(answer.contains(&length), "{path}: {answer}");
        }
    }
    gateway.finish();
}

/// Goal: every answer carries the request's id, on Messages under both names, and is not to be stored; streams alone are
/// not to be buffered. It holds for answers, streams and each kind of refusal, on every route.
#[test]
fn every_answer_names_its_request() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream);
    let bodies = [
        "{",
        r#"{"model":"a/none"}"#,
        r#"{"model":"a/chat","messages":[{"role":"user","content":"hi"}],"prompt":"hi","input":"hi","max_tokens":9}"#,
        r#"{"model":"a/chat","messages":[],"prompt":"hi","input":"hi","stream":true}"#,
        r#"{"model":"a/fails","messages":[],"prompt":"hi","input":"hi","stream":true}"#,
    ];
    let mut streams = 0;
    for (turn, line) in TABLE.iter().enumerate() {
        let path = &spellings(line)[turn % 4];
        let is_messages = line.path.starts_with("/messages");
        let method = line.methods.split(',').next().unwrap();
        let mut asked: Vec<_> = bodies.iter().map(|body| (method, with_key(), *body)).collect();
        asked.extend([(method, String::new(), ""), ("PUT", String::new(), "")]);
        asked.push((method, "x-api-key: wrong\r\n".to_owned(), ""));
        for (number, (method, headers, body)) in asked.iter().enumerate() {
            let id = format!("my.Request_{turn}-{number}");
            let reply = ask(&gateway, method, path, &format!("{headers}x-request-id: {id}\r\n"), body);
            let what = format!("{method} {path} {body}: {}", reply.status);
            assert_eq!(reply.request_id(), id, "{what}");
            assert_eq!(reply.header("request-id"), is_messages.then_some(&*id), "{what}");
            assert_eq!(reply.header("cache-control"), Some("no-store"), "{what}");
            let is_stream = reply.header("content-type") == Some("text/event-stream");
            assert_eq!(reply.header("x-accel-buffering"), is_stream.then_some("no"), "{what}");
            assert!(is_stream || reply.header("content-type") == Some("application/json"), "{what}");
            assert_eq!(gateway.log_of(&id)["status"], reply.status, "{what}");
            streams += u32::from(is_stream);
        }
        for id in ["two words", "é", &"x".repeat(65)] {
            let reply = ask(&gateway, method, path, &format!("{}x-request-id: {id}\r\n", with_key()), "");
            assert_ne!(reply.request_id(), id);
            assert!(reply.request_id().len() <= 64 && !reply.request_id().is_empty());
        }
    }
    assert_eq!(streams, 4, "chat, completions, Responses and Messages");
    gateway.finish();
}
