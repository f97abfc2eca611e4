//! Colours of states, on terminals alone (<https://no-color.org>).

use std::io::{IsTerminal, stdout};

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

/// Whether standard output is coloured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Palette(bool);

impl Palette {
    /// Colours where standard output is a terminal, unless `NO_COLOR` is set; everywhere if `CLICOLOR_FORCE` is.
    pub(super) fn of_stdout() -> Self {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty() && value != "0");
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self(!set("NO_COLOR") && (set("CLICOLOR_FORCE") || stdout().is_terminal() && !is_dumb))
    }

    /// Colours or none, whatever standard output is.
    #[cfg(test)]
    pub(super) fn fixed(coloured: bool) -> Self {
        Self(coloured)
    }

    /// A text in the colour of its tone.
    pub(super) fn paint(self, text: &str, tone: Tone) -> String {
        let code = match tone {
            Tone::Good => "32",
            Tone::Warn => "33",
            Tone::Bad => "1;31",
            Tone::Plain => return text.to_owned(),
        };
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// A state of health in its colour.
    pub(super) fn state(self, word: &str) -> String {
        self.paint(word, tone(word))
    }
}

/// The tone of a state of health.
pub(super) fn tone(state: &str) -> Tone {
    match state {
        "up" => Tone::Good,
        "failing" | "ejected" | "out" => Tone::Bad,
        "disabled" | "draining" => Tone::Plain,
        _ => Tone::Warn,
    }
}
