//! The access token, and who it says is asking.

use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use portcullis_rules::plain::plain;
use serde_json::Value;

/// Where access tokens come from.
#[derive(Debug)]
pub enum Token {
    /// One that was given, which cannot be renewed.
    Given(String),
    /// The Azure CLI, asked again when the last one is refused.
    AzureCli(Mutex<Option<String>>, &'static str),
}

/// Who asks, as a token says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// A person, who has a name to sign in with.
    Person,
    /// An application.
    Application,
    /// The token does not say.
    Unknown,
}

impl Token {
    /// The given one, or else the Azure CLI's; one can be given in this environment variable.
    pub fn of(given: Option<String>, variable: &'static str) -> Self {
        match given.filter(|token| !token.trim().is_empty()) {
            Some(token) => Token::Given(token.trim().to_owned()),
            None => Token::AzureCli(Mutex::default(), variable),
        }
    }

    /// A token for this audience; the error says what to do.
    pub async fn get(&self, audience: &str) -> Result<String, String> {
        match self {
            Token::Given(token) => Ok(token.clone()),
            Token::AzureCli(last, variable) => {
                if let Some(token) = held(last).clone() {
                    return Ok(token);
                }
                let token = from_azure_cli(audience, variable).await?;
                *held(last) = Some(token.clone());
                Ok(token)
            }
        }
    }

    /// Forgets a token that was refused; whether there may be another.
    pub fn forget(&self, refused: &str) -> bool {
        match self {
            Token::Given(_) => false,
            Token::AzureCli(last, _) => {
                let mut last = held(last);
                if last.as_deref() == Some(refused) {
                    *last = None;
                }
                true
            }
        }
    }

    /// How long it lives on, where it cannot be renewed and says so.
    pub fn life(&self, now: DateTime<Utc>) -> Option<TimeDelta> {
        match self {
            Token::Given(token) => Some(DateTime::from_timestamp(claims(token)["exp"].as_i64()?, 0)? - now),
            Token::AzureCli(..) => None,
        }
    }

    /// Who asks.
    pub fn asker(&self) -> Asker {
        match self {
            Token::Given(token) => asker(token),
            Token::AzureCli(last, _) => held(last).as_deref().map_or(Asker::Unknown, asker),
        }
    }
}

fn held(last: &Mutex<Option<String>>) -> MutexGuard<'_, Option<String>> {
    last.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn from_azure_cli(audience: &str, variable: &str) -> Result<String, String> {
    let arguments = ["account", "get-access-token", "--resource", audience, "--query", "accessToken", "--output", "tsv"];
    let cure = format!("sign in with `az login`, or put an access token into {variable}");
    let output = tokio::process::Command::new("az").args(arguments).output().await;
    let output = output.map_err(|why| format!("the Azure CLI cannot be asked for a token ({why}): {cure}"))?;
    let token = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() && !token.is_empty() {
        return Ok(token);
    }
    Err(format!("the Azure CLI gives no token: {cure}. It says: {}", plain(String::from_utf8_lossy(&output.stderr).trim())))
}

fn claims(token: &str) -> Value {
    let claims = token.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part.trim_end_matches('=')).ok());
    claims.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or(Value::Null)
}

fn asker(token: &str) -> Asker {
    let claims = claims(token);
    let has = |claim: &str| claims[claim].as_str().is_some_and(|text| !text.is_empty());
    match claims["idtyp"].as_str() {
        Some("app") => Asker::Application,
        _ if has("upn") || has("unique_name") => Asker::Person,
        _ => Asker::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_says_whether_a_person_asks() {
        let of = |claims: &str| asker(&format!("h.{}.s", URL_SAFE_NO_PAD.encode(claims)));
        assert_eq!(of(r#"{"idtyp": "user", "upn": "ada@contoso.com"}"#), Asker::Person);
        assert_eq!(of(r#"{"unique_name": "ada@contoso.com"}"#), Asker::Person);
        assert_eq!(of(r#"{"idtyp": "app"}"#), Asker::Application);
        assert_eq!(of("{}"), Asker::Unknown);
        assert_eq!(asker("nonsense"), Asker::Unknown);
    }

    #[test]
    fn a_token_that_cannot_be_renewed_says_how_long_it_lives() {
        let token = format!("h.{}.s", URL_SAFE_NO_PAD.encode(r#"{"exp": 3600}"#));
        assert_eq!(Token::of(Some(token), "X").life(DateTime::UNIX_EPOCH), Some(TimeDelta::hours(1)));
        assert_eq!(Token::of(Some("nonsense".to_owned()), "X").life(DateTime::UNIX_EPOCH), None);
    }

    #[tokio::test]
    async fn a_token_that_was_given_is_the_only_one() {
        let token = Token::of(Some(" a ".to_owned()), "X");
        assert_eq!(token.get("https://x").await.unwrap(), "a");
        assert!(!token.forget("a"));
        assert!(matches!(Token::of(Some("  ".to_owned()), "X"), Token::AzureCli(..)));
    }
}
