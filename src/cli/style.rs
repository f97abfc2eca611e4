//! Colours of states and of problems: text is styled wherever it is made, and [`super::say`] and [`super::hint`] strip
//! the codes where they are not wanted: where the output is no terminal, or `NO_COLOR` is set (<https://no-color.org>).

use anstyle::{AnsiColor, Style};

/// The meaning of a word, as the status page colours it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    /// All is well.
    Good,
    /// It passes by itself, or needs a look.
    Warn,
    /// It fails.
    Bad,
    /// Nothing to say.
    Plain,
}

impl Tone {
    /// The tone of a state of health.
    pub(super) fn of_state(state: &str) -> Self {
        match state {
            "up" => Self::Good,
            "failing" | "ejected" | "out" => Self::Bad,
            "disabled" | "draining" => Self::Plain,
            _ => Self::Warn,
        }
    }

    fn style(self) -> Style {
        match self {
            Self::Good => AnsiColor::Green.on_default(),
            Self::Warn => AnsiColor::Yellow.on_default(),
            Self::Bad => AnsiColor::Red.on_default().bold(),
            Self::Plain => Style::new(),
        }
    }
}

/// A text in the colour of its tone.
pub(super) fn paint(tone: Tone, text: &str) -> String {
    let style = tone.style();
    format!("{style}{text}{style:#}")
}

/// A state of health in its colour.
pub(super) fn state(word: &str) -> String {
    paint(Tone::of_state(word), word)
}

/// A problem of a configuration as a line, with the word that says how bad it is in colour.
pub(super) fn problem(line: &str) -> String {
    line.replacen(" warning: ", &format!(" {} ", paint(Tone::Warn, "warning:")), 1)
}

/// The width of a text on a terminal, in characters.
pub(super) fn width(text: &str) -> usize {
    anstream::adapter::strip_str(text).to_string().chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: paint takes no room.
    #[test]
    fn paint_has_no_width() {
        assert_eq!((width("up"), width(&paint(Tone::Good, "up")), width("–")), (2, 2, 1));
        assert_eq!(paint(Tone::Good, "up"), "\u{1b}[32mup\u{1b}[0m");
        assert_eq!(paint(Tone::Plain, "up"), "up");
    }
}
