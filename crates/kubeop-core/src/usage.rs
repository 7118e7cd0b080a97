//! Usage samples: what a tenant used in one hour.
//!
//! Invariant: a sample is identified by (hour, tenant, project or none, source); sending it again sets it, never adds.

use crate::id::{ProjectId, TenantId, shorten};
use crate::{Error, Result};
use jiff::{SignedDuration, Timestamp};

/// The largest value of one meter in one sample.
pub const MAX_VALUE: i64 = 1_000_000_000_000;
/// The first instant of which usage is taken in, as of the first month there are invoices of.
const EARLIEST: i64 = 946_684_800;
/// How far ahead of our clock a sample may lie.
const FUTURE_SECONDS: i64 = 300;
/// Longest name of a source, in bytes.
const MAX_SOURCE: usize = 63;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Meter {
    /// Average millicores over the hour, hence millicore-hours.
    CpuMilli,
    /// Average MiB over the hour, hence MiB-hours.
    MemMib,
}

impl Meter {
    /// Every meter, in the order of an invoice's lines.
    pub const ALL: [Self; 2] = [Self::CpuMilli, Self::MemMib];

    /// The name in requests, rates and invoices.
    pub fn name(self) -> &'static str {
        match self {
            Self::CpuMilli => "cpu_milli",
            Self::MemMib => "mem_mib",
        }
    }

    /// The unit of a summed quantity.
    pub fn unit(self) -> &'static str {
        match self {
            Self::CpuMilli => "millicore-hours",
            Self::MemMib => "MiB-hours",
        }
    }

    /// What an invoice calls it.
    pub fn description(self) -> &'static str {
        match self {
            Self::CpuMilli => "CPU",
            Self::MemMib => "Memory",
        }
    }

    /// The meter of a name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|meter| meter.name() == name)
    }
}

/// One hour's usage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The start of the hour.
    pub bucket: Timestamp,
    /// Whose usage.
    pub tenant_id: TenantId,
    /// Of which project, if it is told.
    pub project_id: Option<ProjectId>,
    /// Who measured; empty if it is not told.
    pub source: String,
    /// Average millicores.
    pub cpu_milli: i64,
    /// Average MiB.
    pub mem_mib: i64,
}

/// The start of the hour in which `time` lies.
pub fn hour_of(time: Timestamp) -> Timestamp {
    let second = time.as_second();
    Timestamp::from_second(second - second.rem_euclid(3600)).unwrap_or(Timestamp::MIN)
}

impl Sample {
    /// Checks one sample as it was sent; `now` is our clock.
    ///
    /// # Errors
    /// `Invalid` that names the field, its value and what is allowed.
    pub fn new(
        sent: Timestamp,
        now: Timestamp,
        tenant_id: TenantId,
        project_id: Option<ProjectId>,
        source: &str,
        values: (i64, i64),
    ) -> Result<Self> {
        let ahead = sent.duration_since(now);
        if ahead > SignedDuration::from_secs(FUTURE_SECONDS) {
            return Err(Error::invalid(format!("ts: {sent} lies more than 5 minutes in the future")));
        }
        if sent.as_second() < EARLIEST {
            return Err(Error::invalid(format!("ts: {sent} lies before the year 2000")));
        }
        if source.len() > MAX_SOURCE || !source.chars().all(|c| c.is_ascii_graphic()) {
            return Err(Error::invalid(format!(
                "source: {:?} is not allowed: at most {MAX_SOURCE} printable ASCII characters without spaces",
                shorten(source)
            )));
        }
        for (name, value) in [(Meter::CpuMilli.name(), values.0), (Meter::MemMib.name(), values.1)] {
            if !(0..=MAX_VALUE).contains(&value) {
                return Err(Error::invalid(format!("{name}: {value} is not allowed: 0 to {MAX_VALUE}")));
            }
        }
        Ok(Self {
            bucket: hour_of(sent),
            tenant_id,
            project_id,
            source: source.to_owned(),
            cpu_milli: values.0,
            mem_mib: values.1,
        })
    }
}

/// What makes two samples the same one.
type Key<'a> = (Timestamp, TenantId, Option<ProjectId>, &'a str);

fn key(sample: &Sample) -> Key<'_> {
    (sample.bucket, sample.tenant_id, sample.project_id, sample.source.as_str())
}

