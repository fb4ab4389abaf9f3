//! What a write says of a blob besides its content: kept and given back, or refused, never dropped.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use md5::{Digest as _, Md5};

use super::{detailed_error, error, invalid_header};
use crate::face::{Answer, Call};
use crate::state::Blob;

const METADATA: &str = "x-ms-meta-";
/// The most that names and values of metadata come to (documentation: 8 KB).
const LARGEST_METADATA: usize = 8 * 1024;
/// Headers of a write and those that give them back.
const KEPT: [(&str, &str); 4] = [
    ("x-ms-blob-cache-control", "Cache-Control"),
    ("x-ms-blob-content-disposition", "Content-Disposition"),
    ("x-ms-blob-content-encoding", "Content-Encoding"),
    ("x-ms-blob-content-language", "Content-Language"),
];
/// How the headers begin that ask for something which this store does not do.
const NOT_DONE: [&str; 14] = [
    "x-ms-blob-public-access",
    "x-ms-content-crc64",
    "x-ms-copy-",
    "x-ms-default-encryption-scope",
    "x-ms-deny-encryption-scope-override",
    "x-ms-encryption-",
    "x-ms-expiry-",
    "x-ms-if-tags",
    "x-ms-immutability-policy-",
    "x-ms-legal-hold",
    "x-ms-lease-",
    "x-ms-source-",
    "x-ms-structured-",
    "x-ms-tags",
];

/// What a write says of a blob.
pub(super) struct Said {
    headers: BTreeMap<String, String>,
    metadata: BTreeMap<String, String>,
    /// The digest of the content, as it is written in headers.
    pub content_md5: String,
}

impl Said {
    /// Reads the headers of Put Blob; whatever is not kept is refused.
    pub(super) fn of(call: &Call) -> Result<Said, Answer> {
        refuse_undone(call)?;
        // Only the tier that the account has by itself.
        if let Some(tier) = call.header("x-ms-access-tier").filter(|tier| !tier.eq_ignore_ascii_case("Hot")) {
            return Err(invalid_header("x-ms-access-tier", tier));
        }
        let content_md5 = content_md5(&call.body);
        for name in ["content-md5", "x-ms-blob-content-md5"] {
            if let Some(given) = call.header(name) {
                check_md5(name, given, &content_md5)?;
            }
        }
        let kept = KEPT.iter().filter_map(|(name, back)| Some(((*back).to_owned(), call.header(name)?.to_owned())));
        Ok(Said { headers: kept.collect(), metadata: metadata(call)?, content_md5 })
    }

    /// Gives it to the blob.
    pub(super) fn give_to(self, blob: &mut Blob) {
        blob.headers = self.headers;
        blob.metadata = self.metadata;
    }
}

/// Refuses a request that asks for something which this store does not do.
pub(super) fn refuse_undone(call: &Call) -> Result<(), Answer> {
    let undone = call.headers.keys().find(|name| NOT_DONE.iter().any(|start| name.as_str().starts_with(start)));
    let Some(name) = undone else { return Ok(()) };
    let message = "One of the HTTP headers specified in the request is not supported by the sandbox.";
    let details = [("HeaderName", name.as_str()), ("HeaderValue", call.header(name.as_str()).unwrap_or_default())];
    Err(detailed_error(StatusCode::BAD_REQUEST, "UnsupportedHeader", message, &details))
}

/// Refuses metadata where there is nowhere to keep it.
pub(super) fn refuse_metadata(call: &Call) -> Result<(), Answer> {
    match call.headers.keys().find(|name| name.as_str().starts_with(METADATA)) {
        None => Ok(()),
        Some(name) => Err(invalid_header(name.as_str(), call.header(name.as_str()).unwrap_or_default())),
    }
}

/// The answer to a read with all that was said of the blob.
pub(super) fn given_back(blob: &Blob, content: &[u8], mut answer: Answer) -> Answer {
    // The digest is the whole blob's: under the usual name a part would seem damaged.
    let name = if answer.status == StatusCode::OK { "Content-MD5" } else { "x-ms-blob-content-md5" };
    answer = answer.with(name, &content_md5(content));
    for (name, value) in &blob.headers {
        answer = answer.with(name, value);
    }
    for (name, value) in &blob.metadata {
        answer = answer.with(&format!("{METADATA}{name}"), value);
    }
    answer
}

/// A digest as it is written in headers and listings.
pub(super) fn content_md5(content: &[u8]) -> String {
    STANDARD.encode(Md5::digest(content))
}

fn check_md5(name: &str, given: &str, calculated: &str) -> Result<(), Answer> {
    if given == calculated {
        return Ok(());
    }
    if STANDARD.decode(given).ok().is_none_or(|digest| digest.len() != 16) {
        let message = "The MD5 value specified in the request is invalid. MD5 value must be 128 bits and base64-encoded.";
        return Err(detailed_error(StatusCode::BAD_REQUEST, "InvalidMd5", message, &[("HeaderName", name), ("HeaderValue", given)]));
    }
    let message = "The MD5 value specified in the request did not match with the MD5 value calculated by the server.";
    let details = [("UserSpecifiedMd5", given), ("ServerCalculatedMd5", calculated)];
    Err(detailed_error(StatusCode::BAD_REQUEST, "Md5Mismatch", message, &details))
}

