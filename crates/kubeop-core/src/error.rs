//! The one error of kubeOP: an outward sentence and, apart from it, the internal cause.
//!
//! Invariant: `message` may be shown to the caller as it is; `source` never leaves the process except into the log.

use std::error::Error as StdError;
use std::fmt;

/// What every fallible domain and adapter function returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The class of an error; HTTP statuses and condition reasons derive from it in one place each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The input breaks a rule the message names (400).
    Invalid,
    /// No valid credential (401).
    Unauthenticated,
    /// A valid credential that may not do this (403).
    Forbidden,
    /// Not there, or not the caller's to see: the same answer (404).
    NotFound,
    /// Clashes with what exists (409).
    Conflict,
    /// `If-Match` named another version (412).
    PreconditionFailed,
    /// No form the operation can answer in is one the caller accepts (406).
    NotAcceptable,
    /// The body does not come in time (408).
    TooSlow,
    /// The body is larger than the operation takes (413).
    TooLarge,
    /// The body is not of a type the operation reads (415).
    UnsupportedMediaType,
    /// The caller sends too much (429).
    TooManyRequests,
    /// Something this process needs does not answer; trying again may help (503).
    Unavailable,
    /// A defect or an unexpected failure; the message stays general (500).
    Internal,
}

/// An error with an outward message (lower case, no final full stop, names the value and what is allowed) and an internal cause.
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of `kind` whose `message` the caller may see.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// The input breaks a rule.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// Not there, or not the caller's to see.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    /// Clashes with what exists.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Conflict, message)
    }

    /// Not allowed for this caller.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Forbidden, message)
    }

    /// Something needed does not answer.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unavailable, message)
    }

    /// A defect or unexpected failure; `cause` goes to the log only.
    pub fn internal(cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self { kind: ErrorKind::Internal, message: "internal error".to_owned(), source: Some(cause.into()) }
    }

    /// Keeps `cause` for the log.
    #[must_use]
    pub fn caused_by(mut self, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(cause.into());
        self
    }

    /// Puts the place in front of the outward message: `quotas.cpu: ...`.
    #[must_use]
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }

    /// The class.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The outward message.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The whole chain on one line, for the log.
    pub fn chain(&self) -> String {
        let mut text = self.message.clone();
        let mut next: Option<&(dyn StdError + 'static)> = StdError::source(self);
        while let Some(cause) = next {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            next = cause.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.chain())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|cause| cause as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outward_text_never_contains_the_cause() {
        let error = Error::internal("password=hunter2").at("saving");
        assert_eq!(error.to_string(), "saving: internal error");
        assert!(error.chain().ends_with("password=hunter2"));
    }
}
