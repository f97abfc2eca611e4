use super::*;
use crate::config;
use pingora::protocols::l4::stream::Stream;
use std::path::Path;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The defect of these tests.
pub(super) fn panic_if_asked(session: &Downstream) {
    assert!(session.get_header("x-defect").is_none(), "a defect of the gateway");
}

fn gateway(folder: &tempfile::TempDir) -> Built {
    let text = include_str!("../../conf/quickstart.yaml");
    let mut loaded = config::parse(text, Path::new("quickstart.yaml"), &|_| None).unwrap();
    loaded.config.store.path = folder.path().to_owned();
    Gateway::builder(loaded.config).build().unwrap()
}

/// Serves one request as Pingora would; gives back what the client reads.
async fn serve_one(gateway: &Gateway, request: &str) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    client.write_all(request.as_bytes()).await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    let mut session = Session::new_h1(Box::new(Stream::from(stream)));
    session.downstream_session.read_request().await.unwrap();
    let mut ctx = gateway.new_ctx();
    gateway.early_request_filter(&mut session, &mut ctx).await.unwrap();
    gateway.request_filter(&mut session, &mut ctx).await.unwrap();
    gateway.logging(&mut session, None, &mut ctx).await;
    drop(session);
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    answer
}

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

/// Goal: a panic is a documented 500 for that request alone; it is counted, and the next request is served.
#[test]
fn a_panic_is_one_requests_500() {
    let built = gateway(&tempfile::tempdir().unwrap());
    let (defect, healthy) = run(async {
        let defect =
            serve_one(&built.gateway, "GET /v1/models HTTP/1.1\r\nhost: x\r\nx-defect: 1\r\n\r\n").await;
        (defect, serve_one(&built.gateway, "GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n").await)
    });
    assert!(defect.starts_with("HTTP/1.1 500"), "{defect}");
    assert!(
        defect.ends_with(r#""type":"api_error","param":null,"code":"internal_error","status":500}}"#),
        "{defect}"
    );
    assert!(healthy.starts_with("HTTP/1.1 200"), "{healthy}");
    assert_eq!(built.metrics.panics().get(), 1);
    assert_eq!(built.metrics.requests_under_way(), 0);
}

/// Goal: a request whose task is dropped half-way is counted as killed, and its guards are back (spec 6.3).
#[test]
fn a_dropped_request_is_counted() {
    let built = gateway(&tempfile::tempdir().unwrap());
    let mut ctx = built.gateway.new_ctx();
    ctx.begin("r".to_owned());
    assert_eq!(built.metrics.requests_under_way(), 1);
    drop(ctx);
    assert_eq!(built.metrics.requests_under_way(), 0);
    let text = String::from_utf8(built.metrics.render()).unwrap();
    assert!(
        text.contains(r#"tidegate_requests_total{code="none",model="other",route="other",status="0"} 1"#),
        "{text}"
    );
}
