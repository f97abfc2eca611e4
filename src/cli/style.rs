//! Colour: words are painted wherever they are made, and [`super::say`] takes the paint off where it is not wanted: where the output
//! is no terminal, or `NO_COLOR` is set.

use anstyle::{AnsiColor, Style};

/// What is well.
pub(super) const GREEN: Style = AnsiColor::Green.on_default();
/// What an operator should look at.
pub(super) const YELLOW: Style = AnsiColor::Yellow.on_default();
/// What is wrong.
pub(super) const RED: Style = AnsiColor::Red.on_default();

/// Text in a colour.
pub(super) fn paint(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// A problem of a configuration as a line, with the word that says how bad it is in colour.
pub(super) fn problem(line: &str) -> String {
    line.replacen(" warning: ", &format!(" {} ", paint(YELLOW, "warning:")), 1)
}

/// How wide a text is on a terminal, in characters.
pub(super) fn width(text: &str) -> usize {
    anstream::adapter::strip_str(text).to_string().chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: paint takes no room.
    #[test]
    fn paint_has_no_width() {
        assert_eq!((width("up"), width(&paint(GREEN, "up")), width("–")), (2, 2, 1));
        assert_ne!(paint(GREEN, "up"), "up");
    }
}
