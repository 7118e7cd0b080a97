//! Usage in, invoices out.
//!
//! Invariant: amounts, rates and quantities of an invoice are exact decimals as text, never floats.

use crate::resource::{QuotaMap, Time};
use kubeop_core::id::{ProjectId, TenantId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One hour's usage as it is sent.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct UsageSample {
    /// A time within the hour.
    pub ts: String,
    /// Whose usage.
    pub tenant_id: String,
    /// Of which project.
    pub project_id: Option<String>,
    /// Who measured.
    pub source: Option<String>,
    /// Average millicores.
    #[serde(default)]
    pub cpu_milli: i64,
    /// Average MiB.
    #[serde(default)]
    pub mem_mib: i64,
}

/// What became of a batch.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct IngestResult {
    /// Samples read.
    pub accepted: u64,
    /// Hours that were new.
    pub created: u64,
    /// Hours that changed.
    pub updated: u64,
    /// Hours that already had these values.
    pub unchanged: u64,
}

/// Which month, and of whom.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
pub struct SnapshotQuery {
    /// Only of this tenant.
    pub tenant_id: Option<String>,
    /// `YYYY-MM`; default: the current one.
    pub month: Option<String>,
    /// How many tenants at most: 1 to 1000, default 100.
    pub limit: Option<String>,
    /// Where to go on.
    pub cursor: Option<String>,
}

/// A month's usage and what is there.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Snapshot {
    /// Over all tenants in reach.
    pub totals: SnapshotTotals,
    /// Each tenant.
    pub tenants: Vec<TenantUsage>,
    /// When this was true.
    pub as_of: Time,
}

/// Sums over all tenants in reach.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct SnapshotTotals {
    /// Millicore-hours.
    pub cpu_milli: i128,
    /// MiB-hours.
    pub mem_mib: i128,
    /// Clusters.
    pub clusters: i64,
    /// Tenants.
    pub tenants: i64,
    /// Projects.
    pub projects: i64,
    /// Apps.
    pub apps: i64,
    /// Envelopes added up.
    pub quotas: QuotaMap,
}

/// One tenant's usage.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct TenantUsage {
    /// Its id.
    pub tenant_id: TenantId,
    /// Its name.
    pub tenant_name: String,
    /// Its envelope.
    pub quotas: QuotaMap,
    /// What it used.
    pub used: MeterValues,
    /// Projects.
    pub projects: i64,
    /// Apps.
    pub apps: i64,
    /// The namespaces of its projects.
    pub namespaces: Vec<String>,
}

/// A value of each meter.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct MeterValues {
    /// Millicore-hours.
    pub cpu_milli: i128,
    /// MiB-hours.
    pub mem_mib: i128,
}

/// Which invoice.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
pub struct InvoiceQuery {
    /// `YYYY-MM`; default: the current one.
    pub month: Option<String>,
}

/// Whether a month can still change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum InvoiceStatus {
    /// The month is running.
    Open,
    /// The month is over; late usage is still taken in.
    Grace,
    /// Final.
    Closed,
}

/// An invoice.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Invoice {
    /// Whose.
    pub tenant_id: TenantId,
    /// The tenant's name.
    pub tenant_name: String,
    /// `YYYY-MM`.
    pub month: String,
    /// Its first instant.
    pub start: Time,
    /// The first instant after it.
    pub end: Time,
    /// ISO 4217.
    pub currency: String,
    /// Whether it can still change.
    pub status: InvoiceStatus,
    /// Its number, once it is closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<i64>,
    /// What is billed.
    pub lines: Vec<InvoiceLine>,
    /// The sum of the lines.
    pub subtotal: String,
    /// Corrections of closed months.
    pub adjustments: String,
    /// What is to be paid.
    pub total: String,
    /// When this was computed.
    pub generated_at: Time,
}

/// A line of an invoice.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct InvoiceLine {
    /// `cpu_milli` or `mem_mib`.
    pub meter: String,
    /// In words.
    pub description: String,
    /// How much.
    pub quantity: String,
    /// Of what.
    pub unit: String,
    /// Amount per unit.
    pub rate: String,
    /// `quantity * rate`, rounded half away from zero to the currency's minor unit.
    pub amount: String,
    /// Of which project, if it is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project_id: Option<ProjectId>,
}
