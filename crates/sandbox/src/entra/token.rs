//! The token endpoints: client credentials with a secret.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::TimeDelta;
use http::StatusCode;
use serde_json::json;

use super::claims::known_resource;
use super::{TOKEN_LIFE, issue};
use crate::face::{Answer, Call};
use crate::machine;
use crate::state::{Principal, State};

/// An error of the token endpoint. `code` is the number of the AADSTS error, 0 where there is none.
pub fn error(status: StatusCode, error: &str, description: &str, code: u32) -> Answer {
    let (trace, correlation) = (machine::uuid(), machine::uuid());
    let timestamp = machine::now().format("%Y-%m-%d %H:%M:%SZ").to_string();
    let prefix = if code == 0 { String::new() } else { format!("AADSTS{code}: ") };
    Answer::json(
        status,
        &json!({
            "error": error,
            "error_description": format!(
                "{prefix}{description} Trace ID: {trace} Correlation ID: {correlation} Timestamp: {timestamp}"
            ),
            "error_codes": [code],
            "timestamp": timestamp,
            "trace_id": trace,
            "correlation_id": correlation,
            "error_uri": format!("https://login.microsoftonline.com/error?code={code}"),
        }),
    )
}

/// The refusal of a tenant that does not exist; discovery and the token endpoints name it differently.
pub(super) fn unknown_tenant(name: &str, tenant: &str) -> Answer {
    let description = format!(
        "Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID and are signing into the \
         correct cloud. Check with your subscription administrator, this may happen if there are no active \
         subscriptions for the tenant."
    );
    error(StatusCode::BAD_REQUEST, name, &description, 90_002)
}

/// `POST /{tenant}/oauth2/token`: the resource is a parameter of its own and every number is a string.
pub(super) fn v1(state: &State, call: &Call, tenant: &str) -> Answer {
    let form = form(call);
    let granted = client(state, call, tenant, &form).and_then(|client| {
        let resource = required(&form, "resource")?;
        check_resource(state, resource)?;
        Ok((client, resource))
    });
    let (client, resource) = match granted {
        Ok(granted) => granted,
        Err(answer) => return answer,
    };
    let now = machine::now();
    Answer::json(
        StatusCode::OK,
        &json!({
            "token_type": "Bearer",
            "expires_in": TOKEN_LIFE.num_seconds().to_string(),
            "ext_expires_in": TOKEN_LIFE.num_seconds().to_string(),
            "expires_on": (now + TOKEN_LIFE).timestamp().to_string(),
            "not_before": now.timestamp().to_string(),
            "resource": resource,
            "access_token": issue(state, client, resource, TimeDelta::zero(), TOKEN_LIFE),
        }),
    )
    .with("Cache-Control", "no-store, no-cache")
}

/// `POST /{tenant}/oauth2/v2.0/token`: the resource is the scope without its `/.default`.
pub(super) fn v2(state: &State, call: &Call, tenant: &str) -> Answer {
    let form = form(call);
    let granted = client(state, call, tenant, &form).and_then(|client| {
        let resource = resource_of_scope(required(&form, "scope")?)?;
        check_resource(state, resource)?;
        Ok((client, resource))
    });
    let (client, resource) = match granted {
        Ok(granted) => granted,
        Err(answer) => return answer,
    };
    Answer::json(
        StatusCode::OK,
        &json!({
            "token_type": "Bearer",
            "expires_in": TOKEN_LIFE.num_seconds(),
            "ext_expires_in": TOKEN_LIFE.num_seconds(),
            "access_token": issue(state, client, resource, TimeDelta::zero(), TOKEN_LIFE),
        }),
    )
    .with("Cache-Control", "no-store, no-cache")
}

type Form = HashMap<String, String>;

fn form(call: &Call) -> Form {
    url::form_urlencoded::parse(&call.body).into_owned().collect()
}

fn required<'a>(form: &'a Form, name: &str) -> Result<&'a str, Answer> {
    form.get(name).map(String::as_str).filter(|value| !value.is_empty()).ok_or_else(|| missing(name))
}

fn missing(name: &str) -> Answer {
    let description = format!("The request body must contain the following parameter: '{name}'.");
    error(StatusCode::BAD_REQUEST, "invalid_request", &description, 900_144)
}

