use super::*;
use proptest::prelude::*;

fn boundary(content_type: &str) -> Option<Result<String, Fault>> {
    Boundary::of(content_type).map(|found| found.map(|boundary| boundary.0.into()))
}

fn b() -> Boundary {
    Boundary("b".into())
}

/// The body of one part with these headers and this content.
fn one(headers: &str, content: &str) -> String {
    format!("--b\r\n{headers}\r\n\r\n{content}\r\n--b--\r\n")
}

/// Names and contents of all parts.
fn read(body: &str) -> Result<Vec<(String, String)>, Fault> {
    let found = parts(body.as_bytes(), &b())?;
    Ok(found.into_iter().map(|part| (part.name.to_owned(), body[part.content].to_owned())).collect())
}

/// Goal: boundaries are 1 to 70 of the allowed characters, quoted where they are no token, and there once (RFC 2046).
#[test]
fn boundaries_are_read() {
    let long = "x".repeat(70);
    for (content_type, expected) in [
        ("multipart/form-data; boundary=abc".to_owned(), "abc"),
        ("Multipart/Form-Data ;  Boundary=\"a b:c\"".to_owned(), "a b:c"),
        (format!("multipart/form-data; boundary={long}"), &long),
        ("multipart/form-data;charset=UTF-8;boundary=abc".to_owned(), "abc"),
        ("multipart/form-data; boundary=abc; charset=\"utf-8\"".to_owned(), "abc"),
    ] {
        assert_eq!(boundary(&content_type), Some(Ok(expected.to_owned())), "{content_type}");
    }
    for bad in [
        "multipart/form-data".to_owned(),
        "multipart/form-data; boundary=".to_owned(),
        "multipart/form-data; boundary=\"\"".to_owned(),
        "multipart/form-data; boundary=\"a ".to_owned(),
        "multipart/form-data; boundary=\"a \"".to_owned(),
        "multipart/form-data; boundary=\"a\\\"b\"".to_owned(),
        "multipart/form-data; boundary=a; boundary=b".to_owned(),
        "multipart/form-data; charset=utf-16; boundary=a".to_owned(),
        "multipart/form-data; charset=utf-8".to_owned(),
        "multipart/form-data; boundary=a; start=b".to_owned(),
        "multipart/form-data; boundary*=utf-8''a".to_owned(),
        "multipart/form-data; boundary=a,b".to_owned(),
        "multipart/form-data; boundary=é".to_owned(),
        format!("multipart/form-data; boundary={long}x"),
    ] {
        assert!(matches!(boundary(&bad), Some(Err(_))), "{bad}");
    }
    assert_eq!(boundary("application/json"), None);
    assert_eq!(boundary("multipart/mixed; boundary=a"), None);
    assert_eq!(Boundary("a:b".into()).content_type(), "multipart/form-data; boundary=\"a:b\"");
    assert_eq!(Boundary("--a".into()).content_type(), "multipart/form-data; boundary=--a");
}

/// Goal: what clients send is read: fields, files, any bytes, content with line ends and dashes.
#[test]
fn parts_are_found() {
    let body = "--b\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\nm/x\r\n\
                --b\r\nContent-Type: image/png\r\nContent-Disposition: form-data; name=\"image[]\"; filename=\"C:\\a; name=.png\"\r\n\r\n\r\n--x\n-b\r\n\r\n\r\n\
                --b\r\nContent-Disposition: form-data;name=mask;filename*=utf-8''%e2%82%ac\r\nX-Any: y\r\n\r\n\r\n--b--";
    let found = parts(body.as_bytes(), &b()).unwrap();
    let names: Vec<_> = found.iter().map(|part| (part.name, part.is_file, part.is_plain)).collect();
    assert_eq!(names, [("model", false, true), ("image[]", true, false), ("mask", true, true)]);
    let contents: Vec<_> = found.iter().map(|part| &body[part.content.clone()]).collect();
    assert_eq!(contents, ["m/x", "\r\n--x\n-b\r\n\r\n", ""]);
}

