//! What the tests of money look at: the balance, the ledger's file, the sums of the metrics. Amounts are nano-dollars.

use super::{Gateway, KEY, http};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

/// An account as a balance read shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Balance {
    pub(crate) balance: i64,
    pub(crate) used: i64,
    pub(crate) total: i64,
}

/// A read of the balance; `None` if nobody answers.
pub(crate) fn read_balance(public: SocketAddr) -> Option<http::Reply> {
    let request = format!("GET /v1/balance HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {KEY}\r\n\r\n");
    http::exchange(public, request.as_bytes())
}

/// The balance in a whole answer; its parts must add up.
pub(crate) fn balance_of(reply: &http::Reply) -> Balance {
    assert_eq!(reply.status, 200, "{}", reply.text());
    let shown = reply.json();
    let [balance, used, total] = ["balance", "used", "total"].map(|part| nanos(&shown[part]));
    assert_eq!(total, balance + used, "{shown}");
    Balance { balance, used, total }
}

/// An amount of dollars in nano-dollars. A double holds any that a test has, up to millions of dollars, to far less than
/// half a nano-dollar.
pub(crate) fn nanos(dollars: &Value) -> i64 {
    (dollars.as_f64().unwrap_or_else(|| panic!("{dollars} is no amount")) * 1e9).round() as i64
}

/// `tidegate ledger verify` finds nothing wrong with what a gateway left in its folder.
pub(crate) fn verify_ledger(folder: &Path) {
    let verify = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["ledger", "verify"])
        .arg(folder.join("data"))
        .output()
        .unwrap();
    let said =
        [verify.stdout, verify.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(verify.status.success() && said == "the ledger is consistent\n", "{said}");
}

impl Gateway {
    /// The balance as the tests' key sees it.
    pub(crate) fn balance(&self) -> Balance {
        self.count(1);
        balance_of(&read_balance(self.public).expect("an answer"))
    }

    /// One of the ledger's sums: `reserved_nanodollars_total`, `outstanding_nanodollars` and so on.
    pub(crate) fn quota(&self, sum: &str) -> f64 {
        self.sum(&format!("tidegate_quota_{sum}"))
    }

    /// The ledger's sums add up, nothing is outstanding (spec 8.4), and so much was settled since this process started.
    pub(crate) fn check_idle_sums(&self, settled: i64) {
        let sums = self.metrics();
        let sum = |name: &str| sums[&format!("tidegate_quota_{name}")];
        assert_eq!(sum("outstanding_nanodollars"), 0.0);
        let ended = sum("settled_nanodollars_total") + sum("released_nanodollars_total");
        assert_eq!(sum("reserved_nanodollars_total"), ended);
        assert_eq!(sum("settled_nanodollars_total"), settled as f64);
    }
}
