//! Quota arithmetic: a tenant's envelope, what its projects hold of it, and the ceiling of one project.
//!
//! Invariant: keys are canonical (`cpu` is `requests.cpu`), amounts exact and never negative; a grant that passes [`grant`] keeps the sum within the envelope.

use crate::quantity::Quantity;
use crate::{Error, Result};
use std::collections::BTreeMap;

mod key;

pub use key::canonical_key;
use key::{check_key, is_count};

/// The envelope's key for the number of projects; it is no ResourceQuota key.
pub const PROJECTS: &str = "projects";
/// Canonical key of CPU requests.
pub const CPU: &str = "requests.cpu";
/// Canonical key of memory requests.
pub const MEMORY: &str = "requests.memory";

/// Keys of one project or envelope at most.
const MAX_KEYS: usize = 100;

/// Amounts by canonical ResourceQuota key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quotas(BTreeMap<String, Quantity>);

impl Quotas {
    /// Reads a map of keys and quantities as written.
    ///
    /// # Errors
    /// An unknown key, two spellings of one key, a malformed, negative or (for object counts) fractional amount; the message names key and value.
    pub fn parse<'a>(entries: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self> {
        let mut quotas = BTreeMap::new();
        for (key, value) in entries {
            let canonical = canonical_key(key);
            check_key(canonical)?;
            let amount = Quantity::parse(value).map_err(|e| e.at(key))?;
            if amount.nanos() < 0 {
                return Err(Error::invalid(format!("{key}: {value:?} is negative: 0 or more is needed")));
            }
            if is_count(canonical) && amount.nanos() % 1_000_000_000 != 0 {
                return Err(Error::invalid(format!("{key}: {value:?} is not a whole number of objects")));
            }
            if quotas.insert(canonical.to_owned(), amount).is_some() {
                return Err(Error::invalid(format!(
                    "{key}: given twice, since all spellings of {canonical:?} mean the same"
                )));
            }
        }
        Self(quotas).bounded()
    }

    fn bounded(self) -> Result<Self> {
        if self.0.len() > MAX_KEYS {
            return Err(Error::invalid(format!(
                "at most {MAX_KEYS} quota keys are allowed, those of the envelope included"
            )));
        }
        Ok(self)
    }

    /// These amounts, and of other keys those of `others`.
    #[must_use]
    pub fn or(mut self, others: &Self) -> Self {
        for (key, amount) in &others.0 {
            self.0.entry(key.clone()).or_insert_with(|| amount.clone());
        }
        self
    }

    /// The amount under a canonical key.
    pub fn get(&self, key: &str) -> Option<&Quantity> {
        self.0.get(key)
    }

    /// Sets the amount under a canonical key.
    pub fn set(&mut self, key: &str, amount: Quantity) {
        self.0.insert(key.to_owned(), amount);
    }

    /// Keys and amounts in order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Quantity)> {
        self.0.iter().map(|(key, amount)| (key.as_str(), amount))
    }

    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As written, by canonical key.
    pub fn to_map(&self) -> BTreeMap<String, String> {
        self.0.iter().map(|(key, amount)| (key.clone(), amount.as_str().to_owned())).collect()
    }
}

/// What a project asks for, beside what others hold: the inputs of [`grant`].
#[derive(Debug)]
pub struct Request<'a> {
    /// The tenant's envelope; an absent key is unlimited.
    pub envelope: &'a Quotas,
    /// What the tenant's other projects hold.
    pub others: &'a [Quotas],
    /// The project's own quotas; `None` gives it a slice.
    pub asked: Option<&'a Quotas>,
    /// What the project holds already, which it may keep whatever became of the ceiling; empty for a new one.
    pub held: &'a Quotas,
    /// The ceiling of one project (`quotaMax`).
    pub ceiling: &'a Quotas,
}

/// Decides what a project is granted: its own quotas if they fit, and for every other key of the envelope a quarter of the free part.
///
/// # Errors
/// `quota overflow: ...` with asked, granted and envelope; a message with both numbers above the ceiling.
pub fn grant(request: &Request<'_>) -> Result<Quotas> {
    let Request { envelope, others, asked, held, ceiling } = *request;
    let mut granted = Quotas::default();
    if let Some(asked) = asked {
        if asked.get(PROJECTS).is_some() {
            return Err(Error::invalid("quotas.projects: a project cannot hold projects; set it on the tenant"));
        }
        check_growth(asked, held, ceiling)?;
        granted = asked.clone();
    }
    for (key, limit) in envelope.iter() {
        if key == PROJECTS {
            let count = i128::try_from(others.len()).unwrap_or(i128::MAX) + 1;
            if count.saturating_mul(1_000_000_000) > limit.nanos() {
                return Err(Error::invalid(format!(
                    "quota overflow: projects asked 1, granted {}, envelope {limit}",
                    others.len()
                )));
            }
            continue;
        }
        let taken = sum(others, key);
        if let Some(amount) = granted.get(key) {
            if taken.saturating_add(amount.nanos()) > limit.nanos() {
                return Err(overflow(key, amount, taken, limit));
            }
            continue;
        }
        let slice = slice(key, limit, taken).ok_or_else(|| overflow(key, &Quantity::from_nanos(0), taken, limit))?;
        let slice = ceiling.get(key).map_or(slice, |max| slice.min(max.nanos()));
        granted.set(key, written_like(limit, slice));
    }
    granted.bounded()
}

