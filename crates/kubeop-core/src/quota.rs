//! Quota arithmetic: a tenant's envelope, what its projects hold of it, and the ceiling of one project.
//!
//! Invariant: keys are canonical (`cpu` is `requests.cpu`), amounts exact and never negative; a grant that passes [`grant`] keeps the sum within the envelope.

use crate::id::shorten;
use crate::quantity::Quantity;
use crate::{Error, Result};
use std::collections::BTreeMap;

/// The envelope's key for the number of projects; it is no ResourceQuota key.
pub const PROJECTS: &str = "projects";
/// Canonical key of CPU requests.
pub const CPU: &str = "requests.cpu";
/// Canonical key of memory requests.
pub const MEMORY: &str = "requests.memory";

/// Amounts by canonical ResourceQuota key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quotas(BTreeMap<String, Quantity>);

/// The canonical spelling of a quota key: the short forms stand for requests (Kubernetes "Resource Quotas").
pub fn canonical_key(key: &str) -> &str {
    match key {
        "cpu" => CPU,
        "memory" => MEMORY,
        "storage" => "requests.storage",
        "ephemeral-storage" => "requests.ephemeral-storage",
        other => other,
    }
}

const OBJECT_COUNTS: [&str; 10] = [
    "pods",
    "services",
    "services.nodeports",
    "services.loadbalancers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "replicationcontrollers",
    "resourcequotas",
    PROJECTS,
];

fn check_key(key: &str) -> Result<()> {
    let tail_ok = |tail: &str| {
        !tail.is_empty()
            && tail.len() <= 190
            && tail.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'/'))
    };
    let known = OBJECT_COUNTS.contains(&key)
        || ["requests.", "limits.", "count/"].iter().any(|head| key.strip_prefix(head).is_some_and(tail_ok))
        || key.contains(".storageclass.storage.k8s.io/") && tail_ok(key);
    if known {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{:?} is not a quota key: cpu, memory, storage, pods, projects or a ResourceQuota key such as limits.cpu or count/jobs.batch is needed",
        shorten(key)
    )))
}

/// Whether amounts under this canonical key are whole numbers of objects.
fn is_count(key: &str) -> bool {
    OBJECT_COUNTS.contains(&key) || key.starts_with("count/")
}

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
                    "{key}: given twice, since {key:?} and {canonical:?} mean the same"
                )));
            }
            if quotas.len() > 100 {
                return Err(Error::invalid("at most 100 quota keys are allowed"));
            }
        }
        Ok(Self(quotas))
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
    /// The ceiling of one project (`quotaMax`).
    pub ceiling: &'a Quotas,
}