/// Checks that no two samples of a batch contradict each other, so that the order within a batch never matters. The same sample twice is
/// fine.
///
/// # Errors
/// `Invalid` that names both by index, if they are of one key and have different figures.
pub fn check_batch(batch: &[Sample]) -> Result<()> {
    let mut order: Vec<(usize, &Sample)> = batch.iter().enumerate().collect();
    order.sort_by(|(_, a), (_, b)| key(a).cmp(&key(b)));
    let mut clash: Option<(usize, usize)> = None;
    // Sorting is stable: of samples of one key the first sent comes first.
    for same in order.chunk_by(|(_, a), (_, b)| key(a) == key(b)) {
        let Some(((first, one), rest)) = same.split_first() else { continue };
        let other = rest.iter().find(|(_, other)| (one.cpu_milli, one.mem_mib) != (other.cpu_milli, other.mem_mib));
        if let Some((index, _)) = other
            && clash.is_none_or(|(found, _)| *index < found)
        {
            clash = Some((*index, *first));
        }
    }
    match clash {
        None => Ok(()),
        Some((index, first)) => Err(Error::invalid(format!(
            "[{index}]: has the same hour, tenant, project and source as [{first}] but other figures: one sample an hour is needed, its average"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn every_form_of_an_hour_is_one_bucket() {
        for text in ["2026-01-01T10:00:00Z", "2026-01-01T10:59:59.999999Z", "2026-01-01T12:30:00+02:00"] {
            assert_eq!(hour_of(at(text)), at("2026-01-01T10:00:00Z"), "{text}");
        }
        assert_eq!(hour_of(at("1969-12-31T23:30:00Z")), at("1969-12-31T23:00:00Z"));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let now = at("2026-01-01T10:00:00Z");
        let tenant = TenantId(uuid::Uuid::nil());
        let sample = |sent: &str, source: &str, values| Sample::new(at(sent), now, tenant, None, source, values);
        assert!(sample("2026-01-01T10:05:00Z", "", (0, MAX_VALUE)).is_ok());
        assert!(sample("2026-01-01T10:05:01Z", "", (0, 0)).is_err());
        assert!(sample("2026-01-01T10:00:00Z", "", (-1, 0)).is_err());
        assert!(sample("2026-01-01T10:00:00Z", "", (0, MAX_VALUE + 1)).is_err());
        assert!(sample("2026-01-01T10:00:00Z", "a b", (0, 0)).is_err());
    }
    #[test]
    fn usage_of_another_century_is_refused() {
        let now = at("2026-01-01T10:00:00Z");
        let sample = |sent: &str| Sample::new(at(sent), now, TenantId(uuid::Uuid::nil()), None, "", (0, 0));
        assert!(sample("2000-01-01T00:00:00Z").is_ok());
        assert!(sample("1999-12-31T23:59:59Z").unwrap_err().message().starts_with("ts: "));
    }

    proptest! {
        /// Whether a batch is taken in does not depend on its order, and it is refused exactly if a map would have to choose.
        #[test]
        fn a_batch_contradicts_itself_or_not_in_any_order(sent in proptest::collection::vec((0u8..4, 0i64..3), 0..8)) {
            let batch: Vec<Sample> = sent
                .iter()
                .map(|(hour, figure)| Sample {
                    bucket: Timestamp::from_second(i64::from(*hour) * 3600).unwrap(),
                    tenant_id: TenantId(uuid::Uuid::nil()),
                    project_id: None,
                    source: String::new(),
                    cpu_milli: *figure,
                    mem_mib: 0,
                })
                .collect();
            let mut turned = batch.clone();
            turned.reverse();
            let figures: std::collections::BTreeSet<_> = sent.iter().collect();
            let hours: std::collections::BTreeSet<_> = sent.iter().map(|(hour, _)| hour).collect();
            prop_assert_eq!(check_batch(&batch).is_ok(), figures.len() == hours.len());
            prop_assert_eq!(check_batch(&batch).is_ok(), check_batch(&turned).is_ok());
        }
    }

    #[test]
    fn the_first_contradiction_is_named_by_both_indexes() {
        let sample = |cpu_milli| Sample {
            bucket: at("2026-01-01T10:00:00Z"),
            tenant_id: TenantId(uuid::Uuid::nil()),
            project_id: None,
            source: String::new(),
            cpu_milli,
            mem_mib: 0,
        };
        let refused = check_batch(&[sample(1), sample(1), sample(2), sample(3)]).unwrap_err();
        assert!(
            refused.message().starts_with("[2]: has the same hour, tenant, project and source as [0]"),
            "{refused}"
        );
    }
}
