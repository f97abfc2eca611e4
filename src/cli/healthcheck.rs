//! `tidegate healthcheck`: whether a gateway is ready, for containers (spec 12.2).

use super::{Ended, admin, answered};

/// Exits with 0 if the gateway wants traffic.
pub(super) fn run(admin: &admin::Listener) -> Ended {
    answered(admin.get("/readyz"))
}
