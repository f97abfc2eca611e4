//! Strict framing of HTTP/1.1 requests, in front of a lenient reader (RFC 9112, 7.1; spec 15.2).
//!
//! The framework's reader of chunked bodies accepts what other servers on the same path may read differently: control
//! characters in chunk extensions, white space around sizes, sizes without digits, trailer lines that are no fields.
//! [`RequestFraming`] follows the bytes of a connection, request after request, and reports the first that such a reader
//! could disagree about. It only ever adds refusals: how a body is delimited is decided by the framework alone.
//!
//! Memory is constant: one short prefix of the current line is kept, never the line.

/// Bytes of a line that are kept: the longest name looked for with some of its value.
const PREFIX: usize = 64;
/// The longest line of a chunk's size with its extensions, in bytes.
pub const CHUNK_LINE_MAX: usize = 256;
/// The longest trailer section, in bytes.
pub const TRAILER_MAX: usize = 8 << 10;
/// Digits of a chunk's size: 2^60 bytes.
const SIZE_DIGITS_MAX: usize = 15;

/// Framing that two readers could take differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// The request target has a fragment, which some readers cut off and others do not (RFC 9112, 3.2).
    #[error("the request target has a fragment")]
    Target,
    /// A chunk's size is missing, too large, or surrounded by something else than an extension.
    #[error("the size of a chunk is not a hexadecimal number")]
    ChunkSize,
    /// A chunk extension has a control character, or the line is too long.
    #[error("the extension of a chunk is malformed")]
    ChunkExtension,
    /// A chunk is not followed by the end of its line.
    #[error("the data of a chunk does not end where its size says")]
    ChunkEnd,
    /// A trailer line is not a field, or there are too many of them.
    #[error("the trailer section is malformed")]
    Trailer,
}

/// A violation, and the length of what precedes it in the bytes that were pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// Bytes before it, which are good.
    pub at: usize,
    /// The violation.
    pub violation: Violation,
}

/// A position in the framing of one connection's requests.
#[derive(Debug)]
pub struct RequestFraming {
    state: State,
    line: Line,
    chunked: bool,
    length: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the first byte of a request line; empty lines may precede it (RFC 9112, 2.2).
    Start,
    /// Within the request line.
    RequestLine,
    Header,
    /// A body of a declared length, with the bytes that are left of it.
    Sized(u64),
    ChunkSize,
    ChunkData(u64),
    /// The CR, then the LF behind a chunk.
    ChunkCr,
    ChunkLf,
    Trailer(usize),
}

/// The beginning of the current line, and its length.
#[derive(Debug)]
struct Line {
    prefix: [u8; PREFIX],
    len: usize,
    last: u8,
}

impl Line {
    const EMPTY: Self = Self { prefix: [0; PREFIX], len: 0, last: 0 };

    fn extend(&mut self, bytes: &[u8]) {
        if let Some(free) = self.prefix.get_mut(self.len..) {
            for (slot, byte) in free.iter_mut().zip(bytes) {
                *slot = *byte;
            }
        }
        self.len = self.len.saturating_add(bytes.len());
        self.last = bytes.last().copied().unwrap_or(self.last);
    }

    /// The kept part of the line without its line end.
    fn kept(&self) -> &[u8] {
        let end = self.len.min(PREFIX);
        let kept = self.prefix.get(..end).unwrap_or_default();
        kept.strip_suffix(b"\r").unwrap_or(kept)
    }

    fn is_empty(&self) -> bool {
        self.len == 0 || (self.len == 1 && self.last == b'\r')
    }

    fn field(&self, name: &str) -> Option<&[u8]> {
        let (start, value) = self.kept().split_at_checked(name.len())?;
        let value = value.strip_prefix(b":")?;
        start.eq_ignore_ascii_case(name.as_bytes()).then_some(value.trim_ascii())
    }
}

impl Default for RequestFraming {
    fn default() -> Self {
        Self { state: State::Start, line: Line::EMPTY, chunked: false, length: 0 }
    }
}

