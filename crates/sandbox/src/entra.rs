//! Entra ID: discovery, keys, tokens for applications, the managed-identity endpoint, and who may do what.
//!
//! Tokens are real: signed with RS256 by a key of this process, with Entra's claims, and valid by the machine's
//! clock, since the clients that check them know no other.

mod claims;
mod discovery;
mod identity;
mod keys;
mod rights;
mod token;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use chrono::TimeDelta;
use http::{Method, StatusCode};
use jsonwebtoken::{Algorithm, Validation, decode};
use serde::Deserialize;

pub use claims::{API_APP_ID, API_ID_URI, API_SCOPE};
pub use identity::{answer as identity, error as identity_error, identity_header};
pub use rights::{allows, may, may_anywhere};
pub use token::error as oauth_error;

use crate::face::{Answer, Call};
use crate::machine;
use crate::state::{Caller, Principal, State};

/// How long the tokens of the token endpoint live: an hour less a second, as Entra answers most of the time.
const TOKEN_LIFE: TimeDelta = TimeDelta::seconds(3599);
/// Verified tokens that are kept, so that a story of many calls does not check one signature many times.
const KEPT_TOKENS: usize = 1_024;

/// Why a bearer token was not believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotAuthenticated {
    /// There is none.
    Missing,
    /// It is not one of ours, or not valid now, or for somebody else.
    Invalid(String),
    /// It has expired.
    Expired,
}

/// Answers one request to `login.microsoftonline.com`.
pub fn answer(state: &mut State, call: &Call) -> Answer {
    let segments = call.segments();
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    match (&call.method, segments.as_slice()) {
        (&Method::GET, ["common", "discovery", "instance"]) => discovery::instance(call),
        (&Method::GET, [tenant, ".well-known", "openid-configuration"]) => discovery::v1(state, call, tenant),
        (&Method::GET, [tenant, "v2.0", ".well-known", "openid-configuration"]) => discovery::v2(state, call, tenant),
        (&Method::GET, [tenant, "discovery", "keys"] | [tenant, "discovery", "v2.0", "keys"]) => discovery::keys(state, tenant),
        (&Method::POST, [tenant, "oauth2", "token"]) => token::v1(state, call, tenant),
        (&Method::POST, [tenant, "oauth2", "v2.0", "token"]) => token::v2(state, call, tenant),
        (_, [_, "oauth2", .., "token"]) => {
            let description = format!("The endpoint only accepts POST requests. Received a {} request.", call.method);
            oauth_error(StatusCode::METHOD_NOT_ALLOWED, "invalid_request", &description, 900_561)
        }
        _ => Answer::text(StatusCode::NOT_FOUND, "The sandbox's Entra ID has nothing under this path."),
    }
}

/// Who calls, by the bearer token of the call, which must be for one of `audiences` (a slash at the end makes no
/// difference).
pub fn authenticate(state: &State, call: &Call, audiences: &[&str]) -> Result<Caller, NotAuthenticated> {
    let claims = believed(bearer(call)?)?;
    let now = machine::now().timestamp();
    if claims.exp <= now {
        return Err(NotAuthenticated::Expired);
    }
    let refuse = |why: &str| Err(NotAuthenticated::Invalid(why.to_owned()));
    if claims.nbf > now {
        return refuse("The access token is not yet valid.");
    }
    if claims.tid != state.tenant_id || !claims::issuers(&state.tenant_id).contains(&claims.iss) {
        return refuse("The access token is from the wrong issuer; it must be from this tenant.");
    }
    let plain = |audience: &str| audience.trim_end_matches('/').to_ascii_lowercase();
    if !audiences.iter().any(|audience| plain(audience) == plain(&claims.aud)) {
        return refuse("The access token has been obtained for wrong audience or resource.");
    }
    let Some(principal) = principal(state, &claims.oid) else {
        return refuse("The access token is of a principal that the tenant does not have.");
    };
    let (function, invocation) = call.trace.clone().unzip();
    Ok(Caller {
        name: display_name(principal).to_owned(),
        object_id: principal.object_id.clone(),
        app_id: claims.appid.clone().or_else(|| claims.azp.clone()).unwrap_or_default(),
        upn: principal.upn.clone(),
        ip: call.ip.clone(),
        function,
        invocation,
    })
}

/// An access token for `object_id` with this audience, as the token endpoint would give it, or, for a person, as a
/// sign-in would. The audience may be one that no API has. `None` is for a principal that the tenant does not have.
pub fn mint(state: &State, object_id: &str, audience: &str) -> Option<String> {
    mint_aged(state, object_id, audience, TimeDelta::zero())
}

/// The same, issued `age` ago; with two hours it has expired.
pub fn mint_aged(state: &State, object_id: &str, audience: &str, age: TimeDelta) -> Option<String> {
    let principal = principal(state, object_id)?;
    Some(issue(state, principal, audience, age, TOKEN_LIFE))
}

fn issue(state: &State, principal: &Principal, audience: &str, age: TimeDelta, life: TimeDelta) -> String {
    let issued_at = machine::now() - age;
    keys::sign(&claims::of(state, principal, audience, issued_at, life))
}