/// The application whose credentials the request carries.
fn client<'a>(state: &'a State, call: &Call, tenant: &str, form: &Form) -> Result<&'a Principal, Answer> {
    if matches!(tenant.to_ascii_lowercase().as_str(), "common" | "organizations") {
        let description = "No tenant-identifying information found in either the request or implied by any \
                           provided credentials.";
        return Err(error(StatusCode::BAD_REQUEST, "invalid_request", description, 50_059));
    }
    if !tenant.eq_ignore_ascii_case(&state.tenant_id) {
        return Err(unknown_tenant("invalid_request", tenant));
    }
    let grant = required(form, "grant_type")?;
    if grant != "client_credentials" {
        let description = format!(
            "The app requested an unsupported grant type '{grant}'. The sandbox gives tokens for \
             'client_credentials'; a person's token comes from its control API."
        );
        return Err(error(StatusCode::BAD_REQUEST, "unsupported_grant_type", &description, 70_003));
    }
    if form.contains_key("client_assertion") {
        let description = "Client assertion failed signature validation. The sandbox knows client secrets only.";
        return Err(error(StatusCode::UNAUTHORIZED, "invalid_client", description, 700_027));
    }
    let (id, secret) = credentials(call, form)?;
    let known = |principal: &&Principal| !id.is_empty() && principal.app_id.eq_ignore_ascii_case(&id);
    let Some(principal) = state.principals.iter().find(known) else {
        let description = format!(
            "Application with identifier '{id}' was not found in the directory '{}'. This can happen if the \
             application has not been installed by the administrator of the tenant or consented to by any user in \
             the tenant. You may have sent your authentication request to the wrong tenant.",
            state.tenant_id
        );
        return Err(error(StatusCode::BAD_REQUEST, "unauthorized_client", &description, 700_016));
    };
    // One without a secret, such as a managed identity, has no secret that would be right.
    if principal.secret.is_empty() || principal.secret != secret {
        let description = format!(
            "Invalid client secret provided. Ensure the secret being sent in the request is the client secret \
             value, not the client secret ID, for a secret added to app '{id}'."
        );
        return Err(error(StatusCode::UNAUTHORIZED, "invalid_client", &description, 7_000_215));
    }
    Ok(principal)
}

/// Id and secret, from the body or, as RFC 6749 §2.3.1 has it, from a Basic header with both form-encoded.
fn credentials(call: &Call, form: &Form) -> Result<(String, String), Answer> {
    let basic = call.header("authorization").and_then(|value| {
        let encoded = value.strip_prefix("Basic ").or_else(|| value.strip_prefix("basic "))?;
        let pair = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
        let (id, secret) = pair.split_once(':')?;
        Some((form_decoded(id), form_decoded(secret)))
    });
    if let Some(credentials) = basic {
        return Ok(credentials);
    }
    let id = required(form, "client_id")?;
    match form.get("client_secret") {
        Some(secret) => Ok((id.to_owned(), secret.clone())),
        None => {
            let description = "'client_assertion', 'client_secret' or 'request' is required for the \
                               'client_credentials' grant type.";
            Err(error(StatusCode::UNAUTHORIZED, "invalid_client", description, 7_000_216))
        }
    }
}

fn form_decoded(text: &str) -> String {
    url::form_urlencoded::parse(format!("v={text}").as_bytes()).next().map_or_else(String::new, |(_, value)| value.into_owned())
}

fn resource_of_scope(scope: &str) -> Result<&str, Answer> {
    match scope.strip_suffix("/.default") {
        Some(resource) if !resource.contains(char::is_whitespace) => Ok(resource),
        _ => {
            let description = format!(
                "The provided value for scope {scope} is not valid. Client credential flows must have a scope \
                 value with /.default suffixed to the resource identifier (application ID URI)."
            );
            Err(error(StatusCode::BAD_REQUEST, "invalid_scope", &description, 1_002_012))
        }
    }
}

