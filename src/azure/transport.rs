//! The one HTTP client, behind every pipeline.

use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;

use async_trait::async_trait;
use azure_core::error::ErrorKind;
use azure_core::http::{AsyncRawResponse, HttpClient, Request};
use azure_core::{Error, Result};

use super::channel::MOST_AT_ONCE;

/// Azure's front ends accept in milliseconds; a host that takes longer is down or behind a broken route.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Below the minute or two after which Azure's load balancers cut an idle connection without a word.
const IDLE_TIMEOUT: Duration = Duration::from_secs(45);

/// The HTTP client, made at its first use: reading the machine's certificates takes longer than the rest of the start
/// together, and health needs none of it.
///
/// No proxy of the environment, no redirects: a token goes to the host that the settings name or nowhere. Trust comes
/// from the machine's certificate store, which `SSL_CERT_FILE` replaces (that is how the sandbox's own CA is trusted).
#[derive(Default)]
pub(super) struct SharedClient {
    client: OnceLock<std::result::Result<reqwest::Client, String>>,
}

impl SharedClient {
    #[expect(clippy::disallowed_methods, reason = "the one place where the HTTP client is made")]
    fn client(&self) -> Result<&reqwest::Client> {
        let made = self.client.get_or_init(|| {
            reqwest::Client::builder()
                .no_proxy()
                .redirect(reqwest::redirect::Policy::none())
                .https_only(false)
                .connect_timeout(CONNECT_TIMEOUT)
                .pool_idle_timeout(IDLE_TIMEOUT)
                .pool_max_idle_per_host(MOST_AT_ONCE)
                .tcp_nodelay(true)
                // What comes packed stays so until it is whole.
                .no_gzip()
                // The name of a header that becomes a property of a message is compared with its case: `Diagnostic-Id`.
                .http1_title_case_headers()
                .build()
                .map_err(|error| {
                    format!("no HTTPS client can be made ({error}); is there a certificate store, or does SSL_CERT_FILE name a PEM file?")
                })
        });
        made.as_ref().map_err(|message| Error::with_message(ErrorKind::Connection, message.clone()))
    }
}

impl fmt::Debug for SharedClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedClient")
    }
}

#[async_trait]
impl HttpClient for SharedClient {
    async fn execute_request(&self, request: &Request) -> Result<AsyncRawResponse> {
        self.client()?.execute_request(request).await
    }
}