/// Decides what a project is granted: its own quotas if they fit, and for every other key of the envelope a quarter of the free part.
///
/// # Errors
/// `quota overflow: ...` with asked, granted and envelope; a message with both numbers above the ceiling.
pub fn grant(request: &Request<'_>) -> Result<Quotas> {
    let Request { envelope, others, asked, ceiling } = *request;
    let mut granted = Quotas::default();
    if let Some(asked) = asked {
        if asked.get(PROJECTS).is_some() {
            return Err(Error::invalid("quotas.projects: a project cannot hold projects; set it on the tenant"));
        }
        check_ceiling(asked, ceiling)?;
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
        let held = sum(others, key);
        if let Some(amount) = granted.get(key) {
            if held.saturating_add(amount.nanos()) > limit.nanos() {
                return Err(overflow(key, amount, held, limit));
            }
            continue;
        }
        let slice = quarter(key, limit.nanos() - held);
        if slice <= 0 {
            return Err(overflow(key, &Quantity::from_nanos(0), held, limit));
        }
        let slice = ceiling.get(key).map_or(slice, |max| slice.min(max.nanos()));
        granted.set(key, written_like(limit, slice));
    }
    Ok(granted)
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

/// A quarter of what is free, rounded down to a readable step: whole objects (at least one), MiB or bytes, millicores.
fn quarter(key: &str, free: i128) -> i128 {
    let quarter = free / 4;
    let step = if is_count(key) {
        return if quarter >= 1_000_000_000 {
            round_down(quarter, 1_000_000_000)
        } else {
            free.clamp(0, 1_000_000_000)
        };
    } else if matches!(key, CPU | "limits.cpu") {
        1_000_000
    } else if quarter >= (1 << 20) * 1_000_000_000_i128 {
        (1 << 20) * 1_000_000_000_i128
    } else {
        1_000_000_000
    };
    round_down(quarter, step)
}

fn round_down(value: i128, step: i128) -> i128 {
    value - value % step
}

/// Writes an amount in the manner of another one: binary suffixes where that has one.
fn written_like(model: &Quantity, nanos: i128) -> Quantity {
    if model.is_binary() { Quantity::from_nanos_binary(nanos) } else { Quantity::from_nanos(nanos) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn quotas(entries: &[(&str, &str)]) -> Quotas {
        Quotas::parse(entries.iter().copied()).unwrap()
    }

    fn ask(envelope: &Quotas, others: &[Quotas], asked: Option<&Quotas>, ceiling: &Quotas) -> Result<Quotas> {
        grant(&Request { envelope, others, asked, ceiling })
    }

    #[test]
    fn two_spellings_of_one_key_are_refused() {
        let error = Quotas::parse([("cpu", "1"), ("requests.cpu", "1")]).unwrap_err();
        assert!(error.message().contains("mean the same"), "{error}");
        for (key, value) in [("cpus", "1"), ("cpu", "-1"), ("pods", "1.5"), ("limits.", "1"), ("cpu", "1e2147483648")] {
            assert!(Quotas::parse([(key, value)]).is_err(), "{key}={value}");
        }
    }

    #[test]
    fn the_sum_of_projects_never_exceeds_the_envelope() {
        let envelope = quotas(&[("cpu", "8"), ("memory", "16Gi")]);
        let six = quotas(&[("cpu", "6")]);
        let error = ask(&envelope, std::slice::from_ref(&six), Some(&quotas(&[("cpu", "3")])), &Quotas::default());
        assert_eq!(error.unwrap_err().message(), "quota overflow: requests.cpu asked 3, granted 6, envelope 8");
        let granted = ask(&envelope, &[six], Some(&quotas(&[("cpu", "2")])), &Quotas::default()).unwrap();
        assert_eq!(granted.get(CPU).unwrap().as_str(), "2");
        assert_eq!(granted.get(MEMORY).unwrap().as_str(), "4Gi");
    }

    #[test]
    fn a_project_without_quotas_gets_a_quarter_of_what_is_free_below_the_ceiling() {
        let envelope = quotas(&[("cpu", "8"), ("memory", "16Gi"), ("pods", "10"), ("projects", "2")]);
        let ceiling = quotas(&[("cpu", "1")]);
        let granted = ask(&envelope, &[], None, &ceiling).unwrap();
        assert_eq!(
            granted.to_map().into_iter().collect::<Vec<_>>(),
            [
                ("pods".to_owned(), "2".to_owned()),
                (CPU.to_owned(), "1".to_owned()),
                (MEMORY.to_owned(), "4Gi".to_owned()),
            ]
        );
        let two = [granted.clone(), granted];
        assert!(ask(&envelope, &two, None, &ceiling).unwrap_err().message().contains("projects asked 1, granted 2"));
    }

    #[test]
    fn the_ceiling_holds_for_asked_quotas() {
        let error = ask(&Quotas::default(), &[], Some(&quotas(&[("cpu", "5")])), &quotas(&[("cpu", "4")])).unwrap_err();
        assert!(error.message().contains("requests.cpu 5 is above the platform's quotaMax 4"), "{error}");
    }

    #[test]
    fn an_envelope_is_not_lowered_below_what_is_held() {
        let error = check_envelope(&quotas(&[("memory", "1Gi")]), &[quotas(&[("memory", "2Gi")])]).unwrap_err();
        assert!(error.message().contains("requests.memory 1Gi is below the 2Gi"), "{error}");
    }

    proptest! {
        #[test]
        fn any_sequence_of_grants_fits(limit in 1u32..64, asks in proptest::collection::vec(proptest::option::of(0u32..20), 0..30)) {
            let envelope = quotas(&[("cpu", &limit.to_string())]);
            let mut held = Vec::new();
            for asked in asks {
                let own = asked.map(|cpu| quotas(&[("cpu", &cpu.to_string())]));
                if let Ok(granted) = ask(&envelope, &held, own.as_ref(), &Quotas::default()) {
                    held.push(granted);
                }
            }
            prop_assert!(check_envelope(&envelope, &held).is_ok());
        }
    }
}
