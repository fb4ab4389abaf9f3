//! How the app signs in: chosen by the environment, made when the first token is needed.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
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
}

impl Identity {
    /// The identity with this client id; the system-assigned one without.
    pub(super) fn new(settings: &Settings, client_id: Option<Uuid>, transport: Transport) -> Self {
        Identity {
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
