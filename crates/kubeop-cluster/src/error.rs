//! The one mapping of what the API server or the way to it answers into the domain's error.
//!
//! Invariant: the outward message says what was being done and, in the API server's own words, why it was refused; transport details stay in the
//! cause, and 401 and 403 are never passed on as if they were about the caller of kubeOP.

use kube::core::Status;
use kubeop_core::{Error, ErrorKind, Result};
use std::error::Error as StdError;

/// Names what was being done when a request failed.
pub trait Doing<T> {
    /// Turns the failure into a domain error whose message begins with `what` ("reading namespace kube-system").
    fn doing(self, what: impl std::fmt::Display) -> Result<T>;
}

impl<T> Doing<T> for std::result::Result<T, kube::Error> {
    fn doing(self, what: impl std::fmt::Display) -> Result<T> {
        self.map_err(|error| from_kube(error, what))
    }
}

/// The domain error of a failed request.
pub fn from_kube(error: kube::Error, what: impl std::fmt::Display) -> Error {
    match error {
        kube::Error::Api(status) => from_status(&status, what),
        other => {
            let kind = match &other {
                kube::Error::SerdeError(_) | kube::Error::BuildRequest(_) | kube::Error::HttpError(_) => {
                    ErrorKind::Internal
                }
                _ => ErrorKind::Unavailable,
            };
            Error::new(kind, format!("{what}: {}", transport(&other))).caused_by(other)
        }
    }
}

/// What a failed request says of the cluster rather than of the one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// No answer came: whether the cluster is there has to be asked.
    Silent,
    /// It answered that it is overloaded or broken (429, 5xx): it is there, and is to be left in peace.
    Busy,
}

/// The status with which a cluster turned a request away.
#[derive(Debug)]
struct Answered(u16);

impl std::fmt::Display for Answered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HTTP {}", self.0)
    }
}

impl StdError for Answered {}

/// Whether an error says something of the cluster as a whole. One object that the API server always refuses, with whatever status, says
/// nothing of the others.
pub fn trouble(error: &Error) -> Option<Trouble> {
    let cause = StdError::source(error)?;
    match cause.downcast_ref::<Answered>() {
        Some(Answered(429 | 500..)) => Some(Trouble::Busy),
        Some(_) => None,
        None => (error.kind() == ErrorKind::Unavailable && cause.is::<kube::Error>()).then_some(Trouble::Silent),
    }
}

fn from_status(status: &Status, what: impl std::fmt::Display) -> Error {
    let error = judged(status, what);
    if error.kind() == ErrorKind::Unavailable { error.caused_by(Answered(status.code)) } else { error }
}

fn judged(status: &Status, what: impl std::fmt::Display) -> Error {
    let said = cut(&status.message, 600);
    match status.code {
        400 | 422 => Error::invalid(format!("{what}: the cluster refuses it: {said}")),
        401 => Error::unavailable(format!("{what}: the cluster does not accept kubeOP's credential")),
        403 => Error::unavailable(format!("{what}: the cluster does not allow it: {said}")),
        404 => Error::not_found(format!("{what}: {said}")),
        409 => Error::conflict(format!("{what}: {said}")),
        // Server-side apply answers 500 to a value of the wrong type.
        500 if status.message.contains("failed to create typed patch object") => {
            Error::invalid(format!("{what}: the cluster refuses it: {said}"))
        }
        _ => Error::unavailable(format!("{what}: the cluster answers {}: {said}", status.code)),
    }
}

/// A short reason for a failure below HTTP, without addresses of ours or library names.
fn transport(error: &(dyn StdError + 'static)) -> String {
    let mut next = Some(error);
    let mut last = String::new();
    while let Some(cause) = next {
        if let Some(error) = cause.downcast_ref::<Error>() {
            return error.message().to_owned();
        }
        if cause.is::<tower::timeout::error::Elapsed>() {
            return "the API server does not answer in time".to_owned();
        }
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            // An error of ours or of TLS can hide inside an I/O error.
            if let Some(inner) = io.get_ref() {
                next = Some(inner);
                continue;
            }
            match io.kind() {
                std::io::ErrorKind::ConnectionRefused => return "connection refused".to_owned(),
                std::io::ErrorKind::TimedOut => return "the API server does not answer in time".to_owned(),
                std::io::ErrorKind::ConnectionReset
                | std::io::ErrorKind::UnexpectedEof
                | std::io::ErrorKind::BrokenPipe => {
                    return "the connection broke".to_owned();
                }
                _ => {}
            }
        }
        if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
            return format!("TLS: {tls}");
        }
        last = cause.to_string();
        next = cause.source();
    }
    cut(&last, 200)
}

/// Whether the API server said that there is no such object.
pub fn is_gone(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// Whether the API server answered 409.
pub fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

/// Whether the API server answered 403.
pub fn is_forbidden(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 403)
}

/// At most `most` characters of a foreign text.
fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most { text.to_owned() } else { text.chars().take(most).chain("...".chars()).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_status(code: u16, message: &str) -> Option<Trouble> {
        let status = Status { code, message: message.to_owned(), ..Status::default() };
        trouble(&from_kube(kube::Error::Api(Box::new(status)), "writing"))
    }

    #[test]
    fn an_answer_about_one_object_says_nothing_of_the_cluster() {
        for code in [400, 401, 403, 404, 409, 422] {
            assert_eq!(of_status(code, "no"), None, "{code}");
        }
        assert_eq!(of_status(500, "failed to create typed patch object"), None);
    }

    #[test]
    fn an_overloaded_cluster_is_told_from_one_that_is_not_there() {
        for code in [429, 500, 503, 504] {
            assert_eq!(of_status(code, "later"), Some(Trouble::Busy), "{code}");
        }
        let io = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let refused = from_kube(kube::Error::Service(Box::new(io)), "writing");
        assert_eq!((trouble(&refused), refused.message()), (Some(Trouble::Silent), "writing: connection refused"));
        assert_eq!(trouble(&Error::unavailable("the database is busy")), None);
    }
}
