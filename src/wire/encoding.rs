//! Compressed request bodies (spec 4.3).
//!
//! gzip, deflate, br and zstd are decoded within a bound on the *decoded* size, so that a small body which inflates to a huge
//! one costs no more than the bound.

use crate::core::refusal::Refusal;
use bytes::Bytes;
use std::io::Read;

/// Room that is made for inflated data at once, in bytes.
const INFLATED_STEP: usize = 32 * 1024;

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
        "deflate" => deflated(&body, max),
        "br" => bounded(brotli::Decompressor::new(&body[..], 4096), max),
        "zstd" => {
            let decoder = zstd::Decoder::new(&body[..]).map_err(|_| Refusal::BodyUnreadable)?;
            bounded(decoder, max)
        }
        _ => Err(Refusal::ContentEncoding),
    }
}

/// Decodes `deflate`, which is zlib (RFC 9110, 8.4.1.2), and which many send without the envelope of zlib.
fn deflated(body: &[u8], max: usize) -> Result<Bytes, Refusal> {
    let has_envelope = matches!(body, [method, flags, ..]
        if method & 0x0f == 8 && u16::from_be_bytes([*method, *flags]) % 31 == 0);
    match inflated(body, has_envelope, max) {
        // Raw data may begin like an envelope.
        Err(Refusal::BodyUnreadable) if has_envelope => inflated(body, false, max),
        other => other,
    }
}

/// The data of a deflate stream, which has to come to its end.
fn inflated(body: &[u8], has_envelope: bool, max: usize) -> Result<Bytes, Refusal> {
    let (mut inflater, mut decoded) = (flate2::Decompress::new(has_envelope), Vec::new());
    loop {
        let (read, written) = (inflater.total_in(), decoded.len());
        decoded.reserve(INFLATED_STEP);
        let rest = body.get(usize::try_from(read).unwrap_or(usize::MAX)..).unwrap_or_default();
        let status = inflater
            .decompress_vec(rest, &mut decoded, flate2::FlushDecompress::None)
            .map_err(|_| Refusal::BodyUnreadable)?;
        if decoded.len() > max {
            return Err(Refusal::BodyTooLarge);
        }
        if status == flate2::Status::StreamEnd {
            return Ok(decoded.into());
        }
        if (inflater.total_in(), decoded.len()) == (read, written) {
            return Err(Refusal::BodyUnreadable);
        }
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

    /// Goal: deflate is taken with the envelope of zlib and without, within the bound, and only to its end.
    #[test]
    fn both_kinds_of_deflate_are_taken() {
        let data = vec![b'a'; 100_000];
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        zlib.write_all(&data).unwrap();
        let mut raw = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
        raw.write_all(&data).unwrap();
        for body in [zlib.finish().unwrap(), raw.finish().unwrap()].map(Bytes::from) {
            assert_eq!(decode(Some("Deflate"), body.clone(), data.len()).as_deref(), Ok(&data[..]));
            assert_eq!(decode(Some("deflate"), body.clone(), data.len() - 1), Err(Refusal::BodyTooLarge));
            let cut = body.slice(..body.len() / 2);
            assert_eq!(decode(Some("deflate"), cut, data.len()), Err(Refusal::BodyUnreadable));
        }
        for broken in [&b""[..], b"plain", b"\x78\x9c"] {
            let broken = Bytes::copy_from_slice(broken);
            assert_eq!(decode(Some("deflate"), broken, 9), Err(Refusal::BodyUnreadable));
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
