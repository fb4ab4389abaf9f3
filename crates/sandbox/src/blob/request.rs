//! Who calls the storage account and what the path names.

use chrono::NaiveDate;
use http::StatusCode;

use super::{ACCOUNT, detailed_error, error, invalid_header};
use crate::entra::{self, NotAuthenticated};
use crate::face::{Answer, Call, percent_decoded};
use crate::state::{Caller, State};

const AUDIENCES: &[&str] = &["https://storage.azure.com", "https://portcullisstate.blob.core.windows.net"];
/// The first version that takes Entra's tokens (documentation).
const FIRST_VERSION: Option<NaiveDate> = NaiveDate::from_ymd_opt(2017, 11, 9);
const REFER: &str = "Server failed to authenticate the request. Please refer to the information in the \
                     www-authenticate header.";
const MALFORMED: &str = "Server failed to authenticate the request. Make sure the value of Authorization header \
                         is formed correctly including the signature.";

/// The caller, if the version takes tokens and the token is one for storage.
pub(super) fn authorized(state: &State, call: &Call) -> Result<Caller, Answer> {
    let authorization = call.header("authorization").unwrap_or("");
    let scheme = authorization.split(' ').next().unwrap_or("");
    if call.param("sig").is_some() || scheme.eq_ignore_ascii_case("SharedKey") {
        let message = "Key based authentication is not permitted on this storage account.";
        return Err(error(StatusCode::FORBIDDEN, "KeyBasedAuthenticationNotPermitted", message));
    }
    if !authorization.is_empty() {
        check_version(call)?;
    }
    entra::authenticate(state, call, AUDIENCES).map_err(|why| {
        let (code, detail) = match why {
            NotAuthenticated::Missing => ("NoAuthenticationInformation", None),
            NotAuthenticated::Expired => {
                ("InvalidAuthenticationInfo", Some("Lifetime validation failed. The token is expired.".to_owned()))
            }
            NotAuthenticated::Invalid(why) => ("InvalidAuthenticationInfo", Some(why)),
        };
        let details: Vec<(&str, &str)> = detail.iter().map(|detail| ("AuthenticationErrorDetail", detail.as_str())).collect();
        let challenge = format!(
            "Bearer authorization_uri=https://login.microsoftonline.com/{}/oauth2/authorize \
             resource_id=https://storage.azure.com",
            state.tenant_id
        );
        detailed_error(StatusCode::UNAUTHORIZED, code, REFER, &details).with("WWW-Authenticate", &challenge)
    })
}

/// Without a version the service takes the oldest one, which knows no tokens: that is how it was recorded.
fn check_version(call: &Call) -> Result<(), Answer> {
    let version = match call.header("x-ms-version") {
        None => None,
        Some(text) => {
            let date = NaiveDate::parse_from_str(text, "%Y-%m-%d");
            Some(date.map_err(|_| invalid_header("x-ms-version", text))?)
        }
    };
    if version < FIRST_VERSION {
        let detail = "Authentication scheme Bearer is not supported in this version.";
        let details = [("AuthenticationErrorDetail", detail)];
        return Err(detailed_error(StatusCode::FORBIDDEN, "AuthenticationFailed", MALFORMED, &details));
    }
    Ok(())
}

/// Refuses a caller without this data action.
pub(super) fn may(state: &State, caller: &Caller, action: &str) -> Result<(), Answer> {
    if entra::may_anywhere(state, caller, action) {
        return Ok(());
    }
    let message = "This request is not authorized to perform this operation using this permission.";
    Err(error(StatusCode::FORBIDDEN, "AuthorizationPermissionMismatch", message))
}

/// What a path names.
pub(super) enum Target {
    /// A container.
    Container(String),
    /// A blob of a container.
    Blob(String, String),
}

impl Target {
    /// `/account/container` with `restype=container`, or `/account/container/blob`, where the blob's name is all
    /// the rest, decoded once.
    pub(super) fn of(call: &Call) -> Result<Self, Answer> {
        let mut parts = call.path.trim_start_matches('/').splitn(3, '/');
        let account = percent_decoded(parts.next().unwrap_or(""));
        let container = percent_decoded(parts.next().unwrap_or(""));
        let name = percent_decoded(parts.next().unwrap_or(""));
        if account != ACCOUNT {
            let message = format!("The specified resource does not exist. The sandbox's account is {ACCOUNT}.");
            return Err(error(StatusCode::NOT_FOUND, "ResourceNotFound", &message));
        }
        let is_container = call.param("restype").is_some_and(|kind| kind.eq_ignore_ascii_case("container"));
        match (container.is_empty(), name.is_empty(), is_container) {
            (false, true, true) => Ok(Target::Container(container)),
            (false, false, false) => Ok(Target::Blob(container, name)),
            _ => Err(error(StatusCode::BAD_REQUEST, "InvalidUri", "The requested URI does not represent any resource on the server.")),
        }
    }
}
