//! Who we are at the store: the same two settings in every command that speaks to it.

use std::fmt;

use clap::Args;

use crate::store::Store;

/// User and password of a ClickHouse.
#[derive(Clone, Args)]
pub struct StoreLogin {
    /// User at the ClickHouse.
    #[arg(
        long,
        env = "WEIR_STORE_USER",
        value_name = "NAME",
        default_value = "default"
    )]
    store_user: String,
    /// Its password; better given by the environment, where other users of the host do not see it.
    #[arg(
        long,
        env = "WEIR_STORE_PASSWORD",
        value_name = "SECRET",
        default_value = "",
        hide_env_values = true
    )]
    store_password: String,
}

impl StoreLogin {
    /// The store at an address, with these credentials.
    pub fn store(&self, url: &str) -> Store {
        Store::at(url).with_user(&self.store_user, &self.store_password)
    }
}

impl fmt::Debug for StoreLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreLogin")
            .field("store_user", &self.store_user)
            .finish_non_exhaustive()
    }
}
