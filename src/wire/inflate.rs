//! Bodies that upstreams send compressed though nobody asked for it, inflated as they arrive (spec 3.1).
//!
//! A successful answer is JSON or an event stream, neither of which begins like gzip. What arrives is inflated in steps, so
//! that a small piece cannot become a large one in memory; what uses the output has bounds of its own.

use bytes::{Buf, Bytes};
use flate2::write::MultiGzDecoder;
use std::io::{self, Write};

/// So much is inflated at a time, in bytes; a thousand times as much can come of it.
pub const STEP: usize = 512;

/// A gzip body on its way.
pub struct Inflater {
    decoder: MultiGzDecoder<Vec<u8>>,
    /// What has arrived and is not inflated yet.
    pending: Bytes,
}

impl Default for Inflater {
    fn default() -> Self {
        Self { decoder: MultiGzDecoder::new(Vec::new()), pending: Bytes::new() }
    }
}

impl Inflater {
    /// Whether a body that begins so is compressed.
    #[must_use]
    pub fn is_due(piece: &[u8]) -> bool {
        piece.first() == Some(&0x1f)
    }

    /// Takes the next piece in, after all of the one before it was inflated.
    pub fn push(&mut self, piece: Bytes) {
        self.pending = piece;
    }

    /// Whether everything that was taken in is inflated.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.pending.is_empty()
    }

    /// The next part of the body, which may be empty; `None` when another piece is needed.
    ///
    /// # Errors
    ///
    /// It is no gzip.
    pub fn next_part(&mut self) -> io::Result<Option<Bytes>> {
        if self.pending.is_empty() {
            return Ok(None);
        }
        let step = self.pending.len().min(STEP);
        self.decoder.write_all(self.pending.get(..step).unwrap_or_default())?;
        self.decoder.flush()?;
        self.pending.advance(step);
        Ok(Some(std::mem::take(self.decoder.get_mut()).into()))
    }

    /// The rest of the body, at its end.
    ///
    /// # Errors
    ///
    /// It was cut.
    pub fn finish(mut self) -> io::Result<Bytes> {
        self.decoder.try_finish()?;
        Ok(std::mem::take(self.decoder.get_mut()).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};

    fn packed(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn inflated(body: &[u8], size: usize) -> io::Result<(Vec<u8>, usize)> {
        let mut inflater = Inflater::default();
        let mut out = Vec::new();
        let mut largest = 0;
        for piece in body.chunks(size) {
            inflater.push(Bytes::copy_from_slice(piece));
            while let Some(part) = inflater.next_part()? {
                largest = largest.max(part.len());
                out.extend_from_slice(&part);
            }
        }
        out.extend_from_slice(&inflater.finish()?);
        Ok((out, largest))
    }

    /// Goal: a body comes out as it was, however it is cut; a cut one and a broken one are told; a bomb comes in small parts.
    #[test]
    fn bodies_come_out_as_they_were() {
        let text: Vec<u8> = (0..20_000u32).flat_map(u32::to_le_bytes).collect();
        let body = packed(&text);
        assert!(Inflater::is_due(&body) && !Inflater::is_due(b"{") && !Inflater::is_due(b""));
        for size in [1, 7, 4096, body.len()] {
            assert_eq!(inflated(&body, size).unwrap().0, text);
        }
        assert!(inflated(&body[..body.len() / 2], 64).is_err());
        assert!(inflated(b"\x1fnothing of the kind", 64).is_err());
        let bomb = packed(&vec![0; 32 << 20]);
        let (out, largest) = inflated(&bomb, bomb.len()).unwrap();
        assert!(out.len() == 32 << 20 && largest < 1 << 20, "{largest}");
    }
}
