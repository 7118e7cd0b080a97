//! An invoice as CSV (RFC 4180): a header, then one row a line, each with what identifies the invoice.
//!
//! Invariant: the column `amount` adds up to the invoice's total; no cell is read as a formula by a spreadsheet.

use kubeop_api::billing::{Invoice, InvoiceLine, InvoiceStatus};

const COLUMNS: [&str; 14] = [
    "number",
    "month",
    "status",
    "currency",
    "tenant_id",
    "tenant_name",
    "corrects",
    "project_id",
    "meter",
    "description",
    "quantity",
    "unit",
    "rate",
    "amount",
];

/// What the document shows.
pub(super) const EXAMPLE: &str = "number,month,status,currency,tenant_id,tenant_name,corrects,project_id,meter,description,quantity,unit,rate,amount\r\n\
     2,2026-04,closed,USD,0195a6f0-7f00-7000-8000-000000000001,acme,,,cpu_milli,CPU,720000,millicore-hours,0.000001,0.72\r\n";

/// The name a browser saves it under.
pub(super) fn file_name(invoice: &Invoice) -> String {
    format!("invoice-{}-{}.csv", invoice.tenant_name, invoice.month)
}

/// The text.
pub(super) fn text(invoice: &Invoice) -> String {
    let mut text = String::new();
    row(&mut text, &COLUMNS.map(str::to_owned));
    for line in &invoice.lines {
        row(&mut text, &cells(invoice, line));
    }
    text
}

fn cells(invoice: &Invoice, line: &InvoiceLine) -> [String; 14] {
    let status = match invoice.status {
        InvoiceStatus::Open => "open",
        InvoiceStatus::Grace => "grace",
        InvoiceStatus::Closed => "closed",
    };
    [
        invoice.number.map(|number| number.to_string()).unwrap_or_default(),
        invoice.month.clone(),
        status.to_owned(),
        invoice.currency.clone(),
        invoice.tenant_id.to_string(),
        invoice.tenant_name.clone(),
        line.corrects.clone().unwrap_or_default(),
        line.project_id.map(|id| id.to_string()).unwrap_or_default(),
        line.meter.clone(),
        line.description.clone(),
        line.quantity.clone(),
        line.unit.clone(),
        line.rate.clone(),
        line.amount.clone(),
    ]
}

fn row(text: &mut String, cells: &[String; 14]) {
    for (n, value) in cells.iter().enumerate() {
        if n > 0 {
            text.push(',');
        }
        text.push_str(&cell(value));
    }
    text.push_str("\r\n");
}

/// Quoted where the RFC asks for it. What a spreadsheet would run begins with an apostrophe instead; negative numbers are numbers.
fn cell(value: &str) -> String {
    let number = value.strip_prefix('-').unwrap_or(value);
    let number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let runs = !number
        && value.starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}']);
    let safe = if runs { format!("'{value}") } else { value.to_owned() };
    if safe.contains([',', '"', '\r', '\n']) { format!("\"{}\"", safe.replace('"', "\"\"")) } else { safe }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_and_never_run() {
        for (value, shown) in [
            ("acme", "acme"),
            ("-0.37", "-0.37"),
            ("CPU, correction of 2026-03", "\"CPU, correction of 2026-03\""),
            ("a \"b\"", "\"a \"\"b\"\"\""),
            ("two\nlines", "\"two\nlines\""),
            ("=1+1", "'=1+1"),
            ("-1+1", "'-1+1"),
            ("-", "'-"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
            ("=HYPERLINK(\"http://x\",\"y\")", "\"'=HYPERLINK(\"\"http://x\"\",\"\"y\"\")\""),
            ("\t=1", "'\t=1"),
            ("", ""),
        ] {
            assert_eq!(cell(value), shown);
        }
    }

    #[test]
    fn the_example_has_the_columns() {
        assert_eq!(EXAMPLE.lines().next().unwrap(), COLUMNS.join(","));
        assert!(EXAMPLE.lines().all(|line| line.split(',').count() == COLUMNS.len()));
    }
}
