//! Multipart bodies, read strictly (RFC 7578, RFC 2046): where the parts are and what they are called.
//!
//! What is read here is what the upstream has to read, whatever parser it uses. So this one takes only what every parser
//! reads alike, which is what clients send, and refuses the rest: line feeds alone, folded headers, a boundary inside of a
//! part, text before the first part or after the last, escapes in names, names given twice. Nothing is copied; parts are
//! spans of the body. Contents may be any bytes.

use memchr::memmem::Finder;
use std::ops::Range;

/// Parts of one body: sixteen images, a mask, and more fields than there are.
pub const PARTS_MAX: usize = 128;
/// Bytes of the headers of one part.
pub const HEADERS_MAX: usize = 4 * 1024;
/// The longest boundary (RFC 2046, 5.1.1).
const BOUNDARY_MAX: usize = 70;

/// What separates the parts of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boundary(Box<str>);

/// One part of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part<'a> {
    /// The name of its field.
    pub name: &'a str,
    /// Whether it is a file, by having a file's name.
    pub is_file: bool,
    /// Whether its content is plain text as it stands: neither of another type, nor in another character set, nor encoded.
    pub is_plain: bool,
    /// Where its content stands.
    pub content: Range<usize>,
    /// Where all of it stands, the boundary before it included: without that, the rest is a form still.
    pub whole: Range<usize>,
}

/// Why a body cannot be read in one way alone, as the end of a sentence.
pub type Fault = &'static str;

impl Boundary {
    /// The boundary that a `Content-Type` names.
    ///
    /// # Errors
    ///
    /// It is multipart, and its boundary is missing or cannot be read in one way alone; `None` if it is not multipart.
    pub fn of(content_type: &str) -> Option<Result<Self, Fault>> {
        let (essence, rest) = content_type.split_once(';').unwrap_or((content_type, ""));
        essence.trim().eq_ignore_ascii_case("multipart/form-data").then(|| {
            let mut parameters = Parameters(rest);
            let mut boundary = None;
            while let Some((name, value)) = parameters.next()? {
                let name = name.to_ascii_lowercase();
                match &*name {
                    "boundary" if boundary.is_none() => boundary = Some(value),
                    // Some clients add it; upstreams are not sent it, because it means nothing there.
                    "charset" if ["utf-8", "us-ascii"].contains(&&*value.to_ascii_lowercase()) => {}
                    "charset" => return Err("is not in UTF-8"),
                    "boundary" => return Err("has a Content-Type with more than one boundary"),
                    _ => return Err("has a Content-Type with a parameter that forms do not have"),
                }
            }
            let boundary = boundary.ok_or("has no boundary in its Content-Type")?;
            let legal = |c: char| c.is_ascii_alphanumeric() || "'()+_,-./:=? ".contains(c);
            if boundary.len() > BOUNDARY_MAX
                || boundary.is_empty()
                || boundary.ends_with(' ')
                || !boundary.chars().all(legal)
            {
                return Err("has a boundary that is not 1 to 70 characters of those allowed");
            }
            Ok(Self(boundary.into()))
        })
    }

    /// The `Content-Type` that names it.
    #[must_use]
    pub fn content_type(&self) -> String {
        let plain = self.0.bytes().all(is_token);
        let quote = if plain { "" } else { "\"" };
        format!("multipart/form-data; boundary={quote}{}{quote}", self.0)
    }

    /// Whether a line that begins like this would be taken for a boundary.
    #[must_use]
    pub fn begins(&self, line: &str) -> bool {
        line.strip_prefix("--").is_some_and(|rest| rest.starts_with(&*self.0))
    }
}

/// The parts of a body, in their order.
///
/// # Errors
///
/// The first [`Fault`].
pub fn parts<'a>(body: &'a [u8], boundary: &Boundary) -> Result<Vec<Part<'a>>, Fault> {
    let dashed = format!("--{}", boundary.0);
    let finder = Finder::new(&dashed);
    let mut marks = finder.find_iter(body);
    if marks.next() != Some(0) {
        return Err("does not begin with its boundary");
    }
    let mut parts = Vec::new();
    let mut at = dashed.len();
    loop {
        match body.get(at..).unwrap_or_default() {
            [b'\r', b'\n', ..] => {}
            [b'-', b'-', rest @ ..] if rest.iter().all(|byte| matches!(byte, b'\r' | b'\n')) => {
                return if marks.next().is_none() { Ok(parts) } else { Err(UNCLEAR) };
            }
            [b'-', b'-', ..] => return Err("goes on after its last boundary"),
            _ => return Err(UNCLEAR),
        }
        let end = marks.next().ok_or("ends before its last boundary")?;
        // The line end before a boundary belongs to the boundary.
        let whole = (at + 2)..end.saturating_sub(2);
        let is_line = body.get(whole.end..end) == Some(b"\r\n");
        let inside = body.get(whole.clone()).filter(|_| is_line).ok_or(UNCLEAR)?;
        if parts.len() == PARTS_MAX {
            return Err("has more than 128 parts");
        }
        parts.push(part(inside, whole.start, at - dashed.len()..end)?);
        at = end + dashed.len();
    }
}

const UNCLEAR: Fault = "has its boundary where none can be";