fn principal<'a>(state: &'a State, object_id: &str) -> Option<&'a Principal> {
    state.principals.iter().find(|principal| principal.object_id.eq_ignore_ascii_case(object_id))
}

fn display_name(principal: &Principal) -> &str {
    [&principal.name, &principal.upn, &principal.app_id].into_iter().find(|name| !name.is_empty()).unwrap_or(&principal.object_id)
}

fn bearer(call: &Call) -> Result<&str, NotAuthenticated> {
    let authorization = call.header("authorization").ok_or(NotAuthenticated::Missing)?;
    match authorization.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(token.trim()),
        _ => Err(NotAuthenticated::Invalid("The Authorization header is no bearer token.".to_owned())),
    }
}

/// The claims that are looked at.
#[derive(Debug, Deserialize)]
struct Claims {
    aud: String,
    iss: String,
    tid: String,
    oid: String,
    exp: i64,
    nbf: i64,
    appid: Option<String>,
    azp: Option<String>,
}

/// The claims of a token whose signature is ours. Its times and its audience are not looked at yet.
fn believed(token: &str) -> Result<Arc<Claims>, NotAuthenticated> {
    static KEPT: OnceLock<Mutex<HashMap<String, Arc<Claims>>>> = OnceLock::new();
    let kept = KEPT.get_or_init(Mutex::default);
    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(claims) = kept.get(token) {
        return Ok(Arc::clone(claims));
    }
    let mut validation = Validation::new(Algorithm::RS256);
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    let claims = decode::<Claims>(token, keys::public(), &validation)
        .map_err(|error| NotAuthenticated::Invalid(format!("The access token is invalid: {error}.")))?;
    let claims = Arc::new(claims.claims);
    if kept.len() >= KEPT_TOKENS {
        kept.clear();
    }
    kept.insert(token.to_owned(), Arc::clone(&claims));
    Ok(claims)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entra::claims::testing::tenant;

    const ARM: &[&str] = &["https://management.azure.com", "https://management.core.windows.net/"];

    fn called_with(token: &str) -> Call {
        Call::new("GET", "/subscriptions").with_bearer(token)
    }

    #[test]
    fn a_minted_token_names_its_principal_and_the_invocation() {
        let state = tenant();
        let token = mint(&state, "oid-app", "https://management.azure.com/").unwrap();
        let mut call = called_with(&token);
        call.trace = Some(("approval".to_owned(), "i-1".to_owned()));
        let caller = authenticate(&state, &call, ARM).unwrap();
        assert_eq!(caller.name, "Client");
        assert_eq!(caller.object_id, "oid-app");
        assert_eq!(caller.app_id, "app-id");
        assert_eq!(caller.function.as_deref(), Some("approval"));
        assert_eq!(caller.invocation.as_deref(), Some("i-1"));
        // The second time it comes from those that are kept.
        assert_eq!(authenticate(&state, &call, ARM).unwrap(), caller);
    }

    #[test]
    fn what_is_no_valid_token_is_refused() {
        let state = tenant();
        let good = mint(&state, "oid-app", ARM[0]).unwrap();
        let refused = |token: &str| match authenticate(&state, &called_with(token), ARM) {
            Err(NotAuthenticated::Invalid(why)) => why,
            other => panic!("{other:?}"),
        };
        assert_eq!(authenticate(&state, &Call::new("GET", "/"), ARM), Err(NotAuthenticated::Missing));
        assert!(refused("nonsense").contains("invalid"));
        assert!(refused(&mint(&state, "oid-app", "https://vault.azure.net").unwrap()).contains("audience"));
        let old = mint_aged(&state, "oid-app", ARM[0], TimeDelta::hours(2)).unwrap();
        assert_eq!(authenticate(&state, &called_with(&old), ARM), Err(NotAuthenticated::Expired));
        let early = mint_aged(&state, "oid-app", ARM[0], TimeDelta::hours(-2)).unwrap();
        assert!(refused(&early).contains("not yet valid"));

        let mut parts: Vec<&str> = good.split('.').collect();
        let other = mint(&state, "oid-person", ARM[0]).unwrap();
        parts[1] = other.split('.').nth(1).unwrap();
        assert!(refused(&parts.join(".")).contains("invalid"));

        let mut elsewhere = state.clone();
        elsewhere.tenant_id = "another".to_owned();
        let foreign = mint(&elsewhere, "oid-app", ARM[0]).unwrap();
        assert!(refused(&foreign).contains("issuer"));
        let mut gone = state.clone();
        gone.principals.clear();
        let left = authenticate(&gone, &called_with(&good), ARM);
        assert!(matches!(left, Err(NotAuthenticated::Invalid(why)) if why.contains("tenant does not have")));
        let basic = Call::new("GET", "/").with_header("authorization", "Basic YTpi");
        assert!(matches!(authenticate(&state, &basic, ARM), Err(NotAuthenticated::Invalid(_))));
    }

    #[test]
    fn nothing_is_minted_for_nobody() {
        assert_eq!(mint(&tenant(), "nobody", ARM[0]), None);
    }
}
