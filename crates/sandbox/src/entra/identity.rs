//! The managed-identity endpoint that the Functions host gives a handler (documentation, api-version 2019-08-01).

use std::sync::OnceLock;

use chrono::TimeDelta;
use http::{Method, StatusCode};
use serde_json::json;

use super::claims::known_resource;
use super::issue;
use crate::face::{Answer, Call};
use crate::machine;
use crate::state::{Principal, State};

/// The platform keeps an identity's token for a day.
const IDENTITY_TOKEN_LIFE: TimeDelta = TimeDelta::hours(24);

/// What the `X-IDENTITY-HEADER` of a request must be: `IDENTITY_HEADER` of the handler's environment.
pub fn identity_header() -> &'static str {
    static HEADER: OnceLock<String> = OnceLock::new();
    HEADER.get_or_init(machine::secret)
}

/// An error of the managed-identity endpoint.
pub fn error(status: StatusCode, message: &str) -> Answer {
    Answer::json(status, &json!({ "statusCode": status.as_u16(), "message": message }))
}

/// Answers one request to the managed-identity endpoint, `/msi/token`.
pub fn answer(state: &mut State, call: &Call) -> Answer {
    match token(state, call) {
        Ok(answer) | Err(answer) => answer,
    }
}

fn token(state: &State, call: &Call) -> Result<Answer, Answer> {
    if call.path.trim_end_matches('/') != "/msi/token" {
        return Err(error(StatusCode::NOT_FOUND, "The managed-identity endpoint is /msi/token."));
    }
    if call.method != Method::GET {
        return Err(error(StatusCode::METHOD_NOT_ALLOWED, "The managed-identity endpoint answers GET."));
    }
    if call.header("x-identity-header") != Some(identity_header()) {
        let message = "X-IDENTITY-HEADER is missing or is not the value of IDENTITY_HEADER.";
        return Err(error(StatusCode::UNAUTHORIZED, message));
    }
    if call.param("api-version") != Some("2019-08-01") {
        let message = "The api-version is missing or unknown; give api-version=2019-08-01.";
        return Err(error(StatusCode::BAD_REQUEST, message));
    }
    let resource = call
        .param("resource")
        .filter(|resource| !resource.is_empty())
        .ok_or_else(|| error(StatusCode::BAD_REQUEST, "The parameter resource is missing."))?;
    if !known_resource(resource) {
        let message =
            format!("AADSTS500011: The resource principal named {resource} was not found in the tenant named {}.", state.tenant_id);
        return Err(error(StatusCode::BAD_REQUEST, &message));
    }
    let identity = identity(state, call).ok_or_else(|| {
        let message = "No User Assigned or Delegated Managed Identity found for specified ClientId/ResourceId/PrincipalId.";
        error(StatusCode::BAD_REQUEST, message)
    })?;
    let expires_on = machine::now() + IDENTITY_TOKEN_LIFE;
    Ok(Answer::json(
        StatusCode::OK,
        &json!({
            "access_token": issue(state, identity, resource, TimeDelta::zero(), IDENTITY_TOKEN_LIFE),
            "expires_on": expires_on.timestamp().to_string(),
            "resource": resource,
            "token_type": "Bearer",
            "client_id": identity.app_id,
        }),
    ))
}

/// The identity that is asked for; without a name it is the first, as an app's own system-assigned one.
fn identity<'a>(state: &'a State, call: &Call) -> Option<&'a Principal> {
    let mut assigned = state.principals.iter().filter(|principal| principal.managed_identity);
    match (call.param("client_id"), call.param("principal_id").or(call.param("object_id")), call.param("mi_res_id")) {
        (Some(client), _, _) => assigned.find(|identity| identity.app_id.eq_ignore_ascii_case(client)),
        (None, Some(object), _) => assigned.find(|identity| identity.object_id.eq_ignore_ascii_case(object)),
        (None, None, Some(id)) => {
            let name = id.rsplit('/').next().unwrap_or("");
            assigned.find(|identity| identity.name.eq_ignore_ascii_case(name))
        }
        (None, None, None) => assigned.next(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::entra;
    use crate::entra::claims::testing::tenant;

    const ASKED: &str = "/msi/token?api-version=2019-08-01&resource=https://management.azure.com";

    fn ask(target: &str, header: &str) -> (u16, Value) {
        let call = Call::new("GET", target).with_header("x-identity-header", header);
        let answer = entra::identity(&mut tenant(), &call);
        (answer.status.as_u16(), serde_json::from_slice(&answer.body).unwrap())
    }

    #[test]
    fn the_identity_gets_a_token_whose_end_is_a_string() {
        let (status, body) = ask(ASKED, identity_header());
        assert_eq!(status, 200);
        assert!(body["expires_on"].is_string());
        assert_eq!(body["client_id"], "identity-client");
        assert_eq!(body["resource"], "https://management.azure.com");
        let call = Call::new("GET", "/").with_bearer(body["access_token"].as_str().unwrap());
        let caller = entra::authenticate(&tenant(), &call, &["https://management.azure.com"]).unwrap();
        assert_eq!(caller.object_id, "oid-identity");
    }

    #[test]
    fn an_identity_may_be_named_in_each_way() {
        for name in ["client_id=identity-client", "principal_id=oid-identity", "mi_res_id=/x/y/portcullis"] {
            assert_eq!(ask(&format!("{ASKED}&{name}"), identity_header()).0, 200, "{name}");
        }
        for name in ["client_id=app-id", "principal_id=oid-app", "mi_res_id=/x/y/other"] {
            assert_eq!(ask(&format!("{ASKED}&{name}"), identity_header()).0, 400, "{name}");
        }
    }

    #[test]
    fn what_is_asked_wrongly_is_refused() {
        assert_eq!(ask(ASKED, "wrong").0, 401);
        assert_eq!(ask("/msi/token?api-version=2019-08-01", identity_header()).0, 400);
        assert_eq!(ask("/msi/token?resource=https://management.azure.com", identity_header()).0, 400);
        let (status, body) = ask("/msi/token?api-version=2019-08-01&resource=https://example.org", identity_header());
        assert_eq!((status, body["statusCode"].as_u64()), (400, Some(400)));
        assert_eq!(ask("/other", identity_header()).0, 404);
    }
}
