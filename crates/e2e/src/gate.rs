//! Lets a number of changes through to an API server, and nothing after them.
//!
//! Invariant: while a number is set, writes go through one at a time, so that exactly as many changes are made; neither the answer of the last nor
//! anything after it arrives. Changes are those of the registered credential, which brings no token.

use serde_json::Value;
use std::io;
use std::sync::{Mutex, PoisonError};
use tokio::sync::{Mutex as Turn, MutexGuard, watch};

/// What is counted: each object once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Change {
    /// An object came into being.
    #[default]
    Made,
    /// An object was written, new or not.
    Written,
    /// An object was deleted, though it may take its time.
    Removed,
}

/// What happens to requests once the changes were made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Then {
    /// They are not answered, until whoever sent them is gone.
    #[default]
    Hold,
    /// Their connection breaks.
    Cut,
}

#[derive(Debug, Default)]
struct Count {
    change: Change,
    then: Then,
    left: Option<usize>,
    seen: Vec<String>,
}

/// In front of an API server; open and without a count at first.
#[derive(Debug)]
pub struct Gate {
    count: Mutex<Count>,
    closed: watch::Sender<bool>,
    turn: Turn<()>,
}

impl Default for Gate {
    fn default() -> Self {
        Self { count: Mutex::default(), closed: watch::Sender::new(false), turn: Turn::default() }
    }
}

impl Gate {
    /// Counts anew, without end.
    pub fn count(&self, change: Change) {
        *self.locked() = Count { change, ..Count::default() };
        self.closed.send_replace(false);
    }

    /// Opens for so many more.
    pub fn allow(&self, more: usize, then: Then) {
        let mut count = self.locked();
        (count.left, count.then) = (Some(more), then);
        drop(count);
        self.closed.send_replace(false);
    }

    /// Opens for all that comes.
    pub fn open(&self) {
        self.locked().left = None;
        self.closed.send_replace(false);
    }

    /// Returns once as many changes were made as were allowed.
    pub async fn closed(&self) {
        // It ends with an error only with the gate itself.
        let _ = self.closed.subscribe().wait_for(|closed| *closed).await;
    }

    /// The objects that were changed since they are counted, each once: `Kind namespace/name`, of removed ones their path.
    pub fn seen(&self) -> Vec<String> {
        self.locked().seen.clone()
    }

    /// Waits for the turn of a write, where they are counted to an end.
    pub(crate) async fn turn(&self, write: bool) -> io::Result<Option<MutexGuard<'_, ()>>> {
        if !write || self.locked().left.is_none() {
            return Ok(None);
        }
        let turn = self.turn.lock().await;
        if *self.closed.borrow() {
            // Whoever waits for ever must not do so with the turn.
            drop(turn);
            self.pass().await?;
            return Ok(None);
        }
        Ok(Some(turn))
    }

    /// Lets something through, or not.
    pub(crate) async fn pass(&self) -> io::Result<()> {
        match (*self.closed.borrow(), self.locked().then) {
            (false, _) => return Ok(()),
            (true, Then::Cut) => return Err(io::ErrorKind::ConnectionReset.into()),
            (true, Then::Hold) => {}
        }
        // For ever: what was sent before the gate opened again is of somebody who is gone.
        std::future::pending().await
    }

    /// Notes what the API server answered to the registered credential.
    pub(crate) fn note(&self, method: &str, path: &str, status: u16, body: &[u8]) {
        let mut count = self.locked();
        let object = || object(&serde_json::from_slice(body).ok()?);
        let changed = match (count.change, method, status) {
            (Change::Made | Change::Written, "POST" | "PATCH" | "PUT", 201)
            | (Change::Written, "PATCH" | "PUT", 200) => object(),
            (Change::Removed, "DELETE", 200 | 202) => Some(path.to_owned()),
            _ => None,
        };
        let Some(changed) = changed.filter(|changed| !count.seen.contains(changed)) else { return };
        count.seen.push(changed);
        count.left = count.left.map(|left| left.saturating_sub(1));
        if count.left == Some(0) {
            self.closed.send_replace(true);
        }
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Count> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which object an answer holds. A review has no uid, and a token has that of its account.
fn object(answer: &Value) -> Option<String> {
    let text = |pointer: &str| answer.pointer(pointer).and_then(Value::as_str);
    text("/metadata/uid")?;
    let (kind, name) = (text("/kind").filter(|kind| *kind != "TokenRequest")?, text("/metadata/name")?);
    Some(match text("/metadata/namespace") {
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} {name}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_closes_after_so_many_changes_of_the_kind_that_is_counted() {
        let gate = Gate::default();
        let closed = || *gate.closed.borrow();
        let role =
            |name: &str| format!(r#"{{"kind":"Role","metadata":{{"name":"{name}","namespace":"n","uid":"u"}}}}"#);
        gate.count(Change::Made);
        gate.allow(2, Then::Hold);
        gate.note("PATCH", "/a", 201, role("a").as_bytes());
        gate.note("PATCH", "/a", 200, role("b").as_bytes());
        gate.note("POST", "/token", 201, br#"{"kind":"TokenRequest","metadata":{"name":"t","uid":"u"}}"#);
        gate.note("DELETE", "/a", 200, role("a").as_bytes());
        assert!(!closed());
        gate.note("POST", "/b", 201, role("b").as_bytes());
        assert!(closed());
        assert_eq!(gate.seen(), ["Role n/a", "Role n/b"]);
        gate.allow(1, Then::Cut);
        assert!(!closed());
        gate.count(Change::Removed);
        gate.allow(1, Then::Cut);
        gate.note("DELETE", "/a", 404, b"{}");
        assert!(!closed());
        gate.note("DELETE", "/a", 200, b"{}");
        assert!(closed());
    }
}
