-- One database, one schema per service by prefix. Money is integer minor units; every row names its tenant.
CREATE TABLE accounts_users (
    tenant_id TEXT NOT NULL, user_id TEXT NOT NULL, password_hash TEXT NOT NULL,
    PRIMARY KEY (tenant_id, user_id)
) STRICT;
CREATE TABLE catalogue_products (
    tenant_id TEXT NOT NULL, sku TEXT NOT NULL, title TEXT NOT NULL,
    price_minor INTEGER NOT NULL CHECK (price_minor > 0), currency TEXT NOT NULL,
    PRIMARY KEY (tenant_id, sku)
) STRICT;
CREATE TABLE catalogue_cart_lines (
    tenant_id TEXT NOT NULL, user_id TEXT NOT NULL, sku TEXT NOT NULL, quantity INTEGER NOT NULL CHECK (quantity > 0),
    PRIMARY KEY (tenant_id, user_id, sku)
) STRICT;
CREATE TABLE inventory_stock (
    tenant_id TEXT NOT NULL, sku TEXT NOT NULL, initial INTEGER NOT NULL,
    available INTEGER NOT NULL CHECK (available >= 0),
    PRIMARY KEY (tenant_id, sku)
) STRICT;
CREATE TABLE inventory_deductions (
    tenant_id TEXT NOT NULL, deduction_key TEXT NOT NULL, sku TEXT NOT NULL, quantity INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, deduction_key)
) STRICT;
CREATE TABLE orders_orders (
    order_id TEXT NOT NULL PRIMARY KEY, tenant_id TEXT NOT NULL, user_id TEXT NOT NULL, idempotency_key TEXT NOT NULL,
    sku TEXT NOT NULL, quantity INTEGER NOT NULL, amount_minor INTEGER NOT NULL, currency TEXT NOT NULL,
    UNIQUE (tenant_id, idempotency_key)
) STRICT;
