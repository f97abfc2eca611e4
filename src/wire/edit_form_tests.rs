use super::*;
use crate::wire::splice::splice;

fn boundary() -> Boundary {
    Boundary::of("multipart/form-data; boundary=b").unwrap().unwrap()
}

/// A form of these fields.
fn form(fields: &[(&str, &str)]) -> String {
    let part = |(name, value): &(&str, &str)| {
        format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    fields.iter().map(part).collect::<String>() + "--b--\r\n"
}

fn parse(body: &str) -> Result<EditForm, Refusal> {
    EditForm::parse(body.as_bytes(), &boundary())
}

/// Goal: each governed field is read, images are counted, and nothing but the model is edited (spec 11.4).
#[test]
fn forms_are_read_and_renamed() {
    let body = form(&[
        ("prompt", "a red boat"),
        ("image[]", "\u{0}\u{1}"),
        ("image[1]", "x"),
        ("mask", "y"),
        ("model", "p/m"),
        ("n", "2"),
        ("size", "auto"),
        ("quality", "low"),
        ("stream", "true"),
        ("user", "u\""),
        ("other", "model"),
    ]);
    let read = parse(&body).unwrap();
    assert_eq!((&*read.model, read.stream, read.choices), ("p/m", true, 2));
    assert_eq!((read.wishes.size.as_deref(), read.wishes.quality.as_deref()), (Some("auto"), Some("low")));
    assert_eq!((read.prompt.images, read.prompt.text_bytes), (3, 10));
    assert_eq!(read.user.as_deref(), Some(r#""u\"""#));
    let edit = EditForm::rename(&read.place, &boundary(), "gpt-image-up").unwrap();
    let spliced = splice(&Bytes::from(body.clone()), vec![edit]);
    assert_eq!(spliced.parts().concat(), body.replace("p/m", "gpt-image-up").as_bytes());
}

/// Goal: what may be read in two ways is refused, with the field at fault where there is one.
#[test]
fn doubtful_forms_are_refused() {
    let model = ("model", "p/m");
    let refused = |fields: &[(&str, &str)]| parse(&form(fields)).unwrap_err();
    assert_eq!(refused(&[("prompt", "x")]), Refusal::MissingParameter("model"));
    for (fields, at_fault) in [
        (vec![model, model], "model"),
        (vec![("model", "")], "model"),
        (vec![model, ("Model", "x")], "model"),
        (vec![model, ("model[]", "x")], "model"),
        (vec![model, ("model.x", "x")], "model"),
        (vec![model, ("\u{17f}tream", "true")], "stream"),
        (vec![model, ("stream", "true"), ("stream", "false")], "stream"),
        (vec![model, ("stream", "True")], "stream"),
        (vec![model, ("stream", "1")], "stream"),
        (vec![model, ("n", "0")], "n"),
        (vec![model, ("n", "01")], "n"),
        (vec![model, ("n", "+1")], "n"),
        (vec![model, ("n", "1.0")], "n"),
        (vec![model, ("n", "129")], "n"),
        (vec![model, ("n", "")], "n"),
        (vec![model, ("size", "a"), ("size", "b")], "size"),
        (vec![model, ("prompt", "a"), ("prompt", "b")], "prompt"),
    ] {
        match refused(&fields) {
            Refusal::InvalidValue { param, .. } => assert_eq!(param, at_fault, "{fields:?}"),
            other => panic!("{fields:?}: {other:?}"),
        }
    }
    assert!(matches!(refused(&[model, ("_charset_", "utf-16")]), Refusal::BadForm(_)));
    assert!(parse(&form(&[model, ("_charset_", "UTF-8"), ("svg[model]", "x"), ("models", "y")])).is_ok());
    for headers in
        ["; filename=\"x\"", "\r\nContent-Type: application/json", "\r\nContent-Transfer-Encoding: base64"]
    {
        let body = form(&[model]).replace("\"model\"", &format!("\"model\"{headers}"));
        assert!(matches!(parse(&body), Err(Refusal::InvalidValue { param: "model", .. })), "{headers}");
    }
}

/// Goal: no name of an upstream can change the structure of a form.
#[test]
fn names_stay_inside_their_part() {
    assert!(EditForm::rename(&(0..1), &boundary(), "--bad\r\n").is_none());
    assert!(EditForm::rename(&(0..1), &boundary(), "--b").is_none());
    assert!(EditForm::rename(&(0..1), &boundary(), "--a").is_some());
}