/// Goal: what two parsers may read in two ways is refused.
#[test]
fn doubtful_bodies_are_refused() {
    let field = "Content-Disposition: form-data; name=\"a\"";
    let good = one(field, "x");
    for same in [good.clone(), format!("{good}\r\n"), good[..good.len() - 2].to_owned()] {
        assert_eq!(read(&same), Ok(vec![("a".into(), "x".into())]));
    }
    for (why, body) in [
        ("a preamble", format!("hello\r\n{good}")),
        ("a line end before it", format!("\r\n{good}")),
        ("an epilogue", format!("{good}hello")),
        ("a second end", format!("{good}--b--\r\n")),
        ("no end", good.replace("--b--\r\n", "")),
        ("half an end", good.replace("--b--\r\n", "--b-")),
        ("cut", good[..good.len() - 4].to_owned()),
        ("line feeds alone", good.replace("\r\n", "\n")),
        ("a line feed before the boundary", good.replace("x\r\n--b--", "x\n--b--")),
        ("a boundary inside a line", one(field, "x--b")),
        ("a boundary after a line feed", one(field, "x\n--b\n")),
        ("a longer boundary", one(field, "x\r\n--bc\r\n")),
        ("space after a boundary", good.replacen("--b\r\n", "--b \r\n", 1)),
        ("no part", "--b--\r\n".to_owned()),
        ("nothing", String::new()),
        ("no headers", "--b\r\n\r\nx\r\n--b--\r\n".to_owned()),
        ("no end of headers", "--b\r\nContent-Disposition: form-data; name=\"a\"\r\n--b--\r\n".to_owned()),
        ("folded headers", one("Content-Disposition: form-data;\r\n name=\"a\"", "x")),
        ("a line feed in headers", one(&format!("X: y\n{field}"), "x")),
        ("a carriage return in headers", one(&format!("X: y\r{field}"), "x")),
        ("a space before the colon", one("Content-Disposition : form-data; name=\"a\"", "x")),
        ("two dispositions", one(&format!("{field}\r\n{field}"), "x")),
        ("two types", one(&format!("{field}\r\nContent-Type: a/b\r\ncontent-type: c/d"), "x")),
        ("parts in parts", one(&format!("{field}\r\nContent-Type: multipart/mixed; boundary=c"), "x")),
        ("a wrong length", one(&format!("{field}\r\nContent-Length: 2"), "x")),
        ("no disposition", one("Content-Type: text/plain", "x")),
        ("an attachment", one("Content-Disposition: attachment; name=\"a\"", "x")),
        ("two names", one(&format!("{field}; name=\"b\""), "x")),
        ("two names in other letters", one(&format!("{field}; Name=\"b\""), "x")),
        ("an extended name", one("Content-Disposition: form-data; name*=utf-8''a", "x")),
        ("no name", one("Content-Disposition: form-data", "x")),
        ("an empty name", one("Content-Disposition: form-data; name=\"\"", "x")),
        ("an open quote", one("Content-Disposition: form-data; name=\"a", "x")),
        ("an escaped quote", one("Content-Disposition: form-data; filename=\"a\\\"; name=\"a\"", "x")),
        ("an escape in a name", one("Content-Disposition: form-data; name=\"\\a\"", "x")),
        ("percent in a name", one("Content-Disposition: form-data; name=\"%61\"", "x")),
        ("an encoded word", one("Content-Disposition: form-data; name=\"=?utf-8?q?a?=\"", "x")),
        ("text after a value", one("Content-Disposition: form-data; name=\"a\"b", "x")),
        ("a semicolon too many", one("Content-Disposition: form-data; name=\"a\";", "x")),
        ("an unknown parameter", one(&format!("{field}; charset=utf-7"), "x")),
        ("long headers", one(&format!("{field}\r\nX: {}", "y".repeat(HEADERS_MAX)), "x")),
    ] {
        let read = read(&body);
        assert!(read.is_err() || why == "no part" && read == Ok(vec![]), "{why}: {read:?}");
    }
    let part = format!("--b\r\n{field}\r\n\r\nx\r\n");
    assert!(read(&format!("{}--b--", part.repeat(PARTS_MAX))).is_ok());
    assert!(read(&format!("{}--b--", part.repeat(PARTS_MAX + 1))).is_err());
}

/// Goal: only plain text is plain.
#[test]
fn plain_text_is_told() {
    for (header, plain) in [
        ("Content-Type: text/plain", true),
        ("Content-Type: Text/Plain; Charset=\"UTF-8\"", true),
        ("Content-Transfer-Encoding: 8BIT", true),
        ("Content-Type: text/plain; charset=utf-16", false),
        ("Content-Type: application/json", false),
        ("Content-Transfer-Encoding: base64", false),
        ("Content-Transfer-Encoding: quoted-printable", false),
    ] {
        let body = one(&format!("Content-Disposition: form-data; name=\"a\"\r\n{header}"), "x");
        assert_eq!(parts(body.as_bytes(), &b()).unwrap()[0].is_plain, plain, "{header}");
    }
}

proptest! {
    /// Goal: whatever fields and bytes a form is made of, they come back as they are.
    #[test]
    fn forms_come_back(parts_in in prop::collection::vec(("[a-z\\[\\]_.-]{1,12}", prop::collection::vec(any::<u8>(), 0..200)), 1..20)) {
        let mark = "----form-0123456789";
        let mut body = Vec::new();
        for (name, content) in &parts_in {
            body.extend_from_slice(format!("--{mark}\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"f\"\r\n\r\n").as_bytes());
            body.extend_from_slice(content);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(format!("--{mark}--\r\n").as_bytes());
        let found = parts(&body, &Boundary(mark.into())).unwrap();
        prop_assert_eq!(found.len(), parts_in.len());
        for (part, (name, content)) in found.iter().zip(&parts_in) {
            prop_assert_eq!((part.name, &body[part.content.clone()]), (name.as_str(), &content[..]));
        }
    }

    /// Goal: bytes of the grammar in any order never panic; what is accepted covers the body, part after part, and
    /// equals what a naive reading says.
    #[test]
    fn hostile_bodies_are_read_like_anyone_reads_them(
        pieces in prop::collection::vec("(--b|--b--|\r\n|\n|\r|Content-Disposition: form-data; name=\"a\"|Content-Disposition: form-data; name=model|; filename=\"x\\\\\"|:|;|\"|x| |\r\n\r\n)", 0..24),
    ) {
        let text = format!("--b\r\nContent-Disposition: form-data; name=\"n\"{}", pieces.concat());
        let Ok(found) = parts(text.as_bytes(), &b()) else { return Ok(()) };
        // The most naive parser there is.
        let inner = text.trim_end().strip_suffix("--").unwrap();
        let naive: Vec<_> = inner.split("--b").filter(|part| !part.is_empty()).map(|part| {
            let (headers, content) = part.split_once("\r\n\r\n").unwrap();
            (headers.contains("name=\"a\"") || headers.contains("name=model"), content.strip_suffix("\r\n").unwrap())
        }).collect();
        prop_assert_eq!(found.len(), naive.len());
        for (part, (_, content)) in found.iter().zip(naive) {
            prop_assert_eq!(&text[part.content.clone()], content);
        }
    }

    /// Goal: arbitrary bytes never panic.
    #[test]
    fn never_panics(body: Vec<u8>, content_type: String) {
        let _ = parts(&body, &b());
        let _ = Boundary::of(&content_type);
        let _ = Boundary::of(&format!("multipart/form-data; {content_type}"));
    }
}