fn check_resource(state: &State, resource: &str) -> Result<(), Answer> {
    if known_resource(resource) {
        return Ok(());
    }
    let description = format!(
        "The resource principal named {resource} was not found in the tenant named {}. This can happen if the \
         application has not been installed by the administrator of the tenant or consented to by any user in the \
         tenant. You might have sent your authentication request to the wrong tenant.",
        state.tenant_id
    );
    Err(error(StatusCode::BAD_REQUEST, "invalid_resource", &description, 500_011))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::entra;
    use crate::entra::claims::testing::tenant;

    const GOOD: &str = "grant_type=client_credentials&client_id=app-id&client_secret=s3cret%2B%2F%3D";

    fn ask(path: &str, body: &str) -> (StatusCode, Value) {
        let mut state = tenant();
        let path = path.replace("{t}", &state.tenant_id);
        let answer = entra::answer(&mut state, &Call::new("POST", &path).with_body(body.to_owned()));
        (answer.status, serde_json::from_slice(&answer.body).unwrap())
    }

    #[test]
    fn a_secret_buys_a_token_at_either_endpoint() {
        let (status, body) = ask("/{t}/oauth2/v2.0/token", &format!("{GOOD}&scope=https://management.azure.com//.default"));
        assert_eq!(status, StatusCode::OK);
        assert_eq!(body["expires_in"], 3599);
        let call = Call::new("GET", "/").with_bearer(body["access_token"].as_str().unwrap());
        assert!(entra::authenticate(&tenant(), &call, &["https://management.azure.com/"]).is_ok());

        let (status, body) = ask("/{t}/oauth2/token", &format!("{GOOD}&resource=https://storage.azure.com/"));
        assert_eq!(status, StatusCode::OK);
        assert_eq!(body["expires_in"], "3599");
        assert_eq!(body["resource"], "https://storage.azure.com/");
    }

    #[test]
    fn a_secret_may_come_in_a_basic_header() {
        let mut state = tenant();
        let header = format!("Basic {}", STANDARD.encode("app-id:s3cret%2B%2F%3D"));
        let call = Call::new("POST", &format!("/{}/oauth2/v2.0/token", state.tenant_id))
            .with_header("authorization", &header)
            .with_body("grant_type=client_credentials&scope=api://portcullis/.default");
        assert_eq!(entra::answer(&mut state, &call).status, StatusCode::OK);
    }

    #[test]
    fn each_refusal_has_entras_error_and_number() {
        let secretless = "grant_type=client_credentials&client_id=app-id&scope=https://management.azure.com/.default";
        let scope = "&scope=https://management.azure.com/.default";
        let table = [
            ("/nobody/oauth2/v2.0/token", format!("{GOOD}{scope}"), 400, "invalid_request", 90_002),
            ("/common/oauth2/v2.0/token", format!("{GOOD}{scope}"), 400, "invalid_request", 50_059),
            ("/{t}/oauth2/v2.0/token", String::new(), 400, "invalid_request", 900_144),
            ("/{t}/oauth2/v2.0/token", "grant_type=password".to_owned(), 400, "unsupported_grant_type", 70_003),
            ("/{t}/oauth2/v2.0/token", secretless.to_owned(), 401, "invalid_client", 7_000_216),
            ("/{t}/oauth2/v2.0/token", format!("{secretless}&client_assertion=x"), 401, "invalid_client", 700_027),
            ("/{t}/oauth2/v2.0/token", format!("{secretless}&client_secret=wrong"), 401, "invalid_client", 7_000_215),
            (
                "/{t}/oauth2/v2.0/token",
                "grant_type=client_credentials&client_id=identity-client&client_secret=".to_owned() + scope,
                401,
                "invalid_client",
                7_000_215,
            ),
            (
                "/{t}/oauth2/v2.0/token",
                "grant_type=client_credentials&client_id=x&client_secret=y".to_owned() + scope,
                400,
                "unauthorized_client",
                700_016,
            ),
            ("/{t}/oauth2/v2.0/token", GOOD.to_owned(), 400, "invalid_request", 900_144),
            ("/{t}/oauth2/v2.0/token", format!("{GOOD}&scope=User.Read"), 400, "invalid_scope", 1_002_012),
            ("/{t}/oauth2/v2.0/token", format!("{GOOD}&scope=https://example.org/.default"), 400, "invalid_resource", 500_011),
            ("/{t}/oauth2/token", format!("{GOOD}&resource=https://example.org"), 400, "invalid_resource", 500_011),
            ("/{t}/oauth2/token", GOOD.to_owned(), 400, "invalid_request", 900_144),
        ];
        for (path, body, status, error, code) in table {
            let (answered, answer) = ask(path, &body);
            assert_eq!(
                (answered.as_u16(), answer["error"].as_str(), answer["error_codes"][0].as_u64()),
                (status, Some(error), Some(code)),
                "{path} {body}"
            );
            let description = answer["error_description"].as_str().unwrap();
            assert!(description.starts_with(&format!("AADSTS{code}: ")), "{description}");
        }
    }

    #[test]
    fn the_token_endpoint_takes_posts_only() {
        let mut state = tenant();
        let call = Call::new("GET", &format!("/{}/oauth2/v2.0/token", state.tenant_id));
        assert_eq!(entra::answer(&mut state, &call).status, StatusCode::METHOD_NOT_ALLOWED);
    }
}
