//! Bodies that a service packed.
//!
//! They stay packed until they are whole, and are unpacked where they are read: a list of a hundred machines is some hundred kB
//! and packed a small part of that, and many of them are under way at once in a sweep.

use std::io::{self, Read};

use azure_core::http::headers::HeaderName;
use bytes::Bytes;
use flate2::read::MultiGzDecoder;

/// Asks for a packed body.
pub(super) const ACCEPT_ENCODING: HeaderName = HeaderName::from_static("accept-encoding");

/// The one way of packing that is asked for.
pub(super) const GZIP: &str = "gzip";

/// No answer that is wanted is longer, and a longer one would leave no room for anything else.
pub const LONGEST: usize = 64 * 1024 * 1024;

/// Deflate makes no more of a byte than this (RFC 1951: 258 bytes for two bits, and those of a block).
const MOST_OF_A_BYTE: usize = 1032;

/// A body as it was before `encoding`, the service's `Content-Encoding`.
///
/// # Errors
/// Where it is not what it says, not whole, or longer than [`LONGEST`].
pub fn unpacked(encoding: Option<&str>, body: Bytes) -> io::Result<Bytes> {
    if body.is_empty() || !encoding.is_some_and(|encoding| encoding.trim().eq_ignore_ascii_case(GZIP)) {
        return Ok(body);
    }
    let mut text = Vec::with_capacity(length(&body).min(LONGEST));
    MultiGzDecoder::new(&*body).take(LONGEST as u64 + 1).read_to_end(&mut text)?;
    match text.len() {
        ..=LONGEST => Ok(Bytes::from(text)),
        _ => Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is longer than {} MB", LONGEST / 1024 / 1024))),
    }
}

/// How long a packed body says that it is unpacked, by its last four bytes (RFC 1952): no more than it can be.
fn length(body: &[u8]) -> usize {
    let said = body.last_chunk().map_or(0, |last| u32::from_le_bytes(*last));
    usize::try_from(said).unwrap_or_default().min(body.len().saturating_mul(MOST_OF_A_BYTE))
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    /// A body packed as a service packs it.
    pub fn packed(text: &str) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn what_was_packed_is_as_it_was_and_takes_no_more_room() {
        let text = r#"{"value":[]}"#.repeat(10_000);
        let body = packed(&text);
        assert_eq!(length(&body), text.len());
        for encoding in ["gzip", "GZIP", " gzip "] {
            assert_eq!(unpacked(Some(encoding), Bytes::from(body.clone())).unwrap(), text);
        }
        let twice = [body.clone(), body].concat();
        assert_eq!(unpacked(Some("gzip"), Bytes::from(twice)).unwrap(), text.repeat(2));
    }

    #[test]
    fn what_was_not_packed_stays_as_it_is() {
        for (encoding, body) in [(None, "{}"), (Some("identity"), "{}"), (Some("gzip"), "")] {
            assert_eq!(unpacked(encoding, Bytes::from(body)).unwrap(), body);
        }
    }

    #[test]
    fn what_is_longer_than_anything_that_is_wanted_is_an_error() {
        let body = packed(&" ".repeat(LONGEST + 1));
        assert_eq!(unpacked(Some("gzip"), Bytes::from(body)).unwrap_err().to_string(), "it is longer than 64 MB");
    }

    #[test]
    fn what_is_not_whole_or_not_packed_is_an_error() {
        let body = packed("{}");
        for broken in [&body[..body.len() - 1], &body[..3], b"{}", &[0xFF; 64]] {
            assert!(unpacked(Some("gzip"), Bytes::copy_from_slice(broken)).is_err(), "{broken:?}");
        }
    }
}
