//! Tables that fit the terminal: as wide as need be, and no wider than it is.

use super::style::{Tone, paint};
use std::io::stdout;

/// What the last column gets beside the others; with less it goes to lines of its own.
const LAST_MIN: usize = 24;
/// Indentation of those lines.
const INDENT: usize = 4;
/// The least that is left of a name.
const NAME_MIN: usize = 12;

/// A cell, and the tone in which it is shown.
#[derive(Debug, Clone)]
pub(super) struct Cell(pub(super) String, pub(super) Tone);

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self(text, Tone::Plain)
    }
}

/// The width of the terminal, in characters: `COLUMNS` where it is set; `None` if standard output is no terminal.
pub(super) fn width() -> Option<usize> {
    let told = std::env::var_os("COLUMNS").and_then(|columns| columns.to_str()?.parse().ok());
    let told = told.filter(|columns: &usize| *columns > 0);
    told.or_else(|| rustix::termios::tcgetwinsize(stdout()).ok().map(|size| usize::from(size.ws_col)))
        .filter(|columns| *columns > 0)
}

/// Rows under their heads. The last column is wrapped: beside the others if there is room, else below them.
pub(super) fn table(
    head: &[&str],
    mut rows: Vec<Vec<Cell>>,
    left_out: usize,
    width: Option<usize>,
) -> String {
    let last = head.len().saturating_sub(1);
    let mut widths = widths(head, &rows);
    let others: usize = widths.iter().take(last).map(|column| column + 2).sum();
    let room = width.unwrap_or(usize::MAX).saturating_sub(others);
    let natural = widths.last().copied().unwrap_or(0);
    let is_below = natural > room && room < LAST_MIN;
    if let (Some(width), Some(first)) = (width, widths.first_mut()) {
        // Figures cannot be cut, names can.
        let over = others.saturating_sub(2).saturating_sub(width);
        if over > 0 && last > 0 {
            *first = first.saturating_sub(over).max(NAME_MIN.min(*first));
            rows.iter_mut().filter_map(|row| row.first_mut()).for_each(|cell| cut(&mut cell.0, *first));
        }
    }
    let mut lines = vec![String::new(), line(head.iter().map(|name| (*name, Tone::Plain)), &widths)];
    for row in &rows {
        let cells = row.iter().map(|cell| (cell.0.as_str(), cell.1));
        let note = row.get(last).map_or("", |cell| cell.0.as_str());
        match (is_below, natural > room) {
            (true, _) => {
                lines.push(line(cells.take(last), &widths));
                let room = width.unwrap_or(usize::MAX).saturating_sub(INDENT);
                lines.extend(wrapped(note, room).into_iter().map(|part| format!("{:INDENT$}{part}", "")));
            }
            (false, true) => {
                let mut parts = wrapped(note, room).into_iter();
                let first = parts.next().unwrap_or_default();
                lines.push(line(cells.take(last).chain([(&*first, Tone::Plain)]), &widths));
                lines.extend(parts.map(|part| format!("{:others$}{part}", "")));
            }
            (false, false) => lines.push(line(cells, &widths)),
        }
    }
    if left_out > 0 {
        lines.push(format!("and {left_out} more"));
    }
    lines.join("\n")
}

fn widths(head: &[&str], rows: &[Vec<Cell>]) -> Vec<usize> {
    let width = |(column, name): (usize, &&str)| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.0.chars().count());
        cells.chain([name.chars().count()]).max().unwrap_or(0)
    };
    head.iter().enumerate().map(width).collect()
}

/// One line without space at its end.
fn line<'a>(cells: impl Iterator<Item = (&'a str, Tone)>, widths: &[usize]) -> String {
    let (mut line, mut pending) = (String::new(), 0);
    for ((text, tone), width) in cells.zip(widths) {
        if !text.is_empty() {
            line.push_str(&" ".repeat(pending));
            line.push_str(&paint(tone, text));
            pending = 0;
        }
        pending += width.saturating_sub(text.chars().count()) + 2;
    }
    line
}

/// Cuts a text to this many characters, the last of which says so.
fn cut(text: &mut String, max: usize) {
    if text.chars().count() > max {
        *text = text.chars().take(max.saturating_sub(1)).chain(['…']).collect();
    }
}

/// A text in lines of at most so many characters, broken between words where that is possible; none for no text.
pub(super) fn wrapped(text: &str, max: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let mut word: Vec<char> = word.chars().collect();
        if let Some(line) = lines.last_mut()
            && line.chars().count() + 1 + word.len() <= max
        {
            line.push(' ');
            line.extend(word);
            continue;
        }
        while word.len() > max.max(1) {
            let rest = word.split_off(max.max(1));
            lines.push(word.into_iter().collect());
            word = rest;
        }
        lines.push(word.into_iter().collect());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Vec<Cell>> {
        let cell = |text: &str| Cell::from(text.to_owned());
        vec![
            vec![cell("east"), cell("up"), cell("")],
            vec![
                cell("a-channel-with-a-long-name"),
                cell("out"),
                cell("credential_refused (401), 1 h 4 min left"),
            ],
        ]
    }

    fn shown(width: Option<usize>) -> String {
        table(&["CHANNEL", "STATE", ""], rows(), 0, width)
    }

    /// Goal: a wide terminal is used as it is, a narrower one wraps the reason beside the figures or below them, and no
    /// line is longer than the terminal.
    #[test]
    fn tables_fit_the_terminal() {
        let whole = "\nCHANNEL                     STATE\neast                        up\n\
                     a-channel-with-a-long-name  out    credential_refused (401), 1 h 4 min left";
        assert_eq!((shown(None).as_str(), shown(Some(200)).as_str()), (whole, whole));
        let beside = "\nCHANNEL                     STATE\neast                        up\n\
                      a-channel-with-a-long-name  out    credential_refused\n\
                      \u{20}                                  (401), 1 h 4 min left";
        assert_eq!(shown(Some(59)), beside);
        let below = "\nCHANNEL                     STATE\neast                        up\n\
                     a-channel-with-a-long-name  out\n    credential_refused (401), 1 h 4 min\n    left";
        assert_eq!(shown(Some(40)), below);
        for width in 20..120 {
            let shown = shown(Some(width));
            assert!(shown.lines().all(|line| line.chars().count() <= width), "{width}: {shown}");
        }
    }

    /// Goal: colours change no column.
    #[test]
    fn colours_have_no_width() {
        let rows = || vec![vec![Cell("up".into(), Tone::Good), "x".to_owned().into()]];
        let coloured = table(&["STATE", "Y"], rows(), 0, None);
        assert_eq!(coloured, "\nSTATE  Y\n\u{1b}[32mup\u{1b}[0m     x");
    }
}
