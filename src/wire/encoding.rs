//! Compressed request bodies (spec 4.3).
//!
//! gzip, deflate, br and zstd are decoded in steps within bounds on the decoded size, on its ratio to what arrived, and on
//! what the caller has room for, so that a small body which inflates to a huge one costs no more than they allow.

use crate::core::refusal::Refusal;
use bytes::Bytes;
use std::io::Read;

/// Bytes decoded between two looks at the bounds.
const STEP: usize = 64 << 10;
/// Decoded bytes that any body may have, whatever the ratio: repetitive JSON is small.
pub const RATIO_FLOOR: usize = 256 << 10;

/// Bounds of a decoded body.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// The largest decoded body, in bytes.
    pub size: usize,
    /// The largest ratio of decoded to received bytes, beyond [`RATIO_FLOOR`].
    pub ratio: usize,
}

/// Whether a value of `Content-Encoding` names no coding, so that there is nothing to decode.
#[must_use]
pub fn is_identity(encoding: Option<&str>) -> bool {
    matches!(coding(encoding).as_str(), "" | "identity")
}

/// Decodes a body; `encoding` is the value of `Content-Encoding`. Before each step `has_room` is asked for room for its
/// bytes.
///
/// # Errors
///
/// [`Refusal::ContentEncoding`] for an unknown coding, [`Refusal::BodyTooLarge`] beyond the bounds,
/// [`Refusal::BodyUnreadable`] for broken data, [`Refusal::BodiesTooMany`] without room.
pub fn decode(
    encoding: Option<&str>,
    body: Bytes,
    bounds: Bounds,
    has_room: impl FnMut(usize) -> bool,
) -> Result<Bytes, Refusal> {
    let size = bounds.size.min(body.len().saturating_mul(bounds.ratio).max(RATIO_FLOOR));
    match coding(encoding).as_str() {
        "" | "identity" => Ok(body),
        "gzip" | "x-gzip" => bounded(flate2::read::MultiGzDecoder::new(&body[..]), size, has_room),
        "deflate" => deflated(&body, size, has_room),
        "br" => bounded(brotli::Decompressor::new(&body[..], 4096), size, has_room),
        "zstd" => {
            let decoder = zstd::Decoder::new(&body[..]).map_err(|_| Refusal::BodyUnreadable)?;
            bounded(decoder, size, has_room)
        }
        _ => Err(Refusal::ContentEncoding),
    }
}

fn coding(encoding: Option<&str>) -> String {
    encoding.unwrap_or_default().trim().to_ascii_lowercase()
}

/// Decodes `deflate`, which is zlib (RFC 9110, 8.4.1.2), and which many send without the envelope of zlib.
fn deflated(body: &[u8], max: usize, mut has_room: impl FnMut(usize) -> bool) -> Result<Bytes, Refusal> {
    let has_envelope = matches!(body, [method, flags, ..]
        if method & 0x0f == 8 && u16::from_be_bytes([*method, *flags]) % 31 == 0);
    match inflated(body, has_envelope, max, &mut has_room) {
        // Raw data may begin like an envelope.
        Err(Refusal::BodyUnreadable) if has_envelope => inflated(body, false, max, &mut has_room),
        other => other,
    }
}

/// The data of a deflate stream, which has to come to its end.
fn inflated(
    body: &[u8],
    has_envelope: bool,
    max: usize,
    has_room: &mut impl FnMut(usize) -> bool,
) -> Result<Bytes, Refusal> {
    let mut inflater = flate2::Decompress::new(has_envelope);
    let mut decoded = Vec::new();
    loop {
        let read = inflater.total_in();
        let written = decoded.len();
        if decoded.len() == decoded.capacity() {
            make_room(&mut decoded, has_room)?;
        }
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

/// Makes room for one more step, if the caller has it.
fn make_room(decoded: &mut Vec<u8>, has_room: &mut impl FnMut(usize) -> bool) -> Result<(), Refusal> {
    if !has_room(STEP) || decoded.try_reserve(STEP).is_err() {
        return Err(Refusal::BodiesTooMany);
    }
    Ok(())
}

fn bounded(
    mut decoder: impl Read,
    max: usize,
    mut has_room: impl FnMut(usize) -> bool,
) -> Result<Bytes, Refusal> {
    let mut decoded = Vec::new();
    loop {
        make_room(&mut decoded, &mut has_room)?;
        let step = u64::try_from(STEP).unwrap_or(u64::MAX);
        let read = decoder.by_ref().take(step).read_to_end(&mut decoded);
        let read = read.map_err(|_| Refusal::BodyUnreadable)?;
        if decoded.len() > max {
            return Err(Refusal::BodyTooLarge);
        }
        if read < STEP {
            return Ok(decoded.into());
        }
    }
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
            let within = |size, ratio| decode(Some(coding), body.clone(), Bounds { size, ratio }, |_| true);
            assert_eq!(within(data.len(), 1).as_deref(), Ok(&data[..]), "{coding}");
            assert_eq!(within(data.len() - 1, 1), Err(Refusal::BodyTooLarge), "{coding}");
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
            let within = |body, size| decode(Some("Deflate"), body, Bounds { size, ratio: 1 }, |_| true);
            assert_eq!(within(body.clone(), data.len()).as_deref(), Ok(&data[..]));
            assert_eq!(within(body.clone(), data.len() - 1), Err(Refusal::BodyTooLarge));
            let cut = body.slice(..body.len() / 2);
            assert_eq!(within(cut, data.len()), Err(Refusal::BodyUnreadable));
        }
        for broken in [&b""[..], b"plain", b"\x78\x9c"] {
            let broken = Bytes::copy_from_slice(broken);
            assert_eq!(
                decode(Some("deflate"), broken, Bounds { size: 9, ratio: 200 }, |_| true),
                Err(Refusal::BodyUnreadable)
            );
        }
    }

    /// Goal: unknown codings and broken data are refused.
    #[test]
    fn refuses_what_it_cannot_read() {
        let decode = |coding, body| decode(coding, body, Bounds { size: 9, ratio: 200 }, |_| true);
        assert_eq!(decode(Some("gzip, gzip"), Bytes::new()), Err(Refusal::ContentEncoding));
        for coding in ["gzip", "br", "zstd"] {
            assert_eq!(decode(Some(coding), Bytes::from_static(b"plain")), Err(Refusal::BodyUnreadable));
        }
        assert_eq!(decode(None, Bytes::from_static(b"x")).as_deref(), Ok(&b"x"[..]));
    }

    /// Goal: what inflates beyond the ratio is refused long before the bound on size, and room is asked for in steps.
    #[test]
    fn ratio_and_room_bound_what_inflates() {
        let bomb = gzip(&vec![b'a'; 8 << 20]);
        let mut steps = 0;
        let refused = decode(Some("gzip"), bomb.clone(), Bounds { size: 32 << 20, ratio: 200 }, |_| {
            steps += 1;
            true
        });
        assert_eq!(refused, Err(Refusal::BodyTooLarge));
        assert!(steps * STEP <= bomb.len() * 200 + RATIO_FLOOR + 2 * STEP, "{steps} steps");
        let mut room = 10 * STEP;
        let bounds = Bounds { size: 32 << 20, ratio: 10_000 };
        let refused = decode(Some("gzip"), bomb, bounds, |step| {
            room = room.saturating_sub(step);
            room > 0
        });
        assert_eq!(refused, Err(Refusal::BodiesTooMany));
    }
}
