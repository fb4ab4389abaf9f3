//! The claims of access tokens, in Entra's two forms. Source: the documentation's access-token claims reference.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::machine;
use crate::state::{Principal, State};

/// The client id of the product's own API, the audience of its tokens.
pub const API_APP_ID: &str = "5a4db0c5-00a1-4000-8000-00000000a91d";
/// The application id URI of the product's own API.
pub const API_ID_URI: &str = "api://portcullis";
/// What a client asks for to call the product's own API.
pub const API_SCOPE: &str = "api://portcullis/.default";
/// The Azure CLI's public client id, which people's tokens for Azure carry.
const AZURE_CLI: &str = "04b07795-8ddb-461a-bbee-02f9e1bf7b46";

/// Resources, besides the product's API, for which the tenant gives tokens.
const RESOURCES: [&str; 9] = [
    "https://management.azure.com",
    "https://management.core.windows.net",
    "https://storage.azure.com",
    "https://servicebus.azure.net",
    "https://monitor.azure.com",
    "https://graph.microsoft.com",
    "https://api.loganalytics.io",
    "https://eventgrid.azure.net",
    "https://vault.azure.net",
];

/// Whether the tenant knows the resource that a client asks a token for.
pub(super) fn known_resource(resource: &str) -> bool {
    let plain = resource.trim_end_matches('/');
    is_api(resource) || RESOURCES.iter().any(|known| known.eq_ignore_ascii_case(plain))
}

fn is_api(resource: &str) -> bool {
    let plain = resource.trim_end_matches('/');
    plain.eq_ignore_ascii_case(API_ID_URI) || plain.eq_ignore_ascii_case(API_APP_ID)
}

/// The issuer of v1 tokens.
pub(super) fn issuer_v1(tenant: &str) -> String {
    format!("https://sts.windows.net/{tenant}/")
}

/// The issuer of v2 tokens.
pub(super) fn issuer_v2(tenant: &str) -> String {
    format!("https://login.microsoftonline.com/{tenant}/v2.0")
}

/// Both issuers of the tenant.
pub(super) fn issuers(tenant: &str) -> [String; 2] {
    [issuer_v1(tenant), issuer_v2(tenant)]
}

/// The claims of a token of `principal` for `audience`. The API's registration decides the form, not the endpoint:
/// v2 for the product's own API, v1 for Azure's.
pub(super) fn of(state: &State, principal: &Principal, audience: &str, issued_at: DateTime<Utc>, life: TimeDelta) -> Value {
    let mut claims = json!({
        "iat": issued_at.timestamp(),
        "nbf": issued_at.timestamp(),
        "exp": (issued_at + life).timestamp(),
        "oid": principal.object_id,
        "tid": state.tenant_id,
        "uti": machine::secret(),
    });
    let more = match (is_api(audience), principal.upn.is_empty()) {
        (true, true) => v2_application(state, principal),
        (true, false) => v2_person(state, principal),
        (false, true) => v1_application(state, principal, audience),
        (false, false) => v1_person(state, principal, audience),
    };
    if let (Value::Object(claims), Value::Object(more)) = (&mut claims, more) {
        claims.extend(more);
    }
    claims
}

fn v1_application(state: &State, principal: &Principal, audience: &str) -> Value {
    let issuer = issuer_v1(&state.tenant_id);
    let mut claims = json!({
        "aud": audience,
        "iss": issuer,
        "idp": issuer,
        "sub": principal.object_id,
        "appid": principal.app_id,
        "appidacr": if principal.managed_identity { "2" } else { "1" },
        "idtyp": "app",
        "ver": "1.0",
    });
    if principal.managed_identity {
        claims["xms_mirid"] = json!(managed_identity_id(state, principal));
    }
    claims
}

fn v1_person(state: &State, principal: &Principal, audience: &str) -> Value {
    json!({
        "aud": audience,
        "iss": issuer_v1(&state.tenant_id),
        "sub": pairwise(principal, audience),
        "appid": AZURE_CLI,
        "appidacr": "0",
        "amr": ["pwd", "mfa"],
        "acr": "1",
        "idtyp": "user",
        "ipaddr": "127.0.0.1",
        "name": principal.name,
        "scp": "user_impersonation",
        "unique_name": principal.upn,
        "upn": principal.upn,
        "ver": "1.0",
    })
}

fn v2_application(state: &State, principal: &Principal) -> Value {
    let mut claims = json!({
        "aud": API_APP_ID,
        "iss": issuer_v2(&state.tenant_id),
        "sub": principal.object_id,
        "azp": principal.app_id,
        "azpacr": if principal.managed_identity { "2" } else { "1" },
        "idtyp": "app",
        "ver": "2.0",
    });
    with_roles(&mut claims, principal);
    claims
}