impl RequestFraming {
    /// Follows the next bytes of the connection.
    ///
    /// # Errors
    ///
    /// [`Refused`] with the first violation; the bytes before it are good, the others may not be used.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            at += self.step(rest).map_err(|violation| Refused { at, violation })?;
        }
        Ok(())
    }

    /// Consumes the beginning of `bytes`, which are not empty; returns its length.
    fn step(&mut self, bytes: &[u8]) -> Result<usize, Violation> {
        let first = bytes.first().copied();
        match self.state {
            State::Start | State::RequestLine => self.request_line(bytes),
            State::Header => Ok(self.header(bytes)),
            State::Sized(left) => Ok(self.sized(bytes, left)),
            State::ChunkSize => self.chunk_size(bytes),
            State::ChunkData(left) => Ok(self.chunk_data(bytes, left)),
            State::ChunkCr if first == Some(b'\r') => Ok(self.enter(State::ChunkLf)),
            State::ChunkLf if first == Some(b'\n') => Ok(self.enter(State::ChunkSize)),
            State::ChunkCr | State::ChunkLf => Err(Violation::ChunkEnd),
            State::Trailer(len) => self.trailer(bytes, len),
        }
    }

    /// Whether a header has begun and has not ended.
    #[must_use]
    pub fn is_in_header(&self) -> bool {
        matches!(self.state, State::RequestLine | State::Header)
    }

    /// Whether the next byte begins a new request.
    #[must_use]
    pub fn is_between_requests(&self) -> bool {
        self.state == State::Start
    }

    /// Consumes one byte into a new state.
    fn enter(&mut self, state: State) -> usize {
        self.state = state;
        1
    }

    /// Consumes bytes up to and with the next line end; returns whether the line is complete.
    fn take_line(&mut self, bytes: &[u8]) -> (usize, bool) {
        match memchr::memchr(b'\n', bytes) {
            Some(end) => {
                self.line.extend(bytes.get(..end).unwrap_or_default());
                (end + 1, true)
            }
            None => {
                self.line.extend(bytes);
                (bytes.len(), false)
            }
        }
    }

    /// Empty lines may precede a request line.
    fn request_line(&mut self, bytes: &[u8]) -> Result<usize, Violation> {
        let before = self.line.len;
        let (used, complete) = self.take_line(bytes);
        let added = self.line.len - before;
        if bytes.get(..added).is_some_and(|added| memchr::memchr(b'#', added).is_some()) {
            return Err(Violation::Target);
        }
        if !complete {
            self.state = State::RequestLine;
            return Ok(used);
        }
        self.state = if self.line.is_empty() { State::Start } else { State::Header };
        self.line = Line::EMPTY;
        Ok(used)
    }

    fn header(&mut self, bytes: &[u8]) -> usize {
        let (used, complete) = self.take_line(bytes);
        if !complete {
            return used;
        }
        if self.line.is_empty() {
            self.begin_body();
        } else {
            if let Some(coding) = self.line.field("transfer-encoding") {
                self.chunked |=
                    coding.len() >= 7 && coding.windows(7).any(|word| word.eq_ignore_ascii_case(b"chunked"));
            } else if let Some(length) = self.line.field("content-length") {
                self.length = std::str::from_utf8(length).ok().and_then(|n| n.parse().ok()).unwrap_or(0);
            }
        }
        self.line = Line::EMPTY;
        used
    }

    fn begin_body(&mut self) {
        self.state = match (self.chunked, self.length) {
            (true, _) => State::ChunkSize,
            (false, 0) => State::Start,
            (false, length) => State::Sized(length),
        };
        self.chunked = false;
        self.length = 0;
    }

    fn sized(&mut self, bytes: &[u8], left: u64) -> usize {
        let (used, left) = consume(bytes, left);
        self.state = if left == 0 { State::Start } else { State::Sized(left) };
        used
    }

    fn chunk_data(&mut self, bytes: &[u8], left: u64) -> usize {
        let (used, left) = consume(bytes, left);
        self.state = if left == 0 { State::ChunkCr } else { State::ChunkData(left) };
        used
    }

    fn chunk_size(&mut self, bytes: &[u8]) -> Result<usize, Violation> {
        let before = self.line.len;
        if self.line.last == b'\r' && bytes.first() != Some(&b'\n') {
            return Err(Violation::ChunkExtension);
        }
        let (used, complete) = self.take_line(bytes);
        if self.line.len > CHUNK_LINE_MAX {
            return Err(Violation::ChunkExtension);
        }
        let added = bytes.get(..self.line.len - before).unwrap_or_default();
        // A CR is allowed as the last byte alone; whether it is the last is known at the end of the line.
        let inner = if complete { added.strip_suffix(b"\r").unwrap_or(added) } else { added };
        let split_cr = !complete && added.last() == Some(&b'\r');
        let inner = if split_cr { inner.strip_suffix(b"\r").unwrap_or(inner) } else { inner };
        let is_control = |byte: &u8| byte.is_ascii_control() && *byte != b'\t';
        if inner.iter().any(is_control) {
            return Err(Violation::ChunkExtension);
        }
        if !complete {
            return Ok(used);
        }
        if self.line.last != b'\r' {
            return Err(Violation::ChunkSize);
        }
        let size = chunk_size(self.line.kept())?;
        self.line = Line::EMPTY;
        self.state = if size == 0 { State::Trailer(0) } else { State::ChunkData(size) };
        Ok(used)
    }

    fn trailer(&mut self, bytes: &[u8], len: usize) -> Result<usize, Violation> {
        let (used, complete) = self.take_line(bytes);
        let len = len.saturating_add(used);
        if len > TRAILER_MAX {
            return Err(Violation::Trailer);
        }
        self.state = State::Trailer(len);
        if !complete {
            return Ok(used);
        }
        if self.line.last != b'\r' {
            return Err(Violation::Trailer);
        }
        if self.line.is_empty() {
            self.state = State::Start;
        } else {
            check_trailer_field(self.line.kept())?;
        }
        self.line = Line::EMPTY;
        Ok(used)
    }
}

