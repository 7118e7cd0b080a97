//! Invoices: the months of tenants, what they come to while they are open, and the closed ones, frozen.
//!
//! Invariant: whatever is sent, in whichever order and however often, and whoever is cut off where: what all invoices of a tenant bill of a
//! month, its own and the corrections in later ones, is what the month's usage comes to, but for the rounding of each line; a closed
//! invoice never changes; numbers have no gap.

mod close;
mod draft;
pub(crate) mod month;
mod read;

pub use close::close;
pub use draft::draft;
pub use month::{Due, due, due_of, is_known, open};
pub use read::{get, list};

use crate::StoreError;
use crate::statements::sql;
use jiff::Timestamp;
use kubeop_core::Error;
use kubeop_core::id::{ProjectId, TenantId};
use kubeop_core::month::Month;
use rust_decimal::Decimal;
use uuid::Uuid;

/// An invoice as it stands on paper.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Invoice {
    /// Its number, once it is closed.
    pub number: Option<i64>,
    /// Whose.
    pub tenant_id: TenantId,
    /// The tenant's name when it was made.
    pub tenant_name: String,
    /// Of which month.
    pub month: Month,
    /// ISO 4217 code.
    pub currency: String,
    /// The lines; none in a list.
    pub lines: Vec<Line>,
    /// The sum of the month's own lines.
    pub subtotal: Decimal,
    /// The sum of the corrections.
    pub adjustments: Decimal,
    /// Both together.
    pub total: Decimal,
    /// When it was made: closed, or computed.
    pub generated_at: Timestamp,
    /// The key of its page, once it is closed.
    pub id: Uuid,
}

/// A line.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Line {
    /// The closed month that it corrects; none: it bills the invoice's own.
    pub corrects: Option<Month>,
    /// What is billed.
    pub meter: String,
    /// That in words.
    pub description: String,
    /// Of what the quantity is.
    pub unit: String,
    /// Of which project, if it is told.
    pub project_id: Option<ProjectId>,
    /// How much.
    pub quantity: Decimal,
    /// Amount per unit.
    pub rate: Decimal,
    /// Rounded to the currency's minor unit, with all its digits.
    pub amount: Decimal,
}

/// What the arithmetic refuses is a defect here: what it was given was checked when it was written.
fn defect(error: &Error) -> StoreError {
    StoreError::Defect(error.chain())
}