/// Reads one part: headers, an empty line, content.
fn part(inside: &[u8], start: usize, whole: Range<usize>) -> Result<Part<'_>, Fault> {
    let searched = inside.get(..inside.len().min(HEADERS_MAX)).unwrap_or_default();
    let end =
        memchr::memmem::find(searched, b"\r\n\r\n").ok_or("has a part without an end of its headers")?;
    let headers = searched.get(..end).unwrap_or_default();
    let headers = std::str::from_utf8(headers).map_err(|_| "has a part whose headers are not UTF-8")?;
    let mut head = Head::default();
    for line in headers.split("\r\n") {
        head.line(line)?;
    }
    let content = start + end + 4..start + inside.len();
    if head.length.is_some_and(|length| length != content.len().to_string()) {
        return Err("has a part whose Content-Length is not its length");
    }
    let (name, is_file) = disposition(head.disposition.ok_or("has a part without Content-Disposition")?)?;
    Ok(Part { name, is_file, is_plain: head.is_plain()?, content, whole })
}

/// The headers of a part that decide how it is read.
#[derive(Default)]
struct Head<'a> {
    disposition: Option<&'a str>,
    kind: Option<&'a str>,
    coding: Option<&'a str>,
    length: Option<&'a str>,
}

impl<'a> Head<'a> {
    fn line(&mut self, line: &'a str) -> Result<(), Fault> {
        let (name, value) = line.split_once(':').ok_or("has a part with a header that is none")?;
        // A line that goes on the one before it begins with a space, which no name does.
        if name.is_empty()
            || !name.bytes().all(is_token)
            || line.contains(|c: char| c.is_control() && c != '\t')
        {
            return Err("has a part with a header that is none");
        }
        let slot = if name.eq_ignore_ascii_case("content-disposition") {
            &mut self.disposition
        } else if name.eq_ignore_ascii_case("content-type") {
            &mut self.kind
        } else if name.eq_ignore_ascii_case("content-transfer-encoding") {
            &mut self.coding
        } else if name.eq_ignore_ascii_case("content-length") {
            &mut self.length
        } else {
            return Ok(());
        };
        match slot.replace(value.trim_matches([' ', '\t'])) {
            None => Ok(()),
            Some(_) => Err("has a part with a header that is there twice"),
        }
    }

    fn is_plain(&self) -> Result<bool, Fault> {
        let kind = self.kind.unwrap_or("text/plain").to_ascii_lowercase();
        if kind.starts_with("multipart/") {
            return Err("has a part that consists of parts");
        }
        let (essence, rest) = kind.split_once(';').unwrap_or((&kind, ""));
        let charset = rest.trim().trim_end_matches('"').replace("charset=\"", "charset=");
        let coding = self.coding.unwrap_or("8bit").to_ascii_lowercase();
        Ok(essence.trim() == "text/plain"
            && matches!(&*charset, "" | "charset=utf-8" | "charset=us-ascii")
            && matches!(&*coding, "7bit" | "8bit" | "binary"))
    }
}

/// The name of a field, and whether it is a file.
fn disposition(value: &str) -> Result<(&str, bool), Fault> {
    const UNCLEAR: Fault = "has a part whose Content-Disposition cannot be read in one way alone";
    let (kind, rest) = value.split_once(';').unwrap_or((value, ""));
    if !kind.eq_ignore_ascii_case("form-data") {
        return Err("has a part that is no form-data");
    }
    let (mut name, mut file, mut file_extended) = (None, None, None);
    let mut parameters = Parameters(rest);
    while let Some((parameter, value)) = parameters.next()? {
        let slot = match parameter.to_ascii_lowercase().as_str() {
            "name" => &mut name,
            "filename" => &mut file,
            "filename*" => &mut file_extended,
            _ => return Err(UNCLEAR),
        };
        if slot.replace(value).is_some() {
            return Err(UNCLEAR);
        }
    }
    let name = name.ok_or("has a part without a name")?;
    // Each of these is an escape to one parser and a character to another.
    if name.is_empty() || name.contains(['\\', '%', '&', '=']) {
        return Err("has a part with a name that cannot be read in one way alone");
    }
    Ok((name, file.or(file_extended).is_some()))
}

/// What follows the first word of a header: `; name=value` or `; name="value"`, again and again.
struct Parameters<'a>(&'a str);

impl<'a> Parameters<'a> {
    /// The next parameter; not an iterator, since nothing comes after a fault.
    fn next(&mut self) -> Result<Option<(&'a str, &'a str)>, Fault> {
        const UNCLEAR: Fault = "has a parameter in a header that cannot be read in one way alone";
        let rest = self.0.trim_start_matches([' ', '\t']);
        if rest.is_empty() {
            return Ok(None);
        }
        let (name, rest) = rest.split_once('=').ok_or(UNCLEAR)?;
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(UNCLEAR);
        }
        let (value, rest) = match rest.strip_prefix('"') {
            Some(rest) => {
                let (value, rest) = rest.split_once('"').ok_or(UNCLEAR)?;
                // Whether a backslash takes the next character along is read differently.
                if value.ends_with('\\') {
                    return Err(UNCLEAR);
                }
                (value, rest)
            }
            None => {
                let end = rest.find([';', ' ', '\t']).unwrap_or(rest.len());
                let (value, rest) = rest.split_at_checked(end).ok_or(UNCLEAR)?;
                if value.is_empty() || !value.bytes().all(is_token) {
                    return Err(UNCLEAR);
                }
                (value, rest)
            }
        };
        let rest = rest.trim_start_matches([' ', '\t']);
        self.0 = match rest.strip_prefix(';') {
            Some(more) if !more.trim().is_empty() => more,
            None if rest.is_empty() => "",
            _ => return Err(UNCLEAR),
        };
        Ok(Some((name, value)))
    }
}

/// Whether a byte may stand in a token (RFC 9110, 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
#[path = "multipart_tests.rs"]
mod tests;