fn v2_person(state: &State, principal: &Principal) -> Value {
    let mut claims = json!({
        "aud": API_APP_ID,
        "iss": issuer_v2(&state.tenant_id),
        "sub": pairwise(principal, API_APP_ID),
        "azp": API_APP_ID,
        "azpacr": "1",
        "name": principal.name,
        "preferred_username": principal.upn,
        "scp": "user_impersonation",
        "upn": principal.upn,
        "ver": "2.0",
    });
    with_roles(&mut claims, principal);
    claims
}

/// A principal without a role has no `roles` at all, not an empty one.
fn with_roles(claims: &mut Value, principal: &Principal) {
    if !principal.app_roles.is_empty() {
        claims["roles"] = json!(principal.app_roles);
    }
}

/// A person's `sub` differs from API to API.
fn pairwise(principal: &Principal, audience: &str) -> String {
    let seed = format!("{}\n{audience}", principal.object_id);
    URL_SAFE_NO_PAD.encode(digest(&SHA256, seed.as_bytes()))
}

fn managed_identity_id(state: &State, principal: &Principal) -> String {
    let subscription = state.subscriptions.first().map_or("", |subscription| &subscription.id);
    format!(
        "/subscriptions/{subscription}/resourcegroups/portcullis/providers/\
         Microsoft.ManagedIdentity/userAssignedIdentities/{}",
        principal.name
    )
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    /// A tenant with an application, a person and a managed identity.
    pub fn tenant() -> State {
        let application = Principal {
            object_id: "oid-app".to_owned(),
            app_id: "app-id".to_owned(),
            name: "Client".to_owned(),
            secret: "s3cret+/=".to_owned(),
            app_roles: vec!["Auditor".to_owned()],
            ..Principal::default()
        };
        let person = Principal {
            object_id: "oid-person".to_owned(),
            upn: "ada@example.org".to_owned(),
            name: "Ada".to_owned(),
            ..Principal::default()
        };
        let identity = Principal {
            object_id: "oid-identity".to_owned(),
            app_id: "identity-client".to_owned(),
            name: "portcullis".to_owned(),
            managed_identity: true,
            ..Principal::default()
        };
        State { principals: vec![application, person, identity], ..State::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::tenant;
    use super::*;

    fn claims(who: usize, audience: &str) -> Value {
        let state = tenant();
        of(&state, &state.principals[who], audience, DateTime::UNIX_EPOCH, TimeDelta::seconds(60))
    }

    #[test]
    fn azures_own_apis_get_v1_tokens_with_the_audience_as_asked() {
        let token = claims(0, "https://management.core.windows.net/");
        assert_eq!(token["aud"], "https://management.core.windows.net/");
        assert_eq!(token["ver"], "1.0");
        assert_eq!(token["appid"], "app-id");
        assert_eq!(token["idtyp"], "app");
        assert_eq!(token["sub"], token["oid"]);
        assert_eq!(token["exp"], 60);
        assert!(token.get("scp").is_none() && token.get("xms_mirid").is_none() && token.get("roles").is_none());
        assert!(claims(2, "https://storage.azure.com")["xms_mirid"].as_str().unwrap().ends_with("/portcullis"));
    }

    #[test]
    fn the_products_own_api_gets_v2_tokens_for_its_client_id() {
        let token = claims(0, API_ID_URI);
        assert_eq!(token["aud"], API_APP_ID);
        assert_eq!(token["ver"], "2.0");
        assert_eq!(token["azp"], "app-id");
        assert_eq!(token["roles"], json!(["Auditor"]));
        assert!(token.get("scp").is_none());
        assert!(claims(2, API_APP_ID).get("roles").is_none());
    }

    #[test]
    fn a_person_has_a_scope_and_names_and_another_sub_for_each_api() {
        let (arm, api) = (claims(1, "https://management.azure.com"), claims(1, API_ID_URI));
        assert_eq!(arm["upn"], "ada@example.org");
        assert_eq!(arm["scp"], "user_impersonation");
        assert_eq!(api["preferred_username"], "ada@example.org");
        assert_eq!(api["name"], "Ada");
        assert_eq!(api["oid"], "oid-person");
        assert_ne!(arm["sub"], api["sub"]);
    }

    #[test]
    fn resources_are_known_with_and_without_a_slash() {
        for resource in ["https://management.azure.com/", "https://Storage.azure.com", API_ID_URI, API_APP_ID] {
            assert!(known_resource(resource), "{resource}");
        }
        assert!(!known_resource("https://example.org"));
    }
}
