//! The background service that keeps the addresses of channels fresh (design: never in the request path).

use super::Shared;
use async_trait::async_trait;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use std::sync::Arc;
use std::time::Duration;

/// How often names are looked up.
const INTERVAL: Duration = Duration::from_secs(30);

/// Looks up the hosts of all channels, at once and then every 30 seconds.
pub struct Resolver(pub(super) Arc<Shared>);

#[async_trait]
impl BackgroundService for Resolver {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let mut ticks = tokio::time::interval(INTERVAL);
        loop {
            tokio::select! {
                _ = shutdown.changed() => return,
                _ = ticks.tick() => {
                    let channels = self.0.generation.load().channels.clone();
                    futures::future::join_all(channels.iter().map(|channel| channel.resolve())).await;
                }
            }
        }
    }
}
