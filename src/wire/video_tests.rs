use super::*;
use proptest::prelude::*;
use serde_json::json;

/// Goal: seconds are read as numbers and as strings, rounded up, and nonsense says nothing.
#[test]
fn seconds_are_read() {
    for (value, expected) in [
        ("8", Some(8)),
        ("\"8\"", Some(8)),
        ("7.2", Some(8)),
        ("\"5s\"", Some(5)),
        ("4.0", Some(4)),
        ("0", None),
        ("-1", None),
        ("\"auto\"", None),
        ("null", None),
        ("1e300", None),
        ("86400001", None),
        ("{}", None),
        ("\"NaN\"", None),
    ] {
        assert_eq!(seconds(value), expected, "{value}");
    }
    assert!(names_seconds("durationseconds") && names_seconds("Seconds") && !names_seconds("second"));
}

/// Goal: what an answer says of its length is found: in its usage first, then in each video, then for all (spec 8.1).
#[test]
fn seconds_made_are_found() {
    let made = |answer: Value| {
        let usage = answer.get("usage").map(Value::to_string);
        let body = answer.to_string();
        seconds_made(usage.as_deref().map(str::as_bytes), Some(body.as_bytes()))
    };
    let film = |seconds: Value| json!({"url": "https://x/a", "duration": seconds});
    assert_eq!(made(json!({"usage": {"seconds": 6}, "videos": [film(json!(9))]})), Some(6));
    assert_eq!(made(json!({"videos": [film(json!(4)), film(json!("5"))]})), Some(9));
    assert_eq!(made(json!({"videos": [film(json!(4)), {"url": "u"}]})), Some(8));
    assert_eq!(made(json!({"seconds": "4", "videos": [{"url": "u"}, {"url": "v"}]})), Some(8));
    assert_eq!(made(json!({"seconds": "4"})), Some(4));
    assert_eq!(made(json!({"usage": {"total_tokens": 3}, "videos": [{"url": "u"}]})), None);
    assert_eq!(seconds_made(None, Some(b"[]")), None);
}

/// Goal: the states of the usual providers are told apart; a word that nobody knows is waited for.
#[test]
fn states_are_told_apart() {
    let state =
        |status: &str| Job::read(json!({"id": "v", "status": status}).to_string().as_bytes()).unwrap().state;
    for waiting in ["queued", "in_progress", "processing", "PENDING", "dreaming"] {
        assert_eq!(state(waiting), State::Waiting, "{waiting}");
    }
    for done in ["completed", "SUCCEEDED", "success", "done"] {
        assert_eq!(state(done), State::Done, "{done}");
    }
    for failed in ["failed", "cancelled", "expired", "Error"] {
        assert_eq!(state(failed), State::Failed, "{failed}");
    }
    let of = |job: Value| Job::read(job.to_string().as_bytes()).unwrap().state;
    assert_eq!(of(json!({"id": "v", "error": {"message": "no"}})), State::Failed);
    assert_eq!(of(json!({"id": "v", "status": "queued", "error": null})), State::Waiting);
    assert_eq!(of(json!({"id": "v"})), State::Waiting);
    assert_eq!(of(json!({"videos": [{"url": "https://x"}]})), State::Done);
    assert!(Job::read(b"[1]").is_none() && Job::read(b"<html>").is_none());
}

/// Goal: addresses are found under their usual names, and only addresses.
#[test]
fn addresses_are_found() {
    let films = |job: Value| Job::read(job.to_string().as_bytes()).unwrap().films;
    for job in [
        json!({"videos": [{"url": "https://x/a"}]}),
        json!({"data": [{"url": "https://x/a"}]}),
        json!({"url": "https://x/a"}),
        json!({"output": "https://x/a"}),
        json!({"output": ["https://x/a"]}),
        json!({"video": {"url": "https://x/a"}}),
        json!({"result": {"video_url": "https://x/a"}}),
    ] {
        assert_eq!(films(job.clone()), ["https://x/a"], "{job}");
    }
    assert_eq!(films(json!({"data": [{"b64_json": "AAAA"}]})), ["data:video/mp4;base64,AAAA"]);
    assert!(films(json!({"output": "a tide", "url": "ftp://x", "videos": []})).is_empty());
}

/// Goal: the name of a job cannot lead to another path.
#[test]
fn names_stay_in_their_place() {
    let path =
        |id: &str| Job { id: Some(id.into()), state: State::Waiting, films: vec![], seconds: None }.path_id();
    assert_eq!(path("video_1-a.b"), Some("video_1-a.b".into()));
    assert_eq!(path("a/../b?c#d"), Some("a%2F..%2Fb%3Fc%23d".into()));
    assert_eq!((path(".."), path(""), path(&"x".repeat(513))), (None, None, None));
}

/// Goal: the answer has the addresses and the length, and nothing else of the job.
#[test]
fn answers_have_the_clients_shape() {
    let job = br#"{"id":"video_1","status":"completed","seconds":"4","secret":"s","url":"https://x/\"a"}"#;
    let job = Job::read(job).unwrap();
    assert_eq!(
        job.answer("sora", 7),
        r#"{"id":"video_1","object":"video.generation","created":7,"model":"sora","usage":{"seconds":4},"videos":[{"url":"https://x/\"a"}]}"#
    );
}

proptest! {
    /// Goal: a file that comes in any pieces is the same data URI.
    #[test]
    fn files_become_data_uris(file: Vec<u8>, cut in 0usize..50) {
        let job = Job { id: None, state: State::Done, films: vec![], seconds: None };
        let mut film = Film::default();
        let mut answer = Film::opening(&job, "m", 0, Some("text/html"));
        let (head, tail) = file.split_at(cut.min(file.len()));
        for piece in [head, tail] {
            answer.push_str(&film.push(piece));
        }
        answer.push_str(&film.end());
        let answer: Value = serde_json::from_str(&answer).unwrap();
        let url = answer["videos"][0]["url"].as_str().unwrap();
        prop_assert_eq!(STANDARD.decode(url.strip_prefix("data:video/mp4;base64,").unwrap()).unwrap(), file);
    }
}
