-- Months, invoices, and where a price came from. Tokens and rules as in 0001.

-- Who set a price: 'environment' (first start, or a changed variable at a later one) or 'api'.
ALTER TABLE price ADD COLUMN origin TEXT NOT NULL DEFAULT 'environment';

-- The months of a tenant that there are or will be invoices of. `month` is its first instant. A closed month is never opened again.
-- late rises with each batch that changes usage of the month after it was closed; settled is its value when an invoice last took the
-- difference in.
CREATE TABLE billing_month (
  tenant_id {{uuid}} NOT NULL,
  month {{ts}} NOT NULL,
  closed {{bool}} NOT NULL,
  late {{i64}} NOT NULL,
  settled {{i64}} NOT NULL,
  PRIMARY KEY (tenant_id, month)
){{table_opts_norowid}};
CREATE INDEX billing_month_open ON billing_month (month, tenant_id) WHERE NOT closed;
INSERT INTO billing_month (tenant_id, month, closed, late, settled) SELECT id, {{created_month}}, FALSE, 0, 0 FROM tenant;

-- The number of the last invoice. Its row is held while a month is closed: closings take turns, and a number is there only with its invoice.
CREATE TABLE invoice_counter (
  id {{i64}} NOT NULL PRIMARY KEY CHECK (id = 1),
  last {{i64}} NOT NULL
){{table_opts}};
INSERT INTO invoice_counter (id, last) VALUES (1, 0);

-- Closed invoices: written once, with all they say, and never changed.
CREATE TABLE invoice (
  tenant_id {{uuid}} NOT NULL,
  month {{ts}} NOT NULL,
  id {{uuid}} NOT NULL,
  number {{i64}} NOT NULL,
  tenant_name TEXT NOT NULL,
  currency TEXT NOT NULL,
  minor_digits {{i64}} NOT NULL,
  subtotal {{decimal}} NOT NULL,
  adjustments {{decimal}} NOT NULL,
  total {{decimal}} NOT NULL,
  generated_at {{ts}} NOT NULL,
  PRIMARY KEY (tenant_id, month)
){{table_opts}};
CREATE UNIQUE INDEX invoice_number ON invoice (number, tenant_id);
CREATE INDEX invoice_page ON invoice (generated_at, id);
CREATE INDEX invoice_tenant_page ON invoice (tenant_id, generated_at, id);

-- usage_month is the month whose usage a line bills: the invoice's own, or the closed one that the line corrects. project_id is nil where
-- usage names none.
CREATE TABLE invoice_line (
  tenant_id {{uuid}} NOT NULL,
  month {{ts}} NOT NULL,
  position {{i64}} NOT NULL,
  usage_month {{ts}} NOT NULL,
  meter TEXT NOT NULL,
  description TEXT NOT NULL,
  unit TEXT NOT NULL,
  project_id {{uuid}} NOT NULL,
  quantity {{decimal}} NOT NULL,
  rate {{decimal}} NOT NULL,
  amount {{decimal}} NOT NULL,
  PRIMARY KEY (tenant_id, month, position),
  FOREIGN KEY (tenant_id, month) REFERENCES invoice (tenant_id, month)
){{table_opts}};
CREATE INDEX invoice_line_usage_month ON invoice_line (tenant_id, usage_month);
