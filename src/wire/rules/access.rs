//! What our credential, our organisation or our address is refused.

use super::words::POLICY_TEXTS;
use crate::core::failure::{Class, Effect};
use crate::wire::rule::Row;
use Class::{AddressRefused, ContentRefused, CredentialRefused, ModelMissing};

/// The rows, in order.
pub(super) const ROWS: &[Row] = &[
    // That an organisation is not verified is ours, whatever field it shows at.
    Row::new("text: our organisation is not verified", ModelMissing)
        .status(&[(400, 400), (403, 403)])
        .texts(&[&["organization must be verified"], &["verify organization"]])
        .firm(),
    // A capability that our account, our server or our address lacks, before the codes that name the key.
    Row::new("text: model not for us", ModelMissing)
        .status(&[(400, 400), (401, 401), (403, 403), (404, 404), (422, 422)])
        .texts(&[
            &["access to the model"],
            &["access to model"],
            &["not allowed to sample from this model"],
            &["model disabled"],
            &["model is disabled"],
            &["does not have access to model"],
            &["no permission to use the model"],
            &["无权使用模型"],
            &["无权访问"],
        ]),
    Row::new("code: address refused", AddressRefused)
        .codes(&[
            "unsupported_country_region_territory",
            "region_not_supported",
            "unsupported_region",
            "ip_not_allowed",
            "ip_not_authorized",
        ])
        .effect(Effect::ChannelOut),
    Row::new("text: address refused", AddressRefused)
        .status(&[(400, 400), (401, 401), (403, 403), (451, 451)])
        .texts(&[
            &["country, region, or territory"],
            &["location is not supported"],
            &["not available in your", "region"],
            &["not available in your country"],
            &["not supported in your", "region"],
            &["public access is disabled"],
            &["network settings"],
            &["firewall rules"],
            &["ip address", "not allowed"],
            &["ip address", "not authorized"],
            &["ip not in", "whitelist"],
            &["request not allowed"],
            &["your ip"],
        ])
        .effect(Effect::ChannelOut),
    // A refusal of content can be a 403, and has to be told from one of the key.
    Row::new("text: content refused with 403", ContentRefused).status(&[(403, 403)]).texts(POLICY_TEXTS),
    // Our credential.
    Row::new("code: credential refused", CredentialRefused).codes(&[
        "invalid_api_key",
        "api_key_invalid",
        "api_key_not_found",
        "api_key_expired",
        "api_key_disabled",
        "incorrect_api_key",
        "invalid_key",
        "invalid_token",
        "token_expired",
        "token_invalid",
        "authentication",
        "authentication_failed",
        "invalid_authentication",
        "invalid_auth*",
        "unauthenticated",
        "unauthorized",
        "unrecognized_client",
        "invalid_client_token_id",
        "expired_token",
        "access_denied",
        "permission_denied",
        "account_deactivated",
        "account_disabled",
        "user_deactivated",
        "organization_deactivated",
        "service_disabled",
        "consumer_suspended",
        "consumer_invalid",
        "api_key_service_blocked",
        "base_resp.1004",
        "base_resp.2049",
    ]),
    Row::new("text: credential refused", CredentialRefused)
        .status(&[(200, 299), (400, 400), (401, 401), (403, 403)])
        .texts(&[
            &["api key not valid"],
            &["api key not found"],
            &["api key expired"],
            &["incorrect api key"],
            &["invalid api key"],
            &["invalid api-key"],
            &["invalid token"],
            &["invalid api token"],
            &["api key is invalid"],
            &["api key provided is invalid"],
            &["subscription key"],
            &["无效的令牌"],
            &["令牌已过期"],
        ]),
];
