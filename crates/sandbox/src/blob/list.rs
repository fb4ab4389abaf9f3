//! List Blobs: in the order of names, by prefix, in pages, with or without a delimiter.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;

use super::properties::content_md5;
use super::{ACCOUNT, content_bytes, detailed_error, error};
use crate::face::{Answer, Call, http_date, xml_escaped};
use crate::state::{Blob, Container};

/// The most that one page holds (documentation).
const LARGEST_PAGE: usize = 5_000;

/// One line of a listing.
enum Item<'a> {
    Blob(&'a str, &'a Blob),
    /// All names that begin so, as the delimiter groups them.
    Prefix(String),
}

/// A page of the container's blobs. `page_size` is the world's own limit, 0 for none.
pub(super) fn answer(container: &Container, call: &Call, name: &str, page_size: usize) -> Result<Answer, Answer> {
    let size = page(call, page_size)?;
    let from = match call.param("marker").filter(|marker| !marker.is_empty()) {
        Some(marker) => next_name(marker)?,
        None => call.param("startFrom").unwrap_or("").to_owned(),
    };
    let (items, next) = items(container, call, &from, size);
    let mut body = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults ServiceEndpoint=\"{}/{ACCOUNT}/\" \
         ContainerName=\"{}\">",
        xml_escaped(&call.base),
        xml_escaped(name)
    );
    for (element, parameter) in [("Prefix", "prefix"), ("Marker", "marker"), ("MaxResults", "maxresults"), ("Delimiter", "delimiter")] {
        if let Some(value) = call.param(parameter).filter(|value| !value.is_empty()) {
            body.push_str(&format!("<{element}>{}</{element}>", xml_escaped(value)));
        }
    }
    body.push_str("<Blobs>");
    let include = call.param("include").unwrap_or("");
    let with_metadata = include.split(',').any(|wanted| wanted.trim().eq_ignore_ascii_case("metadata"));
    for item in &items {
        match item {
            Item::Blob(name, blob) => body.push_str(&blob_element(name, blob, with_metadata)),
            Item::Prefix(prefix) => {
                body.push_str(&format!("<BlobPrefix><Name>{}</Name></BlobPrefix>", xml_escaped(prefix)));
            }
        }
    }
    body.push_str("</Blobs>");
    match next {
        Some(next) => body.push_str(&format!("<NextMarker>{}</NextMarker>", URL_SAFE_NO_PAD.encode(next))),
        None => body.push_str("<NextMarker />"),
    }
    body.push_str("</EnumerationResults>");
    Ok(Answer::xml(StatusCode::OK, body))
}

fn page(call: &Call, page_size: usize) -> Result<usize, Answer> {
    let invalid = |code, message, value: &str| {
        let details = [("QueryParameterName", "maxresults"), ("QueryParameterValue", value)];
        detailed_error(StatusCode::BAD_REQUEST, code, message, &details)
    };
    let asked = match call.param("maxresults") {
        None => LARGEST_PAGE,
        Some(text) => {
            let number: i64 = text.parse().map_err(|_| {
                let message = "Value for one of the query parameters specified in the request URI is invalid.";
                invalid("InvalidQueryParameterValue", message, text)
            })?;
            let positive = usize::try_from(number).ok().filter(|number| *number > 0);
            positive.ok_or_else(|| {
                let message = "One of the query parameters specified in the request URI is outside the \
                               permissible range.";
                invalid("OutOfRangeQueryParameterValue", message, text)
            })?
        }
    };
    let most = if page_size == 0 { LARGEST_PAGE } else { page_size.min(LARGEST_PAGE) };
    Ok(asked.min(most))
}

fn next_name(marker: &str) -> Result<String, Answer> {
    URL_SAFE_NO_PAD
        .decode(marker)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| error(StatusCode::BAD_REQUEST, "InvalidInput", "One of the request inputs is not valid."))
}

/// A page from the name `from` on, and the name at which the next page begins.
fn items<'a>(container: &'a Container, call: &Call, from: &str, size: usize) -> (Vec<Item<'a>>, Option<&'a str>) {
    let prefix = call.param("prefix").unwrap_or("");
    let delimiter = call.param("delimiter").filter(|delimiter| !delimiter.is_empty());
    let from = from.max(prefix);
    let mut items: Vec<Item<'a>> = Vec::new();
    let named = container
        .blobs
        .range::<str, _>((std::ops::Bound::Included(from), std::ops::Bound::Unbounded))
        .take_while(|(name, _)| name.starts_with(prefix));
    for (name, blob) in named {
        let rest = name.strip_prefix(prefix).unwrap_or(name);
        let group = delimiter.and_then(|delimiter| {
            let place = rest.find(delimiter)?;
            Some(format!("{prefix}{}", &rest[..place + delimiter.len()]))
        });
        if matches!((&group, items.last()), (Some(group), Some(Item::Prefix(last))) if group == last) {
            continue;
        }
        if items.len() == size {
            return (items, Some(name));
        }
        items.push(match group {
            Some(group) => Item::Prefix(group),
            None => Item::Blob(name, blob),
        });
    }
    (items, None)
}

