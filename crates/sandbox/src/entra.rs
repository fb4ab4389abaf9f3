//! Entra ID: discovery, keys, tokens for applications, and the managed-identity endpoint.

use crate::face::Call;
use crate::state::{Caller, State};

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

/// Who calls, by the bearer token of the call, which must be for one of `audiences`.
pub fn authenticate(_state: &State, _call: &Call, _audiences: &[&str]) -> Result<Caller, NotAuthenticated> {
    todo!()
}

/// An access token for `object_id` with this audience, as the token endpoint would give it.
pub fn mint(_state: &State, _object_id: &str, _audience: &str) -> Option<String> {
    todo!()
}
