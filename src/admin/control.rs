//! What an operator changes over the admin listener: accounts, keys and credit, channels, the process (spec 13.1).
//!
//! A change is durable when it is answered. A key is in the answer to its creation and nowhere else.

use super::{Admin, json, text};
use crate::core::ledger::Credited;
use crate::core::money::Money;
use crate::proxy::{Rejected, Steer};
use http::Response;
use pingora::protocols::http::ServerSession;
use serde::Deserialize;
use serde_json::json as object;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

/// The largest body of a change, in bytes.
pub(crate) const BODY_MAX: usize = 64 * 1024;
/// How long a body may take.
pub(crate) const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Validity of the old secret after a rotation where the request does not say.
const OVERLAP_DEFAULT: Duration = Duration::from_secs(24 * 3600);

/// An amount to be booked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Credit {
    /// Dollars, as a decimal number in quotes; with a minus sign it is taken away.
    amount: String,
    /// The same key books once, however often it is sent.
    idempotency_key: String,
}

/// A rotation of a key.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Rotate {
    /// Validity of the old secret; [`OVERLAP_DEFAULT`] where it is left out.
    overlap: Option<String>,
}

/// Whether something is changed by a POST to this path, and by nothing else.
pub(super) fn changes(path: &str) -> bool {
    let parts: Vec<_> = path.trim_matches('/').split('/').collect();
    matches!(
        parts.as_slice(),
        ["reload" | "drain"]
            | ["channels", _, _]
            | ["accounts", _, "credit"]
            | ["keys", _, "revoke" | "restore" | "rotate"]
    )
}

fn unescaped(part: &str) -> Cow<'_, str> {
    percent_encoding::percent_decode_str(part).decode_utf8_lossy()
}

impl Admin {
    /// Makes the change that a POST asks for.
    ///
    /// # Cancel safety
    ///
    /// As the methods of `Directory`.
    pub(super) async fn change(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let path = session.req_header().uri.path().to_owned();
        let Some(body) = read(session).await else {
            return text(413, "the body is too large or too slow, or was not sent to its end\n");
        };
        // Split first: an id may contain a slash, which its sender has escaped.
        let parts: Vec<_> = path.trim_matches('/').split('/').map(unescaped).collect();
        let parts: Vec<&str> = parts.iter().map(AsRef::as_ref).collect();
        let changed = match parts.as_slice() {
            ["reload"] => return self.reload().await,
            ["drain"] => return self.drain(),
            ["channels", id, word] => self.steer(id, word),
            ["accounts"] => self.create_account(&body).await,
            ["accounts", id, "credit"] => self.credit(id, &body).await,
            ["keys"] => self.create_key(&body).await,
            ["keys", id, "revoke"] => {
                self.directory.revoke_key(id).await.map(|()| json(200, &object!({"revoked": id})))
            }
            ["keys", id, "restore"] => {
                self.directory.restore_key(id).await.map(|()| json(200, &object!({"restored": id})))
            }
            ["keys", id, "rotate"] => self.rotate_key(id, &body).await,
            _ => return text(404, "not found\n"),
        };
        changed.unwrap_or_else(|rejected| rejection(&rejected))
    }

    /// Loads the configuration again; what is wrong with it is in the answer, and nothing has changed then.
    async fn reload(&self) -> Response<Vec<u8>> {
        let reload = Arc::clone(&self.reload);
        match tokio::task::spawn_blocking(move || reload.reload()).await {
            Ok(Ok(report)) => json(200, &report),
            Ok(Err(problems)) => json(400, &object!({"error": problems.to_string()})),
            Err(_) => text(500, "the reload broke off\n"),
        }
    }

    /// Begins what SIGTERM begins.
    fn drain(&self) -> Response<Vec<u8>> {
        log::warn!("a drain was asked for over the admin listener");
        self.wish.ask();
        json(200, &object!({"draining": true}))
    }

    fn steer(&self, channel: &str, word: &str) -> Result<Response<Vec<u8>>, Rejected> {
        let known = Steer::WORDS.iter().find(|(known, _)| *known == word);
        let (_, steer) =
            known.ok_or_else(|| Rejected::Unknown("enable, disable or readmit a channel".into()))?;
        Ok(json(200, &self.helm.steer(channel, *steer)?))
    }

    async fn create_account(&self, body: &[u8]) -> Result<Response<Vec<u8>>, Rejected> {
        self.directory.create_account(parse(body)?).await?;
        Ok(json(201, &object!({"created": true})))
    }

    async fn create_key(&self, body: &[u8]) -> Result<Response<Vec<u8>>, Rejected> {
        let key = self.directory.create_key(parse(body)?).await?;
        Ok(json(201, &object!({"key": key})))
    }

    async fn rotate_key(&self, id: &str, body: &[u8]) -> Result<Response<Vec<u8>>, Rejected> {
        let Rotate { overlap } = if body.is_empty() { Rotate::default() } else { parse(body)? };
        let invalid = || Rejected::Invalid("overlap must be a duration such as 24h or 0s".into());
        let overlap = match overlap {
            Some(text) => humantime::parse_duration(&text).map_err(|_| invalid())?,
            None => OVERLAP_DEFAULT,
        };
        Ok(json(200, &self.directory.rotate_key(id, overlap).await?))
    }

    async fn credit(&self, account: &str, body: &[u8]) -> Result<Response<Vec<u8>>, Rejected> {
        let Credit { amount, idempotency_key } = parse(body)?;
        let invalid = || Rejected::Invalid("amount must be a decimal number of dollars in quotes".into());
        let amount = match amount.strip_prefix('-') {
            None => Money::parse(&amount),
            Some(taken) => Money::parse(taken).map(|taken| Money::ZERO.saturating_sub(taken)),
        };
        let booked = self.directory.credit(account, &idempotency_key, amount.ok_or_else(invalid)?).await?;
        Ok(json(200, &object!({"booked": booked == Credited::Booked})))
    }
}

fn parse<T: for<'a> Deserialize<'a>>(body: &[u8]) -> Result<T, Rejected> {
    serde_json::from_slice(body).map_err(|e| Rejected::Invalid(format!("the body makes no sense: {e}")))
}

fn rejection(rejected: &Rejected) -> Response<Vec<u8>> {
    let (status, why) = match rejected {
        Rejected::Unknown(why) => (404, why.as_str()),
        Rejected::Invalid(why) => (400, why.as_str()),
        Rejected::Conflict(why) => (409, why.as_str()),
        Rejected::StoreUnavailable => (503, "the store does not take it now; ask again"),
    };
    json(status, &object!({"error": why}))
}

/// The whole body, if it is small and comes in time.
async fn read(session: &mut ServerSession) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    let reading = async {
        // A body that breaks off is none: what it would have said is not known.
        while let Some(piece) = session.read_request_body().await.ok()? {
            body.extend_from_slice(&piece);
            if body.len() > BODY_MAX {
                return None;
            }
        }
        Some(())
    };
    tokio::time::timeout(BODY_TIMEOUT, reading).await.ok()??;
    Some(body)
}
