//! Answers packed with gzip for those who ask for it.

use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::Method;

use super::{Answer, Call};

/// Whether a service packs its answer to this request: Azure Resource Manager does for whoever sends
/// `Accept-Encoding: gzip`, answers of a few hundred bytes too (Azure/azure-cli issues 15878 and 26613, whose logs show the
/// headers of the compute and the network provider's answers). No other service is known to.
pub(super) fn packs(service: &str, call: &Call) -> bool {
    service == "arm" && call.method != Method::HEAD && call.header("accept-encoding").is_some_and(accepts_gzip)
}

/// The answer as gzip, which its headers say; one without a body stays as it is.
pub(super) fn packed(answer: Answer) -> Answer {
    if answer.body.is_empty() {
        return answer;
    }
    let mut encoder = GzEncoder::new(Vec::with_capacity(answer.body.len() / 4), Compression::fast());
    let Ok(body) = encoder.write_all(&answer.body).and_then(|()| encoder.finish()) else {
        return answer;
    };
    Answer { body: Bytes::from(body), ..answer }.with("Content-Encoding", "gzip").with("Vary", "Accept-Encoding")
}

/// RFC 9110, section 12.5.3, without its weights but that of nothing at all: `q=0` is a refusal.
fn accepts_gzip(header: &str) -> bool {
    header.split(',').any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let refused = weight.trim().strip_prefix("q=").and_then(|weight| weight.parse::<f32>().ok()) == Some(0.0);
        matches!(name.trim().to_ascii_lowercase().as_str(), "gzip" | "x-gzip" | "*") && !refused
    })
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;
    use http::StatusCode;

    use super::*;

    fn asking(accepted: &str) -> Call {
        Call::new("GET", "/subscriptions").with_header("accept-encoding", accepted)
    }

    #[test]
    fn only_resource_manager_packs_and_only_for_those_who_ask() {
        for accepted in ["gzip", "deflate, gzip", "br;q=1.0, gzip;q=0.8", "GZIP", "*"] {
            assert!(packs("arm", &asking(accepted)), "{accepted}");
        }
        for accepted in ["", "deflate", "gzip;q=0", "identity, gzip;q=0.0"] {
            assert!(!packs("arm", &asking(accepted)), "{accepted}");
        }
        assert!(!packs("arm", &Call::new("GET", "/subscriptions")));
        assert!(!packs("blob", &asking("gzip")));
        let head = Call::new("HEAD", "/subscriptions").with_header("accept-encoding", "gzip");
        assert!(!packs("arm", &head));
    }

    #[test]
    fn a_packed_answer_says_so_and_unpacks_to_what_it_was() {
        let text = "ports ".repeat(500);
        let answer = packed(Answer::text(StatusCode::OK, &text));
        assert_eq!((answer.header("content-encoding"), answer.header("vary")), (Some("gzip"), Some("Accept-Encoding")));
        assert!(answer.body.len() < text.len() / 10, "{}", answer.body.len());
        let mut unpacked = String::new();
        GzDecoder::new(answer.body.as_ref()).read_to_string(&mut unpacked).unwrap();
        assert_eq!(unpacked, text);
        assert_eq!(packed(Answer::empty(StatusCode::NO_CONTENT)).headers, []);
    }
}
