//! What is wrong with a configuration, and where.

use std::fmt;
use std::path::{Path, PathBuf};

/// A place in the file, both from 1; 0 where it is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Position {
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1, in characters.
    pub column: u32,
}

/// Severity of a [`Problem`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Severity {
    /// The file cannot be used.
    #[default]
    Error,
    /// The file can be used, and probably does not do what its author means.
    Warning,
}

/// One problem or warning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Its severity.
    pub severity: Severity,
    /// Where it stands.
    pub at: Position,
    /// The member, as a path: `channels[0].base_url`; empty for the file.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// Everything that is wrong with one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    /// The file.
    pub file: PathBuf,
    /// The problems, at least one of them an error, in the order of the file.
    pub list: Vec<Problem>,
}

impl Problem {
    /// An error without a hint.
    pub(super) fn new(at: Position, path: String, message: String) -> Self {
        Self { severity: Severity::Error, at, path, message, hint: None }
    }

    /// The problem behind the name of its file: `file:line:column: …`.
    #[must_use]
    pub fn in_file(&self, file: &Path) -> String {
        let space = if self.at.line > 0 { "" } else { " " };
        format!("{}:{space}{self}", file.display())
    }
}

impl fmt::Display for Problem {
    /// `line:column: path: message (hint)`; a warning has `warning: ` before its path.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.at.line > 0 {
            write!(f, "{}:{}: ", self.at.line, self.at.column)?;
        }
        if self.severity == Severity::Warning {
            f.write_str("warning: ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        write!(f, "{}", self.message)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, " ({hint})"))
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.list.iter().enumerate() {
            let end = if index == 0 { "" } else { "\n" };
            write!(f, "{end}{}", problem.in_file(&self.file))?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
