//! The HTTP clients of the sandbox, made in this one place: the host's, which speaks to the handler on loopback in
//! the clear, and one for tests and tools that speaks to the faces.

use anyhow::Context as _;
use reqwest::redirect::Policy;

use super::config::HttpMode;

/// How the host speaks to the handler: past every proxy, and handing on what a handler compressed as it is. It
/// follows the handler's redirects, but not when it forwards.
pub fn to_handler(mode: HttpMode) -> anyhow::Result<reqwest::Client> {
    let redirects = match mode {
        HttpMode::Invocation => Policy::limited(50),
        HttpMode::Forwarding | HttpMode::Proxying => Policy::none(),
    };
    builder().no_gzip().redirect(redirects).build().context("making the host's HTTP client")
}

/// A client that trusts the authority of this PEM and no other.
pub fn trusting(authority_pem: &str) -> anyhow::Result<reqwest::Client> {
    let authority = reqwest::Certificate::from_pem(authority_pem.as_bytes()).context("reading the authority")?;
    builder().tls_certs_only([authority]).build().context("making an HTTP client")
}

#[expect(clippy::disallowed_methods, reason = "this is the one place")]
fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder().no_proxy()
}