fn metadata(call: &Call) -> Result<BTreeMap<String, String>, Answer> {
    let mut metadata: BTreeMap<String, String> = BTreeMap::new();
    let invalid = |message: &str| error(StatusCode::BAD_REQUEST, "InvalidMetadata", message);
    for (header, value) in &call.headers {
        let Some(name) = header.as_str().strip_prefix(METADATA) else { continue };
        // Names are C# identifiers (documentation).
        let fits = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && name.starts_with(|c: char| !c.is_ascii_digit());
        let value = std::str::from_utf8(value.as_bytes()).ok().filter(|_| fits && !name.is_empty());
        let value = value.ok_or_else(|| invalid("The specified metadata is invalid. It has characters that are not permitted."))?;
        if metadata.insert(name.to_owned(), value.to_owned()).is_some() {
            return Err(invalid("The specified metadata is invalid. It has a name twice."));
        }
    }
    let size: usize = metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
    if size > LARGEST_METADATA {
        let message = "The size of the specified metadata exceeds the limits.";
        return Err(error(StatusCode::BAD_REQUEST, "MetadataTooLarge", message));
    }
    Ok(metadata)
}

#[cfg(test)]
mod tests {
    use crate::blob::answer;
    use crate::blob::tests::{account, asked, call};
    use crate::face::Call;
    use crate::state::State;

    const TARGET: &str = "/portcullisstate/state/x";
    /// That of the content `content`.
    const MD5: &str = "mgNkuembtIDdJeHwKEyFVQ==";
    const OTHER_MD5: &str = "1B2M2Y8AsgTpgAmY7PhCfg==";

    fn put(state: &State, headers: &[(&str, &str)]) -> Call {
        let call = call(state, "PUT", TARGET).with_header("x-ms-blob-type", "BlockBlob").with_body("content");
        headers.iter().fold(call, |call, (name, value)| call.with_header(name, value))
    }

    #[test]
    fn what_a_write_says_of_a_blob_comes_back_with_it() {
        let mut state = account(&["*"]);
        let said = [
            ("x-ms-meta-Owner", "ada"),
            ("x-ms-meta-empty", ""),
            ("x-ms-blob-content-type", "text/csv"),
            ("x-ms-blob-cache-control", "no-store"),
            ("x-ms-blob-content-encoding", "identity"),
            ("x-ms-blob-content-language", "de"),
            ("x-ms-blob-content-disposition", "attachment"),
            ("x-ms-access-tier", "Hot"),
            ("content-md5", MD5),
        ];
        let create = put(&state, &said);
        let created = answer(&mut state, &create);
        assert_eq!((created.status.as_u16(), created.header("content-md5")), (201, Some(MD5)));
        for method in ["GET", "HEAD"] {
            let read = asked(&mut state, method, TARGET);
            for (name, value) in [
                ("x-ms-meta-owner", "ada"),
                ("x-ms-meta-empty", ""),
                ("content-type", "text/csv"),
                ("cache-control", "no-store"),
                ("content-encoding", "identity"),
                ("content-language", "de"),
                ("content-disposition", "attachment"),
                ("content-md5", MD5),
            ] {
                assert_eq!(read.header(name), Some(value), "{method} {name}");
            }
        }
        let part = call(&state, "GET", TARGET).with_header("range", "bytes=0-1");
        let part = answer(&mut state, &part);
        assert_eq!((part.status.as_u16(), part.header("content-md5"), part.header("x-ms-meta-owner")), (206, None, Some("ada")));
        assert_eq!(part.header("x-ms-blob-content-md5"), Some(MD5));
        let list = |state: &mut State, include: &str| {
            let target = format!("/portcullisstate/state?restype=container&comp=list{include}");
            String::from_utf8_lossy(&asked(state, "GET", &target).body).into_owned()
        };
        let listed = list(&mut state, "&include=copy,metadata");
        assert!(listed.contains("<Metadata><empty></empty><owner>ada</owner></Metadata>"), "{listed}");
        assert!(listed.contains("<Cache-Control>no-store</Cache-Control>"), "{listed}");
        assert!(!list(&mut state, "").contains("<Metadata>"));
        // A write says all of a blob: what it leaves out is gone.
        let bare = put(&state, &[]);
        answer(&mut state, &bare);
        let read = asked(&mut state, "GET", TARGET);
        assert_eq!((read.header("x-ms-meta-owner"), read.header("cache-control")), (None, None));
    }

    #[test]
    fn what_is_not_kept_is_refused() {
        let mut state = account(&["*"]);
        let large = "v".repeat(super::LARGEST_METADATA);
        for (name, value, code) in [
            ("x-ms-access-tier", "Cool", "InvalidHeaderValue"),
            ("content-md5", OTHER_MD5, "Md5Mismatch"),
            ("x-ms-blob-content-md5", OTHER_MD5, "Md5Mismatch"),
            ("content-md5", "short", "InvalidMd5"),
            ("x-ms-meta-1st", "v", "InvalidMetadata"),
            ("x-ms-meta-a-b", "v", "InvalidMetadata"),
            ("x-ms-meta-large", large.as_str(), "MetadataTooLarge"),
            ("x-ms-tags", "a=b", "UnsupportedHeader"),
            ("x-ms-lease-id", "5a4db0c5-0001-4000-8000-000000000001", "UnsupportedHeader"),
            ("x-ms-encryption-scope", "s", "UnsupportedHeader"),
        ] {
            let refused = put(&state, &[(name, value)]);
            let refused = answer(&mut state, &refused);
            assert_eq!((refused.status.as_u16(), refused.header("x-ms-error-code")), (400, Some(code)), "{name}");
        }
        assert!(state.containers["state"].blobs.is_empty());
        let make = |header: &str| call(&account(&["*"]), "PUT", "/portcullisstate/new?restype=container").with_header(header, "blob");
        for header in ["x-ms-meta-a", "x-ms-blob-public-access"] {
            assert_eq!(answer(&mut state, &make(header)).status, 400, "{header}");
        }
        assert!(!state.containers.contains_key("new"));
    }
}
