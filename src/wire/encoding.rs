//! Compressed request bodies (spec 4.3).
//!
//! gzip, br and zstd are decoded within a bound on the *decoded* size, so that a small body which inflates to a huge
//! one costs no more than the bound.

use crate::core::refusal::Refusal;
use bytes::Bytes;
use std::io::Read;

/// Decodes a body; `encoding` is the value of `Content-Encoding`, `max` the bound in bytes.
///
/// # Errors
///
/// [`Refusal::ContentEncoding`] for an unknown coding, [`Refusal::BodyTooLarge`] beyond the bound,
/// [`Refusal::BodyUnreadable`] for broken data.
pub fn decode(encoding: Option<&str>, body: Bytes, max: usize) -> Result<Bytes, Refusal> {
    let coding = encoding.unwrap_or_default().trim().to_ascii_lowercase();
    match coding.as_str() {
        "" | "identity" => Ok(body),
        "gzip" | "x-gzip" => bounded(flate2::read::MultiGzDecoder::new(&body[..]), max),
        "br" => bounded(brotli::Decompressor::new(&body[..], 4096), max),
        "zstd" => {
            let decoder = zstd::Decoder::new(&body[..]).map_err(|_| Refusal::BodyUnreadable)?;
            bounded(decoder, max)
        }
        _ => Err(Refusal::ContentEncoding),
    }
}

fn bounded(decoder: impl Read, max: usize) -> Result<Bytes, Refusal> {
    let mut decoded = Vec::new();
    // One byte more than allowed tells a body that fits exactly from one that does not.
    let bound = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    decoder.take(bound).read_to_end(&mut decoded).map_err(|_| Refusal::BodyUnreadable)?;
    if decoded.len() > max { Err(Refusal::BodyTooLarge) } else { Ok(decoded.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(data: &[u8]) -> Bytes {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap().into()
    }

    /// Goal: each coding is decoded, the bound is exact and a bomb costs no more than it.
    #[test]
    fn decodes_within_the_bound() {
        let data = vec![b'a'; 100_000];
        let mut br = Vec::new();
        brotli::CompressorWriter::new(&mut br, 4096, 5, 22).write_all(&data).unwrap();
        let zstd = zstd::encode_all(&data[..], 3).unwrap();
        for (coding, body) in [("gzip", gzip(&data)), ("BR", br.into()), ("zstd", zstd.into())] {
            assert_eq!(decode(Some(coding), body.clone(), data.len()).as_deref(), Ok(&data[..]), "{coding}");
            assert_eq!(decode(Some(coding), body, data.len() - 1), Err(Refusal::BodyTooLarge), "{coding}");
        }
    }

    /// Goal: unknown codings and broken data are refused.
    #[test]
    fn refuses_what_it_cannot_read() {
        assert_eq!(decode(Some("gzip, gzip"), Bytes::new(), 9), Err(Refusal::ContentEncoding));
        for coding in ["gzip", "br", "zstd"] {
            assert_eq!(decode(Some(coding), Bytes::from_static(b"plain"), 9), Err(Refusal::BodyUnreadable));
        }
        assert_eq!(decode(None, Bytes::from_static(b"x"), 0).as_deref(), Ok(&b"x"[..]));
    }
}
