//! Usage in, invoices out.
//!
//! Invariant: amounts, rates and quantities of an invoice are exact decimals as text, never floats.

use crate::resource::{QuotaMap, Time};
use kubeop_core::id::{ProjectId, TenantId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// One hour's usage as it is sent.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(example = sample_example())]
pub struct UsageSample {
    /// A time within the hour.
    #[schemars(extend("format" = "date-time"))]
    pub ts: String,
    /// Whose usage.
    #[schemars(extend("format" = "uuid"))]
    pub tenant_id: String,
    /// Of which project.
    #[schemars(extend("format" = "uuid"))]
    pub project_id: Option<String>,
    /// Who measured.
    pub source: Option<String>,
    /// Average millicores.
    #[schemars(range(min = 0, max = 1_000_000_000_000_i64))]
    pub cpu_milli: i64,
    /// Average MiB.
    #[schemars(range(min = 0, max = 1_000_000_000_000_i64))]
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
    #[schemars(extend("format" = "uuid"))]
    pub tenant_id: Option<String>,
    /// `YYYY-MM`; default: the current one.
    pub month: Option<String>,
    /// How many tenants at most: 1 to 1000, default 100.
    #[schemars(with = "Option<i32>", range(min = 1, max = 1000))]
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

fn sample_example() -> serde_json::Value {
    json!({
        "ts": "2026-03-01T10:00:00Z",
        "tenant_id": "0195a6f0-7f00-7000-8000-000000000001",
        "cpu_milli": 500,
        "mem_mib": 1024,
    })
}

fn invoice_example() -> serde_json::Value {
    json!({
        "tenant_id": "0195a6f0-7f00-7000-8000-000000000001",
        "tenant_name": "acme",
        "month": "2026-04",
        "start": "2026-04-01T00:00:00Z",
        "end": "2026-05-01T00:00:00Z",
        "currency": "USD",
        "status": "closed",
        "number": 2,
        "lines": [
            {"meter": "cpu_milli", "description": "CPU", "quantity": "720000", "unit": "millicore-hours", "rate": "0.000001", "amount": "0.72"},
            {"meter": "cpu_milli", "description": "CPU, correction of 2026-03", "quantity": "-50000", "unit": "millicore-hours",
             "rate": "0.000001", "amount": "-0.05", "corrects": "2026-03"},
        ],
        "subtotal": "0.72",
        "adjustments": "-0.05",
        "total": "0.67",
        "generated_at": "2026-05-04T00:00:00Z",
    })
}

fn price_example() -> serde_json::Value {
    json!({"meter": "cpu_milli", "rate": "0.0000012", "effective_from": "2199-06-01T00:00:00Z"})
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
#[schemars(example = invoice_example())]
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
    /// Its number, once it is closed: 1, 2, 3, ... over the whole installation, without a gap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<i64>,
    /// What is billed: the month's own usage, then corrections of closed months.
    pub lines: Vec<InvoiceLine>,
    /// The sum of the month's own lines.
    pub subtotal: String,
    /// The sum of the corrections of closed months.
    pub adjustments: String,
    /// What is to be paid: both together, and the sum of all lines.
    pub total: String,
    /// When this was computed; of a closed invoice when it was closed.
    pub generated_at: Time,
}

/// A closed invoice in a list.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct InvoiceSummary {
    /// Its number.
    pub number: Option<i64>,
    /// Whose.
    pub tenant_id: TenantId,
    /// The tenant's name when it was closed.
    pub tenant_name: String,
    /// `YYYY-MM`.
    pub month: String,
    /// ISO 4217.
    pub currency: String,
    /// Always `closed`.
    pub status: InvoiceStatus,
    /// The sum of the month's own lines.
    pub subtotal: String,
    /// The sum of the corrections of closed months.
    pub adjustments: String,
    /// What is to be paid.
    pub total: String,
    /// When it was closed.
    pub generated_at: Time,
}

/// A page of closed invoices.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
pub struct InvoiceListQuery {
    /// Only of this tenant.
    #[schemars(extend("format" = "uuid"))]
    pub tenant_id: Option<String>,
    /// How many at most: 1 to 1000, default 100.
    #[schemars(with = "Option<i32>", range(min = 1, max = 1000))]
    pub limit: Option<String>,
    /// Where to go on.
    pub cursor: Option<String>,
}

/// A price that is to hold.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[schemars(example = price_example())]
pub struct PriceInput {
    /// `cpu_milli` or `mem_mib`.
    pub meter: String,
    /// Amount per unit, a decimal number as text.
    pub rate: String,
    /// From when on: a whole hour to come (RFC 3339); default: the next one.
    pub effective_from: Option<String>,
}

/// An entry of the price book.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct PriceEntry {
    /// `cpu_milli` or `mem_mib`.
    pub meter: String,
    /// Amount per unit.
    pub rate: String,
    /// ISO 4217.
    pub currency: String,
    /// From when on, until the next entry of the meter.
    pub effective_from: Time,
    /// Who set it: `environment` or `api`.
    pub origin: String,
}

/// A line of an invoice.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct InvoiceLine {
    /// `cpu_milli` or `mem_mib`.
    pub meter: String,
    /// In words.
    pub description: String,
    /// How much; less than zero where a correction takes back.
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
    /// The closed month that the line corrects, `YYYY-MM`; absent where it bills the invoice's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub corrects: Option<String>,
}
