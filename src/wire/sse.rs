//! Server-sent events, framed as they arrive (WHATWG HTML, section 9.2).
//!
//! [`Framer`] takes chunks as the network cut them and gives back whole events, with any mixture of line ends, in
//! bounded memory. An event is available as soon as its empty line is.

use bytes::{Bytes, BytesMut};

/// The longest line that is accepted, and the most data of one event, in bytes (spec 10.7).
pub const LINE_MAX: usize = 16 * 1024 * 1024;
/// A buffer that has held more than this is not kept.
const KEPT_BYTES_MAX: usize = 256 * 1024;

/// One thing that a stream says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// An event's data.
    Data(Bytes),
    /// The data of an event that has several lines of it, joined by newlines.
    Lines(Bytes),
    /// A JSON object that stands in no field: what a server writes that forgets that it is in a stream.
    Bare(Bytes),
    /// The data of an event that is named `error`, or of a field that is.
    Error(Bytes),
    /// A comment; it keeps the connection alive and says nothing.
    Comment,
}

/// A line, or the data of an event, that is longer than [`LINE_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineTooLong;

/// Cuts a byte stream into [`Frame`]s.
#[derive(Debug)]
pub struct Framer {
    buffer: BytesMut,
    /// How far the buffer has been searched for the end of its first line.
    searched: usize,
    /// The data of the event under way.
    data: Option<Data>,
    /// The event under way is named `error`.
    named_error: bool,
    /// The last line ended with a carriage return; a newline that follows belongs to it.
    after_return: bool,
    /// Nothing has been read yet, so a byte order mark may still come.
    at_start: bool,
    line_max: usize,
}

/// Event data: one line shared with the input, several lines joined.
#[derive(Debug)]
enum Data {
    One(Bytes),
    Many(BytesMut),
}

/// What a buffer has, which it gives up; memory of a large event goes with it instead of waiting for another one.
#[must_use]
pub fn taken(buffer: &mut BytesMut) -> Bytes {
    if buffer.len() > KEPT_BYTES_MAX { std::mem::take(buffer) } else { buffer.split() }.freeze()
}

impl Default for Framer {
    fn default() -> Self {
        Self::new(LINE_MAX)
    }
}

impl Framer {
    /// A framer at the start of a stream that accepts lines of up to `line_max` bytes.
    #[must_use]
    pub fn new(line_max: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            searched: 0,
            data: None,
            named_error: false,
            after_return: false,
            at_start: true,
            line_max,
        }
    }

    /// Adds what the network brought.
    pub fn push(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
    }

    /// The next whole frame, or `None` when more input is needed.
    ///
    /// # Errors
    ///
    /// [`LineTooLong`]; the stream cannot be read any further then.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, LineTooLong> {
        while let Some(line) = self.next_line()? {
            if let Some(frame) = self.take_line(line)? {
                return Ok(Some(frame));
            }
        }
        Ok(None)
    }

    /// The event that the end of the stream completes: many servers leave the last empty line out.
    #[must_use]
    pub fn finish(&mut self) -> Option<Frame> {
        let line = self.buffer.split().freeze();
        let rest = self.take_line(line).ok().flatten();
        rest.filter(|frame| *frame != Frame::Comment).or_else(|| self.take_event())
    }

    fn next_line(&mut self) -> Result<Option<Bytes>, LineTooLong> {
        self.skip_newline_of_pair();
        let found = self.buffer.get(self.searched..).and_then(|new| memchr::memchr2(b'\n', b'\r', new));
        let Some(end) = found.map(|found| found + self.searched) else {
            self.searched = self.buffer.len();
            return if self.searched > self.line_max { Err(LineTooLong) } else { Ok(None) };
        };
        if end > self.line_max {
            return Err(LineTooLong);
        }
        self.searched = 0;
        self.after_return = self.buffer.get(end) == Some(&b'\r');
        let mut line = self.buffer.split_to(end + 1).freeze();
        if end > KEPT_BYTES_MAX {
            // What follows is short, and would keep the memory of the line.
            self.buffer = BytesMut::from(&self.buffer[..]);
        }
        line.truncate(end);
        if std::mem::take(&mut self.at_start) && line.starts_with(b"\xef\xbb\xbf") {
            line = line.slice(3..);
        }
        Ok(Some(line))
    }

    fn skip_newline_of_pair(&mut self) {
        if self.after_return && !self.buffer.is_empty() {
            self.after_return = false;
            if self.buffer.first() == Some(&b'\n') {
                let _ = self.buffer.split_to(1);
                self.searched = self.searched.saturating_sub(1);
            }
        }
    }

    fn take_event(&mut self) -> Option<Frame> {
        let named_error = std::mem::take(&mut self.named_error);
        Some(match self.data.take()? {
            Data::One(data) if named_error => Frame::Error(data),
            Data::One(data) => Frame::Data(data),
            Data::Many(data) if named_error => Frame::Error(data.freeze()),
            Data::Many(data) => Frame::Lines(data.freeze()),
        })
    }

    /// Takes one line in; an empty line ends an event that has data.
    fn take_line(&mut self, line: Bytes) -> Result<Option<Frame>, LineTooLong> {
        if line.is_empty() {
            return Ok(self.take_event());
        }
        if line.starts_with(b":") {
            return Ok(Some(Frame::Comment));
        }
        if let Some(name) = line.strip_prefix(b"event:") {
            self.named_error = name.trim_ascii() == b"error";
            return Ok(None);
        }
        let value = match line.strip_prefix(b"data:") {
            Some(rest) => line.slice(line.len() - rest.len() + usize::from(rest.starts_with(b" "))..),
            None if &*line == b"data" => Bytes::new(),
            None => return Ok(fieldless(&line)),
        };
        // Some servers write a byte order mark before each JSON document.
        let value = match value.strip_prefix(b"\xef\xbb\xbf") {
            Some(rest) => value.slice_ref(rest),
            None => value,
        };
        let joined = match self.data.take() {
            None => Data::One(value),
            Some(data) => data.join(&value),
        };
        if joined.len() > self.line_max {
            return Err(LineTooLong);
        }
        self.data = Some(joined);
        Ok(None)
    }
}

