//! OpenID discovery, instance discovery and the published keys.

use http::StatusCode;
use serde_json::{Value, json};

use super::claims::{issuer_v1, issuer_v2};
use super::{keys, token};
use crate::face::{Answer, Call};
use crate::state::State;

/// Which tenant a path names.
enum Named {
    Ours,
    /// `common` and `organizations`, whose issuer is a template.
    Any,
}

fn named(state: &State, tenant: &str) -> Result<Named, Answer> {
    match tenant.to_ascii_lowercase().as_str() {
        "common" | "organizations" => Ok(Named::Any),
        tenant if tenant.eq_ignore_ascii_case(&state.tenant_id) => Ok(Named::Ours),
        _ => Err(token::unknown_tenant("invalid_tenant", tenant)),
    }
}

/// The tenant's v1 document.
pub(super) fn v1(state: &State, call: &Call, tenant: &str) -> Answer {
    let issuer = match named(state, tenant) {
        Ok(Named::Ours) => issuer_v1(&state.tenant_id),
        Ok(Named::Any) => issuer_v1("{tenantid}"),
        Err(answer) => return answer,
    };
    let base = format!("{}/{tenant}", call.base);
    let mut document = document(call, tenant, &issuer);
    document["token_endpoint"] = json!(format!("{base}/oauth2/token"));
    document["authorization_endpoint"] = json!(format!("{base}/oauth2/authorize"));
    document["device_authorization_endpoint"] = json!(format!("{base}/oauth2/devicecode"));
    document["end_session_endpoint"] = json!(format!("{base}/oauth2/logout"));
    document["jwks_uri"] = json!(format!("{base}/discovery/keys"));
    Answer::json(StatusCode::OK, &document)
}

/// The tenant's v2 document.
pub(super) fn v2(state: &State, call: &Call, tenant: &str) -> Answer {
    let issuer = match named(state, tenant) {
        Ok(Named::Ours) => issuer_v2(&state.tenant_id),
        Ok(Named::Any) => issuer_v2("{tenantid}"),
        Err(answer) => return answer,
    };
    let base = format!("{}/{tenant}", call.base);
    let mut document = document(call, tenant, &issuer);
    document["token_endpoint"] = json!(format!("{base}/oauth2/v2.0/token"));
    document["authorization_endpoint"] = json!(format!("{base}/oauth2/v2.0/authorize"));
    document["device_authorization_endpoint"] = json!(format!("{base}/oauth2/v2.0/devicecode"));
    document["end_session_endpoint"] = json!(format!("{base}/oauth2/v2.0/logout"));
    document["jwks_uri"] = json!(format!("{base}/discovery/v2.0/keys"));
    Answer::json(StatusCode::OK, &document)
}

fn document(call: &Call, tenant: &str, issuer: &str) -> Value {
    json!({
        "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt", "client_secret_basic"],
        "response_modes_supported": ["query", "fragment", "form_post"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "response_types_supported": ["code", "id_token", "code id_token", "id_token token"],
        "scopes_supported": ["openid", "profile", "email", "offline_access"],
        "issuer": issuer,
        "request_uri_parameter_supported": false,
        "userinfo_endpoint": format!("{}/oidc/userinfo", call.bases.url("graph")),
        "http_logout_supported": true,
        "frontchannel_logout_supported": true,
        "claims_supported": [
            "sub", "iss", "cloud_instance_name", "cloud_instance_host_name", "cloud_graph_host_name",
            "msgraph_host", "aud", "exp", "iat", "auth_time", "acr", "nonce", "preferred_username", "name",
            "tid", "ver", "at_hash", "c_hash", "email",
        ],
        "kerberos_endpoint": format!("{}/{tenant}/kerberos", call.base),
        "tenant_region_scope": "EU",
        "cloud_instance_name": "microsoftonline.com",
        "cloud_graph_host_name": "graph.windows.net",
        "msgraph_host": authority(call.bases.url("graph")),
        "rbac_url": "https://pas.windows.net",
    })
}

