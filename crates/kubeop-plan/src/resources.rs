//! The two stages of an object: prepared (what we want) and applied (what the API server answered).
//!
//! Invariant: only an answer of the API server turns `Prepared` into `Applied`, so a status, which takes `Applied`, never reports a wish.

use std::marker::PhantomData;

/// Stage: built, not yet sent.
#[derive(Clone, Copy, Debug)]
pub struct Prepared;

/// Stage: as the API server holds it.
#[derive(Clone, Copy, Debug)]
pub struct Applied;

/// An object of kind `K` at stage `S`.
#[derive(Clone, Debug, PartialEq)]
pub struct Object<S, K> {
    value: K,
    stage: PhantomData<S>,
}

impl<K> Object<Prepared, K> {
    /// What is wanted.
    pub fn new(value: K) -> Self {
        Self { value, stage: PhantomData }
    }

    /// What to send.
    pub fn wanted(&self) -> &K {
        &self.value
    }

    /// The next stage: `live` is what the API server answered to the apply.
    pub fn applied(self, live: K) -> Object<Applied, K> {
        Object { value: live, stage: PhantomData }
    }
}

impl<K> Object<Applied, K> {
    /// What the API server holds.
    pub fn live(&self) -> &K {
        &self.value
    }
}
