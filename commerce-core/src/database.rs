//! The embedded database and the goods the mall opens with.

use std::path::Path;

use anyhow::Context as _;
use argon2::{Argon2, PasswordHasher as _};
use sqlx::{
    SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

/// Opens the file, creating it and its tables when missing.
///
/// # Errors
/// When the file cannot be opened or is of another schema.
pub async fn open(path: &Path) -> anyhow::Result<SqlitePool> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Normal)
        .busy_timeout(std::time::Duration::from_secs(10));
    let pool = SqlitePoolOptions::new()
        .max_connections(8)
        .connect_with(options)
        .await
        .with_context(|| format!("while opening {}", path.display()))?;
    sqlx::migrate!()
        .run(&pool)
        .await
        .context("while creating the shop's tables")?;
    Ok(pool)
}

/// What the mall opens with.
#[derive(Clone, Copy, Debug)]
pub struct Seed {
    /// Tenants `t1`, `t2` and so on.
    pub tenants: u32,
    /// Users `t1-u1` and so on, in each tenant, all with [`SEED_PASSWORD`].
    pub users: u32,
    /// Products `sku-1` and so on, in each tenant.
    pub products: u32,
    /// Pieces of each product.
    pub stock: i64,
}

/// Password of seeded users; the demo's shoppers know it.
pub const SEED_PASSWORD: &str = "let me shop";

/// Fills an empty mall; rows that exist stay as they are.
///
/// # Errors
/// When the database fails.
pub async fn seed(pool: &SqlitePool, seed: Seed) -> anyhow::Result<()> {
    let hash = Argon2::default()
        .hash_password(SEED_PASSWORD.as_bytes())
        .map_err(|error| anyhow::anyhow!("hashing the seed password failed: {error}"))?
        .to_string();
    let mut transaction = pool.begin().await?;
    for tenant in (1..=seed.tenants).map(|n| format!("t{n}")) {
        for user in (1..=seed.users).map(|n| format!("{tenant}-u{n}")) {
            sqlx::query("INSERT OR IGNORE INTO accounts_users VALUES (?, ?, ?)")
                .bind(&tenant)
                .bind(&user)
                .bind(&hash)
                .execute(&mut *transaction)
                .await?;
        }
        for number in 1..=seed.products {
            let sku = format!("sku-{number}");
            sqlx::query("INSERT OR IGNORE INTO catalogue_products VALUES (?, ?, ?, ?, 'CNY')")
                .bind(&tenant)
                .bind(&sku)
                .bind(format!("Product {number}"))
                .bind(i64::from(number) * 1_990)
                .execute(&mut *transaction)
                .await?;
            sqlx::query("INSERT OR IGNORE INTO inventory_stock VALUES (?, ?, ?, ?)")
                .bind(&tenant)
                .bind(&sku)
                .bind(seed.stock)
                .bind(seed.stock)
                .execute(&mut *transaction)
                .await?;
        }
    }
    transaction.commit().await.context("while seeding the mall")
}
