//! How the app signs in: chosen by the environment, made when the first token is needed.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use azure_core::error::ErrorKind;
use azure_core::http::{ClientOptions, ExponentialRetryOptions, RetryOptions, Transport};
use azure_core::{Error, Result};
use azure_identity::{
    ClientAssertionCredentialOptions, DeveloperToolsCredential, ManagedIdentityCredential, ManagedIdentityCredentialOptions,
    UserAssignedId, WorkloadIdentityCredential, WorkloadIdentityCredentialOptions,
};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::Value;
use tokio::sync::OnceCell;
use tokio::time::Instant;
use uuid::Uuid;

use super::channel::error_text;
use crate::settings::{Settings, SignIn};

/// The app's credential. Tokens are kept by the bearer policy of each [`super::channel::Channel`], never here: that
/// one goes on with its token while a refresh fails.
pub(super) struct Identity {
    sign_in: SignIn,
    tenant_id: String,
    client_id: Option<String>,
    transport: Transport,
    made: OnceCell<Arc<dyn TokenCredential>>,
    failed: Mutex<Option<(Instant, String)>>,
    object_id: OwnObjectId,
}

/// The object id that the app's own tokens name, once there was one. It is for telling the app's own doing from that of others,
/// and nothing is permitted by it.
#[derive(Clone, Debug, Default)]
pub struct OwnObjectId(Arc<OnceLock<String>>);

impl OwnObjectId {
    /// Whether this object id is the app's own, as far as is known.
    pub fn is(&self, object_id: &str) -> bool {
        self.0.get().is_some_and(|own| own.eq_ignore_ascii_case(object_id))
    }

    /// The id, once there was a token that names it.
    pub fn get(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }

    fn learn(&self, token: &str) {
        if self.0.get().is_none()
            && let Some(own) = object_id_of(token)
        {
            // Whoever was faster learnt the same.
            let _ = self.0.set(own);
        }
    }
}

/// The claim `oid` of a token. A token that is none of Entra's has none.
pub fn object_id_of(token: &str) -> Option<String> {
    let claims = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    claims["oid"].as_str().filter(|id| !id.is_empty()).map(str::to_owned)
}

impl Identity {
    /// The identity with this client id; the system-assigned one without. Its tokens tell whose they are to `object_id`.
    pub(super) fn new(settings: &Settings, client_id: Option<Uuid>, transport: Transport, object_id: OwnObjectId) -> Self {
        Identity {
            object_id,
            sign_in: settings.sign_in,
            tenant_id: settings.tenant_id.to_string(),
            client_id: client_id.map(|id| id.to_string()),
            transport,
            made: OnceCell::new(),
            failed: Mutex::new(None),
        }
    }

    fn make(&self) -> Result<Arc<dyn TokenCredential>> {
        Ok(match self.sign_in {
            SignIn::ManagedIdentity => ManagedIdentityCredential::new(Some(ManagedIdentityCredentialOptions {
                user_assigned_id: self.client_id.clone().map(UserAssignedId::ClientId),
                client_options: self.options(),
            }))?,
            SignIn::WorkloadIdentity => WorkloadIdentityCredential::new(Some(WorkloadIdentityCredentialOptions {
                credential_options: ClientAssertionCredentialOptions { client_options: self.options() },
                client_id: self.client_id.clone(),
                tenant_id: Some(self.tenant_id.clone()),
                token_file_path: None,
            }))?,
            SignIn::DeveloperTools => DeveloperToolsCredential::new(None)?,
        })
    }

    /// The token endpoint is asked at most three times within a call's own deadline.
    fn options(&self) -> ClientOptions {
        ClientOptions {
            transport: Some(self.transport.clone()),
            retry: RetryOptions::exponential(ExponentialRetryOptions {
                initial_delay: azure_core::time::Duration::milliseconds(200),
                max_retries: 2,
                max_total_elapsed: azure_core::time::Duration::seconds(TOKEN_PATIENCE.as_secs().cast_signed()),
                max_delay: azure_core::time::Duration::seconds(1),
            }),
            ..ClientOptions::default()
        }
    }
}

/// Less than a call's deadline, so that a failing sign-in is told as one.
const TOKEN_PATIENCE: Duration = Duration::from_secs(4);

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({:?})", self.sign_in)
    }
}

#[async_trait]
impl TokenCredential for Identity {
    async fn get_token(&self, scopes: &[&str], options: Option<TokenRequestOptions<'_>>) -> Result<AccessToken> {
        if let Some(said) = self.just_failed() {
            return Err(Error::with_message(ErrorKind::Credential, said));
        }
        let credential = self.made.get_or_try_init(|| async { self.make() }).await?;
        let token = credential.get_token(scopes, options).await;
        let failed = token.as_ref().err().map(|error| (Instant::now(), error_text(error)));
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = failed;
        if let Ok(token) = &token {
            self.object_id.learn(token.token.secret());
        }
        token
    }
}

impl Identity {
    /// What a sign-in failed with a moment ago. The bearer policy lets callers in one by one, so without this each of
    /// many would wait for all the failures before its own.
    fn just_failed(&self) -> Option<String> {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.as_ref().filter(|(at, _)| at.elapsed() < FAILURE_COUNTS).map(|(_, said)| said.clone())
    }
}

/// Shorter than any pause after which somebody tries again.
const FAILURE_COUNTS: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_tells_whose_it_is_and_one_that_is_none_tells_nothing() {
        let own = OwnObjectId::default();
        assert!(!own.is(""));
        let token = |claims: &str| format!("e30.{}.c2ln", BASE64_URL_SAFE_NO_PAD.encode(claims));
        for none in ["", "opaque", "a.b.c", "e30.!.c", &token("[]"), &token(r#"{"oid":""}"#), &token(r#"{"oid":7}"#)] {
            own.learn(none);
            assert!(own.0.get().is_none(), "{none}");
        }
        own.learn(&token(r#"{"oid":"5A4D","aud":"a"}"#));
        own.learn(&token(r#"{"oid":"other"}"#));
        assert!(own.is("5a4d") && !own.is("other") && !own.is(""));
    }
}