/// What a line says that has none of the standard's fields: an error, an object, or nothing.
fn fieldless(line: &Bytes) -> Option<Frame> {
    if line.starts_with(b"{") {
        return Some(Frame::Bare(line.clone()));
    }
    let (name, value) = line.split_at_checked(b"error:".len())?;
    let told = name.eq_ignore_ascii_case(b"error:") && !value.trim_ascii().is_empty();
    told.then(|| Frame::Error(line.slice_ref(value.trim_ascii())))
}

impl Data {
    fn len(&self) -> usize {
        match self {
            Self::One(line) => line.len(),
            Self::Many(whole) => whole.len(),
        }
    }

    fn join(self, line: &[u8]) -> Self {
        let mut whole = match self {
            Self::One(first) => BytesMut::from(first),
            Self::Many(whole) => whole,
        };
        whole.extend_from_slice(b"\n");
        whole.extend_from_slice(line);
        Self::Many(whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frames(chunks: &[&[u8]]) -> Vec<Frame> {
        let mut framer = Framer::default();
        let mut frames = Vec::new();
        for chunk in chunks {
            framer.push(chunk);
            while let Some(frame) = framer.next_frame().unwrap() {
                frames.push(frame);
            }
        }
        frames.extend(framer.finish());
        frames
    }

    fn data(text: &str) -> Frame {
        Frame::Data(Bytes::copy_from_slice(text.as_bytes()))
    }

    /// Goal: fields, comments, joined lines, a byte order mark and all line ends are read as the standard says.
    #[test]
    fn reads_the_standard() {
        let stream = b"\xef\xbb\xbfdata: a\n\n: hello\r\ndata:b\rdata:  c\r\revent: x\nid: 1\ndata\n\nretry: 1\n\nDATA: no\n\ndata: [DONE]";
        let lines = Frame::Lines(Bytes::from_static(b"b\n c"));
        let expected = [data("a"), Frame::Comment, lines, data(""), data("[DONE]")];
        assert_eq!(frames(&[stream]), expected);
    }

    /// Goal: an event that is named an error is one, and the name holds for that event alone.
    #[test]
    fn tells_error_events() {
        let named = Frame::Error(Bytes::from_static(b"x"));
        assert_eq!(
            frames(&[b"event: error\ndata: x\n\ndata: y\n\nevent:error\n\ndata: z\n\n"]),
            [named, data("y"), data("z")]
        );
    }

    /// Goal: a byte order mark before the data of an event is no part of it.
    #[test]
    fn a_mark_before_data_is_left_out() {
        let stream = "data: \u{feff}{}\n\ndata:\u{feff}[1,\ndata: 2]\n\ndata: a\u{feff}\n\n";
        let lines = Frame::Lines(Bytes::from_static(b"[1,\n2]"));
        assert_eq!(frames(&[stream.as_bytes()]), [data("{}"), lines, data("a\u{feff}")]);
    }

    /// Goal: a line beyond the bound is refused without being collected for ever, and so is an event of many lines.
    #[test]
    fn bounds_a_line() {
        let mut framer = Framer::new(10);
        framer.push(b"data: 12345");
        assert_eq!(framer.next_frame(), Err(LineTooLong));
        let mut framer = Framer::new(10);
        framer.push(b"data:12345\ndata:123\ndata\n");
        assert_eq!(framer.next_frame(), Ok(None));
        framer.push(b"data\n");
        assert_eq!(framer.next_frame(), Err(LineTooLong));
    }

    /// Goal: what a server says outside of the standard's fields is not lost: an error as a field, and an object alone.
    #[test]
    fn errors_outside_of_fields_are_told() {
        let error = Frame::Error(Bytes::from_static(b"{\"code\":1}"));
        let bare = Frame::Bare(Bytes::from_static(b"{\"error\":2}"));
        let told = frames(&[b"error: {\"code\":1}\n\n{\"error\":2}\nerrors: x\nerror:\ndata: a\n\n"]);
        assert_eq!(told, [error, bare, data("a")]);
    }

    proptest! {
        /// Goal: however the network cuts a stream, the same frames come out.
        /// Method: random text of the grammar's own characters, cut at random places, against the uncut stream.
        #[test]
        fn chunking_changes_nothing(stream in "(data: ?|[a:\r\n]|\r\n|\n\n|x){0,60}", cuts in prop::collection::vec(0usize..200, 0..10)) {
            let bytes = stream.as_bytes();
            let mut cuts: Vec<_> = cuts.into_iter().filter(|cut| *cut < bytes.len()).collect();
            cuts.sort_unstable();
            let (mut chunks, mut start) = (Vec::new(), 0);
            for cut in cuts {
                chunks.push(&bytes[start..cut]);
                start = cut;
            }
            chunks.push(&bytes[start..]);
            prop_assert_eq!(frames(&chunks), frames(&[bytes]));
            prop_assert_eq!(frames(&bytes.chunks(1).collect::<Vec<_>>()), frames(&[bytes]));
        }
    }
}