/// A listing writes an ETag without the quotation marks that it has in headers.
fn blob_element(name: &str, blob: &Blob, with_metadata: bool) -> String {
    let content = content_bytes(&blob.content);
    let header = |name: &str| match blob.headers.get(name) {
        Some(value) => format!("<{name}>{}</{name}>", xml_escaped(value)),
        None => format!("<{name} />"),
    };
    let metadata: String = match with_metadata {
        true => blob.metadata.iter().map(|(name, value)| format!("<{name}>{}</{name}>", xml_escaped(value))).collect(),
        false => String::new(),
    };
    let metadata = if metadata.is_empty() { metadata } else { format!("<Metadata>{metadata}</Metadata>") };
    format!(
        "<Blob><Name>{}</Name><Properties><Last-Modified>{}</Last-Modified><Etag>{}</Etag>\
         <Content-Length>{}</Content-Length><Content-Type>{}</Content-Type>{}{}\
         <Content-MD5>{}</Content-MD5>{}{}\
         <BlobType>BlockBlob</BlobType><AccessTier>Hot</AccessTier><AccessTierInferred>true</AccessTierInferred>\
         <LeaseStatus>unlocked</LeaseStatus><LeaseState>available</LeaseState>\
         <ServerEncrypted>true</ServerEncrypted></Properties>{metadata}<OrMetadata /></Blob>",
        xml_escaped(name),
        http_date(blob.last_modified),
        xml_escaped(blob.etag.trim_matches('"')),
        content.len(),
        xml_escaped(&blob.content_type),
        header("Content-Encoding"),
        header("Content-Language"),
        content_md5(&content),
        header("Cache-Control"),
        header("Content-Disposition"),
    )
}

#[cfg(test)]
mod tests {
    use crate::blob::put;
    use crate::blob::tests::{account, asked};
    use crate::state::State;

    fn listed(state: &mut State, query: &str) -> (Vec<String>, Option<String>) {
        let target = format!("/portcullisstate/state?restype=container&comp=list{query}");
        let body = asked(state, "GET", &target).body;
        let body = String::from_utf8(body.to_vec()).unwrap();
        let names = body.split("<Name>").skip(1).map(|rest| rest.split("</Name>").next().unwrap().to_owned()).collect();
        let next = body.split_once("<NextMarker>").map(|(_, rest)| rest.split('<').next().unwrap().to_owned());
        (names, next)
    }

    fn with(names: &[&str]) -> State {
        let mut state = account(&["*"]);
        for name in names {
            put(&mut state, "state", name, b"{}", "application/json");
        }
        state
    }

    #[test]
    fn names_come_in_order_and_by_prefix() {
        let mut state = with(&["inbox/b", "due/2", "inbox/a", "due/10", "inbox2"]);
        assert_eq!(listed(&mut state, "").0, ["due/10", "due/2", "inbox/a", "inbox/b", "inbox2"]);
        assert_eq!(listed(&mut state, "&prefix=inbox/").0, ["inbox/a", "inbox/b"]);
        assert_eq!(listed(&mut state, "&prefix=none").0, Vec::<String>::new());
    }

    #[test]
    fn pages_follow_each_other_to_the_end() {
        let mut state = with(&["a", "b", "c", "d", "e"]);
        let mut all = Vec::new();
        let mut query = "&maxresults=2".to_owned();
        loop {
            let (names, next) = listed(&mut state, &query);
            assert!(names.len() <= 2);
            all.extend(names);
            match next {
                Some(next) => query = format!("&maxresults=2&marker={next}"),
                None => break,
            }
        }
        assert_eq!(all, ["a", "b", "c", "d", "e"]);
        state.switches.page_size = 3;
        assert_eq!(listed(&mut state, "").0.len(), 3);
    }

    #[test]
    fn a_delimiter_groups_names() {
        let mut state = with(&["a/1", "a/2", "b", "c/1"]);
        assert_eq!(listed(&mut state, "&delimiter=/").0, ["a/", "b", "c/"]);
        let (names, next) = listed(&mut state, "&delimiter=/&maxresults=1");
        assert_eq!(names, ["a/"]);
        assert_eq!(listed(&mut state, &format!("&delimiter=/&maxresults=1&marker={}", next.unwrap())).0, ["b"]);
    }

    #[test]
    fn a_page_of_no_size_and_a_foreign_marker_are_refused() {
        let mut state = with(&["a"]);
        for (query, code) in [
            ("&maxresults=0", "OutOfRangeQueryParameterValue"),
            ("&maxresults=-1", "OutOfRangeQueryParameterValue"),
            ("&maxresults=many", "InvalidQueryParameterValue"),
            ("&marker=%21%21", "InvalidInput"),
        ] {
            let target = format!("/portcullisstate/state?restype=container&comp=list{query}");
            let answered = asked(&mut state, "GET", &target);
            assert_eq!(answered.header("x-ms-error-code"), Some(code), "{query}");
            assert_eq!(answered.status, 400);
        }
    }
}
