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
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn quotas(entries: &[(&str, &str)]) -> Quotas {
        Quotas::parse(entries.iter().copied()).unwrap()
    }

    fn ask(envelope: &Quotas, others: &[Quotas], asked: Option<&Quotas>, ceiling: &Quotas) -> Result<Quotas> {
        grant(&Request { envelope, others, asked, held: &Quotas::default(), ceiling })
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

    #[test]
    fn keys_that_kubernetes_refuses_are_refused() {
        for key in [
            "requests.foo",
            "limits.pods",
            "count//",
            "count/",
            "requests./",
            "requests.example.com/",
            "requests./gpu",
            "limits.storage",
            "requests.kubernetes.io/x",
            "limits.example.com/gpu",
            "x.storageclass.storage.k8s.io/pods",
            "count/-x",
            "hugepages-2Mi",
        ] {
            assert!(Quotas::parse([(key, "1")]).is_err(), "{key}");
        }
        for key in [
            "requests.nvidia.com/gpu",
            "limits.ephemeral-storage",
            "requests.hugepages-2Mi",
            "count/jobs.batch",
            "count/pods",
            "storage",
            "gold.storageclass.storage.k8s.io/requests.storage",
            "services.loadbalancers",
        ] {
            assert!(Quotas::parse([(key, "1")]).is_ok(), "{key}");
        }
    }

    #[test]
    fn a_small_or_empty_envelope_shuts_nobody_out() {
        for (key, limit, slice) in [
            ("services.loadbalancers", "0", "0"),
            ("requests.nvidia.com/gpu", "2", "1"),
            ("requests.nvidia.com/gpu", "9", "2"),
            ("cpu", "3m", "1m"),
            ("cpu", "500u", "500u"),
            ("memory", "2", "1"),
        ] {
            let envelope = quotas(&[(key, limit)]);
            let granted = ask(&envelope, &[], None, &Quotas::default()).unwrap();
            assert_eq!(granted.get(canonical_key(key)).unwrap(), &Quantity::parse(slice).unwrap(), "{key} {limit}");
            assert_eq!(
                ask(&envelope, &[quotas(&[(key, limit)])], None, &Quotas::default()).is_ok(),
                limit == "0",
                "{key}"
            );
        }
    }

    #[test]
    fn a_key_added_to_an_envelope_counts_what_projects_have_of_it() {
        let implied = quotas(&[("pods", "200"), ("cpu", "4")]);
        let two = [Quotas::default(), quotas(&[("pods", "10"), ("services", "1")])];
        let error = complete(&quotas(&[("pods", "100")]), &two, &implied).unwrap_err();
        assert!(error.message().contains("envelope pods 100 is below the 210"), "{error}");
        let all = complete(&quotas(&[("pods", "210"), ("memory", "8Gi")]), &two, &implied).unwrap();
        let of = |index: usize, key: &str| all[index].get(key).map(ToString::to_string);
        assert_eq!((of(0, "pods").as_deref(), of(1, "pods").as_deref()), (Some("200"), Some("10")));
        assert_eq!((of(0, MEMORY).as_deref(), of(1, MEMORY).as_deref()), (Some("2Gi"), Some("1536Mi")));
        assert_eq!((of(0, CPU), of(1, "services").as_deref()), (None, Some("1")), "only keys of the envelope");
        let full = [quotas(&[("memory", "1Gi")]), Quotas::default()];
        let error = complete(&quotas(&[("memory", "1Gi")]), &full, &implied).unwrap_err();
        assert!(error.message().contains("leaves nothing"), "{error}");
    }

    #[test]
    fn what_is_above_a_lowered_ceiling_may_stay_and_shrink_but_not_grow() {
        let (held, ceiling) = (quotas(&[("cpu", "3")]), quotas(&[("cpu", "2")]));
        let change = |cpu: &str, pods: &str| {
            let asked = quotas(&[("cpu", cpu), ("pods", pods)]);
            grant(&Request {
                envelope: &Quotas::default(),
                others: &[],
                asked: Some(&asked),
                held: &held,
                ceiling: &ceiling,
            })
        };
        for fine in ["3", "2500m", "1"] {
            assert!(change(fine, "5").is_ok(), "{fine}");
        }
        assert!(change("3001m", "5").unwrap_err().message().contains("above the platform's quotaMax 2"));
    }

    #[test]
    fn no_project_holds_more_keys_than_can_be_read_again() {
        let many: Vec<(String, &str)> = (0..100).map(|n| (format!("count/a{n}.example.com"), "1")).collect();
        let asked = Quotas::parse(many.iter().map(|(key, amount)| (key.as_str(), *amount))).unwrap();
        assert!(ask(&Quotas::default(), &[], Some(&asked), &Quotas::default()).is_ok());
        assert!(ask(&quotas(&[("cpu", "4")]), &[], Some(&asked), &Quotas::default()).is_err());
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
