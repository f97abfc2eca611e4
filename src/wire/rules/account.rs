//! Money of ours with a provider, and limits over a time, which are told apart with care: the first needs an operator, the
//! second comes back by itself.

use crate::core::failure::Class;
use crate::wire::rule::Row;
use Class::{AccountEmpty, ModelMissing, Overloaded, RateLimited, TooLargeForTier};

/// The rows, in order.
pub(super) const ROWS: &[Row] = &[
    // Money, under any status.
    Row::new("code: account empty", AccountEmpty).codes(&[
        "insufficient_quota",
        "insufficient_user_quota",
        "insufficient_balance",
        "insufficient_credit*",
        "insufficient_funds",
        "billing_hard_limit_reached",
        "billing_limit*",
        "billing_not_active",
        "billing",
        "exceeded_current_quota",
        "arrearage",
        "account_overdue",
        "account_on_hold",
        "organization_on_hold",
        "organization_restricted",
        "credits_required",
        "credit_limit*",
        "payment_required",
        "spend_limit*",
        "enforced_spend_limit_reached",
        "linked_organization_spend_limit_reached",
        "personal_team_blocked*",
        "allocation_quota.free_tier_only",
        "access_denied.unpurchased",
        "budget_exceeded",
        "pre_consume_token_quota_failed",
        "quota_not_enough",
        "base_resp.1008",
    ]),
    Row::new("code: account empty, by Zhipu", AccountEmpty).status(&[(429, 429)]).codes(&["1112", "1113"]),
    Row::new("text: too large per minute", TooLargeForTier)
        .status(&[(400, 400), (413, 413), (429, 429)])
        .texts(&[
            &["request too large", "per min"],
            &["request too large", "tpm"],
            &["too large", "tokens per minute"],
            &["usage is required for long context"],
        ]),
    // Limits over a time come back by themselves, whatever they say about plans.
    Row::new("text: a limit over a time", RateLimited)
        .status(&[(200, 299), (402, 403), (429, 429)])
        .texts(&[
            &["rate limit"],
            &["per day"],
            &["per-day"],
            &["per minute"],
            &["per hour"],
            &["daily", "allocation"],
            &["daily", "limit"],
            &["rolling", "window"],
            &["quota refresh"],
            &["hour usage limit"],
            &["hour limit"],
            &["weekly", "limit"],
            &["will reset at"],
            &["resets at"],
        ])
        .unless(&[
            &["overload"],
            &["free tier", "exhausted"],
            &["spend limit"],
            &["trial key"],
            &["limit: 0,"],
            &["limit: 0 "],
        ]),
    // Google: the status is the same for a limit of ours, a lack of capacity and an empty account.
    Row::new("Google: no quota for this model", ModelMissing)
        .codes(&["resource_exhausted"])
        .texts(&[&["limit: 0,"], &["limit: 0 "]]),
    Row::new("Google: prepaid credits are used up", AccountEmpty).codes(&["resource_exhausted"]).texts(&[
        &["prepay"],
        &["credits", "depleted"],
        &["spending cap"],
        &["billing account"],
    ]),
    Row::new("Google: capacity", Overloaded)
        .codes(&["resource_exhausted", "model_capacity_exhausted"])
        .texts(&[&["capacity"], &["resource exhausted", "try again later"], &["overload"]]),
    Row::new("Google: rate limited", RateLimited).codes(&["resource_exhausted"]),
    Row::new("text: account empty", AccountEmpty).status(&[(200, 299), (400, 499), (500, 500)]).texts(&[
        &["credit balance"],
        &["insufficient", "balance"],
        &["insufficient", "credit"],
        &["insufficient", "funds"],
        &["insufficient", "quota"],
        &["insufficient_quota"],
        &["not enough", "credit"],
        &["not enough", "balance"],
        &["out of credit"],
        &["out of funds"],
        &["credits", "expired"],
        &["credits", "exhausted"],
        &["credits", "depleted"],
        &["available credits"],
        &["any credits"],
        &["credit limit"],
        &["spend limit"],
        &["spending limit"],
        &["spend cap"],
        &["usage threshold"],
        &["monthly included credits"],
        &["exceeded your current quota"],
        &["key limit exceeded"],
        &["trial key"],
        &["free trial"],
        &["free tier"],
        &["overdue"],
        &["past invoices"],
        &["enable billing"],
        &["top up"],
        &["budget", "exceeded"],
        &["organization has been restricted"],
        &["organization has been disabled"],
        &["account", "suspended"],
        &["account is not active"],
        &["余额不足"],
        &["余额"],
        &["额度不足"],
        &["配额不足"],
        &["额度已用"],
        &["欠费"],
        &["充值"],
    ]),
    Row::new("text: usage limit of the account", AccountEmpty)
        .status(&[(400, 400), (403, 403)])
        .texts(&[&["usage limits"], &["regain access"]]),
    Row::new("status: payment required", AccountEmpty).status(&[(402, 402)]),
];
