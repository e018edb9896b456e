//! The one way this program fails: a line that says what it was doing and what went wrong.

use std::fmt;

/// What went wrong, ready to print.
#[derive(Debug)]
pub struct Error(String);

/// What everything that can fail returns.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error that is the message itself.
    pub fn new(message: impl Into<String>) -> Error {
        Error(message.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Says what was being done when something failed.
pub trait During<T> {
    /// `what: error`
    fn during(self, what: impl fmt::Display) -> Result<T>;
}

impl<T, E: fmt::Display> During<T> for std::result::Result<T, E> {
    fn during(self, what: impl fmt::Display) -> Result<T> {
        self.map_err(|e| Error(format!("{what}: {e}")))
    }
}