/// What client libraries ask before they trust an authority: they find the sandbox's own host among the aliases.
pub(super) fn instance(call: &Call) -> Answer {
    let host = authority(&call.base);
    let endpoint = call.param("authorization_endpoint").unwrap_or_default();
    let tenant = endpoint.split_once("://").and_then(|(_, rest)| rest.split('/').nth(1)).unwrap_or("common");
    Answer::json(
        StatusCode::OK,
        &json!({
            "tenant_discovery_endpoint": format!("{}/{tenant}/v2.0/.well-known/openid-configuration", call.base),
            "api-version": "1.1",
            "metadata": [{ "preferred_network": host, "preferred_cache": host, "aliases": [host] }],
        }),
    )
}

/// The keys that tokens are verified with.
pub(super) fn keys(state: &State, tenant: &str) -> Answer {
    match named(state, tenant) {
        Ok(Named::Ours) => Answer::json(StatusCode::OK, &keys::jwks(&issuer_v2(&state.tenant_id))),
        Ok(Named::Any) => Answer::json(StatusCode::OK, &keys::jwks(&issuer_v2("{tenantid}"))),
        Err(answer) => answer,
    }
}

fn authority(base: &str) -> &str {
    base.split_once("://").map_or(base, |(_, authority)| authority)
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use serde_json::Value;

    use crate::entra;
    use crate::entra::claims::testing::tenant;
    use crate::face::{Answer, Call};

    fn get(target: &str) -> (Answer, Value) {
        let mut state = tenant();
        let answer = entra::answer(&mut state, &Call::new("GET", target));
        let body = serde_json::from_slice(&answer.body).unwrap_or_default();
        (answer, body)
    }

    #[test]
    fn both_documents_point_at_endpoints_that_answer() {
        let id = tenant().tenant_id;
        for version in ["", "/v2.0"] {
            let (_, document) = get(&format!("/{id}{version}/.well-known/openid-configuration"));
            let keys = document["jwks_uri"].as_str().unwrap();
            let (_, keys) = get(keys.strip_prefix("https://127.0.0.1:1").unwrap());
            assert_eq!(keys["keys"][0]["kty"], "RSA");
            assert_eq!(keys["keys"][0]["e"], "AQAB");
            assert!(document["token_endpoint"].as_str().unwrap().ends_with("/token"));
            assert!(document["issuer"].as_str().unwrap().contains(&id));
        }
    }

    #[test]
    fn common_has_a_template_for_an_issuer() {
        let (_, document) = get("/common/v2.0/.well-known/openid-configuration");
        assert_eq!(document["issuer"], "https://login.microsoftonline.com/{tenantid}/v2.0");
        let (_, document) = get("/organizations/.well-known/openid-configuration");
        assert_eq!(document["issuer"], "https://sts.windows.net/{tenantid}/");
    }

    #[test]
    fn an_unknown_tenant_is_refused() {
        for target in ["/nobody/.well-known/openid-configuration", "/nobody/discovery/v2.0/keys"] {
            let (answer, body) = get(target);
            assert_eq!(answer.status, StatusCode::BAD_REQUEST);
            assert_eq!(body["error"], "invalid_tenant");
            assert_eq!(body["error_codes"][0], 90_002);
        }
        assert_eq!(get("/x").0.status, StatusCode::NOT_FOUND);
    }

    #[test]
    fn instance_discovery_knows_the_sandbox_itself() {
        let (_, body) = get("/common/discovery/instance?api-version=1.1&\
             authorization_endpoint=https://127.0.0.1:1/t/oauth2/v2.0/authorize");
        assert_eq!(body["metadata"][0]["aliases"][0], "127.0.0.1:1");
        assert_eq!(body["tenant_discovery_endpoint"], "https://127.0.0.1:1/t/v2.0/.well-known/openid-configuration");
    }
}
