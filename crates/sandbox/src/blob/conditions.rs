//! The conditions of a request: `If-Match`, `If-None-Match`, `If-Modified-Since`, `If-Unmodified-Since`.

use chrono::SubsecRound;

use crate::face::{Call, parse_http_date};
use crate::state::Blob;

/// What a request wants of a blob; a failed condition is answered differently for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

/// Which answer a request whose condition fails gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// 409: it must not exist and does.
    AlreadyExists,
    /// 412.
    NotMet,
    /// 304: a read of what the caller has already.
    NotModified,
    /// 400: this header has a value that is none.
    Malformed(&'static str, String),
}

/// Whether the request's conditions hold for the blob that is there, or is not.
pub(super) fn check(call: &Call, blob: Option<&Blob>, access: Access) -> Result<(), Refusal> {
    let matches = |etags: &str| blob.is_some_and(|blob| lists(etags, &blob.etag));
    if call.header("if-match").is_some_and(|wanted| !matches(wanted)) {
        return Err(Refusal::NotMet);
    }
    match (call.header("if-none-match").filter(|unwanted| matches(unwanted)), access) {
        (None, _) => {}
        (Some(_), Access::Read) => return Err(Refusal::NotModified),
        (Some("*"), Access::Write) => return Err(Refusal::AlreadyExists),
        (Some(_), Access::Write) => return Err(Refusal::NotMet),
    }
    check_dates(call, blob, access)
}

fn check_dates(call: &Call, blob: Option<&Blob>, access: Access) -> Result<(), Refusal> {
    let date = |name: &'static str| match call.header(name) {
        None => Ok(None),
        Some(text) => match parse_http_date(text) {
            Some(date) => Ok(Some(date)),
            None => Err(Refusal::Malformed(name, text.to_owned())),
        },
    };
    let (modified_since, unmodified_since) = (date("if-modified-since")?, date("if-unmodified-since")?);
    // HTTP dates have whole seconds, so what is compared must too.
    let modified = blob.map(|blob| blob.last_modified.trunc_subsecs(0));
    let Some(modified) = modified else {
        return Ok(());
    };
    if unmodified_since.is_some_and(|since| modified > since) {
        return Err(Refusal::NotMet);
    }
    if modified_since.is_some_and(|since| modified <= since) {
        return Err(match access {
            Access::Read => Refusal::NotModified,
            Access::Write => Refusal::NotMet,
        });
    }
    Ok(())
}

/// Whether a list of ETags, or `*`, holds this one; its quotation marks are optional.
fn lists(wanted: &str, etag: &str) -> bool {
    let bare = |etag: &str| etag.trim().trim_matches('"').to_owned();
    wanted.trim() == "*" || wanted.split(',').any(|one| bare(one) == bare(etag))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::beginning;

    fn blob() -> Blob {
        Blob {
            content: String::new(),
            content_type: String::new(),
            headers: Default::default(),
            metadata: Default::default(),
            etag: "\"0x1\"".to_owned(),
            last_modified: beginning(),
        }
    }

    #[test]
    fn every_condition_holds_or_fails_as_documented() {
        let (blob, none) = (blob(), None::<&Blob>);
        let some = Some(&blob);
        let at = "Thu, 15 Jan 2026 09:00:00 GMT";
        let before = "Thu, 15 Jan 2026 08:59:59 GMT";
        let table = [
            ("if-match", "\"0x1\"", some, Access::Write, Ok(())),
            ("if-match", "0x1", some, Access::Write, Ok(())),
            ("if-match", "\"0x2\", \"0x1\"", some, Access::Read, Ok(())),
            ("if-match", "*", some, Access::Write, Ok(())),
            ("if-match", "*", none, Access::Write, Err(Refusal::NotMet)),
            ("if-match", "\"0x2\"", some, Access::Read, Err(Refusal::NotMet)),
            ("if-none-match", "*", none, Access::Write, Ok(())),
            ("if-none-match", "*", some, Access::Write, Err(Refusal::AlreadyExists)),
            ("if-none-match", "\"0x1\"", some, Access::Write, Err(Refusal::NotMet)),
            ("if-none-match", "\"0x1\"", some, Access::Read, Err(Refusal::NotModified)),
            ("if-none-match", "\"0x2\"", some, Access::Read, Ok(())),
            ("if-unmodified-since", at, some, Access::Write, Ok(())),
            ("if-unmodified-since", before, some, Access::Write, Err(Refusal::NotMet)),
            ("if-modified-since", at, some, Access::Read, Err(Refusal::NotModified)),
            ("if-modified-since", at, some, Access::Write, Err(Refusal::NotMet)),
            ("if-modified-since", before, some, Access::Read, Ok(())),
        ];
        for (name, value, blob, access, expected) in table {
            let call = Call::new("GET", "/").with_header(name, value);
            assert_eq!(check(&call, blob, access), expected, "{name}: {value} {access:?}");
        }
    }
}