/// How many bytes belong to a body with `left` bytes to come, and how many are left then.
fn consume(bytes: &[u8], left: u64) -> (usize, u64) {
    let available = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    let taken = available.min(left);
    (usize::try_from(taken).unwrap_or(bytes.len()), left - taken)
}

/// Reads `1*HEXDIG` with nothing or an extension behind it (RFC 9112, 7.1).
fn chunk_size(line: &[u8]) -> Result<u64, Violation> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    if digits == 0 || digits > SIZE_DIGITS_MAX || !matches!(line.get(digits), None | Some(b';')) {
        return Err(Violation::ChunkSize);
    }
    let text = line.get(..digits).and_then(|text| std::str::from_utf8(text).ok());
    text.and_then(|text| u64::from_str_radix(text, 16).ok()).ok_or(Violation::ChunkSize)
}

/// A trailer line begins with a field name (RFC 9110, 5.1); of a long one the kept prefix is judged.
fn check_trailer_field(line: &[u8]) -> Result<(), Violation> {
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    let name = line.iter().take_while(|byte| is_token(byte)).count();
    match line.get(name) {
        Some(b':') if name > 0 => Ok(()),
        _ => Err(Violation::Trailer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEAD: &str = "POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

    fn judge(bytes: &[u8], cut: usize) -> Result<bool, Violation> {
        let mut framing = RequestFraming::default();
        let (first, second) = bytes.split_at(cut.min(bytes.len()));
        framing.push(first).map_err(|refused| refused.violation)?;
        framing.push(second).map_err(|refused| refused.violation)?;
        Ok(framing.is_between_requests())
    }

    /// Goal: framing that readers agree about passes, at every cut, and the next request is found behind it.
    #[test]
    fn well_formed_requests_pass_at_every_cut() {
        let chunked = format!(
            "{HEAD}5\r\nhello\r\nA;ext=\"a b\"\r\n0123456789\r\n0\r\nX-Sum: 1\r\n\r\nGET / HTTP/1.1\r\n\r\n"
        );
        let sized = "\r\nPOST / HTTP/1.1\r\ncontent-length: 5\r\n\r\nab\r\ncGET / HTTP/1.1\nHost: a\n\n";
        for text in [chunked.as_str(), sized, "GET / HTTP/1.0\r\n\r\n"] {
            for cut in 0..=text.len() {
                assert_eq!(judge(text.as_bytes(), cut), Ok(true), "{text:?} cut at {cut}");
            }
        }
    }

    /// Goal: each spelling that another reader could take differently is refused, at every cut.
    #[test]
    fn ambiguous_chunks_are_refused_at_every_cut() {
        let cases = [
            ("\r\nab\r\n0\r\n\r\n", Violation::ChunkSize),
            ("0\r\n\r\nGET /a#b HTTP/1.1\r\n\r\n", Violation::Target),
            ("2\t\r\nab\r\n0\r\n\r\n", Violation::ChunkSize),
            (" 2\r\nab\r\n0\r\n\r\n", Violation::ChunkSize),
            ("2 \r\nab\r\n0\r\n\r\n", Violation::ChunkSize),
            ("+2\r\nab\r\n0\r\n\r\n", Violation::ChunkSize),
            ("0x2\r\nab\r\n0\r\n\r\n", Violation::ChunkSize),
            ("2\nab\r\n0\r\n\r\n", Violation::ChunkSize),
            ("1234567890123456\r\n", Violation::ChunkSize),
            ("2;a\nb\r\nab\r\n0\r\n\r\n", Violation::ChunkSize),
            ("2;a\0b\r\nab\r\n0\r\n\r\n", Violation::ChunkExtension),
            ("2;a\rb\r\nab\r\n0\r\n\r\n", Violation::ChunkExtension),
            ("2\r\nabc\r\n0\r\n\r\n", Violation::ChunkEnd),
            ("2\r\nab\n0\r\n\r\n", Violation::ChunkEnd),
            ("0\r\nno field\r\n\r\n", Violation::Trailer),
            ("0\r\n: empty\r\n\r\n", Violation::Trailer),
            ("0\r\nX-A: 1\n\r\n", Violation::Trailer),
        ];
        for (body, violation) in cases {
            let text = format!("{HEAD}{body}");
            for cut in HEAD.len()..=text.len() {
                assert_eq!(judge(text.as_bytes(), cut), Err(violation), "{body:?} cut at {cut}");
            }
        }
    }

    /// Goal: lines without an end cost no more than their bound.
    #[test]
    fn endless_lines_are_bounded() {
        let mut framing = RequestFraming::default();
        framing.push(HEAD.as_bytes()).unwrap();
        let refused = framing.push(&[b'1'; CHUNK_LINE_MAX + 1]);
        assert_eq!(refused, Err(Refused { at: 0, violation: Violation::ChunkExtension }));
        let mut framing = RequestFraming::default();
        framing.push(format!("{HEAD}0\r\n").as_bytes()).unwrap();
        let field = "x-a: b\r\n".repeat(TRAILER_MAX / 8 + 1);
        assert_eq!(framing.push(field.as_bytes()).unwrap_err().violation, Violation::Trailer);
        assert!(size_of::<RequestFraming>() < 160);
    }

    proptest! {
        /// Goal: bytes of any kind, in any pieces, never panic and are judged as in one piece.
        #[test]
        fn judged_alike_in_any_pieces(body in "[0-9a-f;\\r\\n\\t x:]{0,60}", cut in 0usize..140) {
            let text = format!("{HEAD}{body}");
            prop_assert_eq!(judge(text.as_bytes(), cut), judge(text.as_bytes(), 0));
        }
    }
}
