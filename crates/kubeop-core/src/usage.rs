//! Usage samples: what a tenant used in one hour.
//!
//! Invariant: a sample is identified by (hour, tenant, project or none, source); sending it again sets it, never adds.

use crate::id::{ProjectId, TenantId, shorten};
use crate::{Error, Result};
use jiff::{SignedDuration, Timestamp};

/// The largest value of one meter in one sample.
pub const MAX_VALUE: i64 = 1_000_000_000_000;
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
