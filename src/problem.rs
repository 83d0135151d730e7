//! An error that a person can act on: what was wrong, and a hint at what to do.
//!
//! Everything that a user can cause is reported as a [`Problem`] (inside an `anyhow::Error`), or as a typed error of the
//! room that a caller acts on. It knows nothing of printing: `cli/error.rs` does that.

/// What was wrong, with an optional hint that works.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Problem {
    message: String,
    hint: Option<String>,
}

impl Problem {
    /// A problem without a hint. The message is lower case, values in backticks, no full stop.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
        }
    }

    /// Adds what the user can do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What the user can do about it.
    pub fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}