/// What projects hold once every key of the envelope is limited in each of them: a key that a project does not name counts with what the cluster
/// gives it anyway (`implied`), and where that is nothing, it gets a slice of what is free. In the order of `granted`.
///
/// # Errors
/// As [`check_envelope`], also when nothing is free for such a slice.
pub fn complete(envelope: &Quotas, granted: &[Quotas], implied: &Quotas) -> Result<Vec<Quotas>> {
    let limited: Quotas = Quotas(
        implied.0.iter().filter(|(key, _)| envelope.get(key).is_some()).map(|(k, v)| (k.clone(), v.clone())).collect(),
    );
    let mut all: Vec<Quotas> = granted.iter().map(|one| one.clone().or(&limited)).collect();
    check_envelope(envelope, &all)?;
    for (key, limit) in envelope.iter().filter(|(key, _)| *key != PROJECTS) {
        let mut taken = sum(&all, key);
        for one in all.iter_mut().filter(|one| one.get(key).is_none()) {
            let slice = slice(key, limit, taken).ok_or_else(|| {
                Error::invalid(format!(
                    "quotas: envelope {key} {limit} leaves nothing for a project that has no {key} yet: set it there first"
                ))
            })?;
            taken = taken.saturating_add(slice);
            one.set(key, written_like(limit, slice));
        }
    }
    all.into_iter().map(Quotas::bounded).collect()
}

/// Checks quotas against the ceiling of one project.
pub fn check_ceiling(asked: &Quotas, ceiling: &Quotas) -> Result<()> {
    for (key, max) in ceiling.iter() {
        if let Some(amount) = asked.get(key)
            && amount > max
        {
            return Err(Error::invalid(format!("quotas: {key} {amount} is above the platform's quotaMax {max}")));
        }
    }
    Ok(())
}

/// The same for what may stay as it is held already.
fn check_growth(asked: &Quotas, held: &Quotas, ceiling: &Quotas) -> Result<()> {
    let grows = |key: &str, amount: &Quantity| held.get(key).is_none_or(|held| amount > held);
    let growing = asked.0.iter().filter(|(key, amount)| grows(key, amount)).map(|(k, v)| (k.clone(), v.clone()));
    check_ceiling(&Quotas(growing.collect()), ceiling)
}

/// Checks that a changed envelope still holds what is granted.
pub fn check_envelope(envelope: &Quotas, granted: &[Quotas]) -> Result<()> {
    for (key, limit) in envelope.iter() {
        let (held, shown) = if key == PROJECTS {
            let count = i128::try_from(granted.len()).unwrap_or(i128::MAX).saturating_mul(1_000_000_000);
            (count, Quantity::from_nanos(count))
        } else {
            let held = sum(granted, key);
            (held, written_like(limit, held))
        };
        if held > limit.nanos() {
            return Err(Error::invalid(format!(
                "quotas: envelope {key} {limit} is below the {shown} that projects already hold"
            )));
        }
    }
    Ok(())
}

fn sum(quotas: &[Quotas], key: &str) -> i128 {
    quotas.iter().filter_map(|q| q.get(key)).map(Quantity::nanos).fold(0, i128::saturating_add)
}

fn overflow(key: &str, asked: &Quantity, held: i128, limit: &Quantity) -> Error {
    let held = written_like(limit, held);
    Error::invalid(format!("quota overflow: {key} asked {asked}, granted {held}, envelope {limit}"))
}

/// What a project gets that does not ask: a quarter of what is free, rounded down to a readable step (whole objects, MiB or bytes, millicores),
/// but at least one step, or what is left of it. Nothing of an envelope of nothing; `None` if nothing is free any more.
fn slice(key: &str, limit: &Quantity, taken: i128) -> Option<i128> {
    const MEBI: i128 = (1 << 20) * 1_000_000_000;
    if limit.nanos() == 0 {
        return Some(0);
    }
    let free = limit.nanos().saturating_sub(taken);
    let quarter = free / 4;
    let step = match key {
        CPU | "limits.cpu" => 1_000_000,
        _ if is_count(key) || quarter < MEBI => 1_000_000_000,
        _ => MEBI,
    };
    (free > 0).then(|| round_down(quarter, step).max(step.min(free)))
}

fn round_down(value: i128, step: i128) -> i128 {
    value - value % step
}

/// Writes an amount in the manner of another one: binary suffixes where that has one.
fn written_like(model: &Quantity, nanos: i128) -> Quantity {
    if model.is_binary() { Quantity::from_nanos_binary(nanos) } else { Quantity::from_nanos(nanos) }
}

#[cfg(test)]
mod tests;
