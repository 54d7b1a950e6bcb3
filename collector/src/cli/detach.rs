//! `collector detach`: ends a capture that was kept, and forgets what was needed to take it up again.

use std::fs;

use anyhow::Context as _;

use super::DetachArgs;
use crate::source::pins;

pub(super) fn run(args: &DetachArgs) -> anyhow::Result<()> {
    let was_there = pins::remove(&args.name)?;
    let folder = args.state.join(&args.name);
    match fs::remove_dir_all(&folder) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => {
            return Err(error).with_context(|| format!("while removing {}", folder.display()));
        }
    }
    if was_there {
        tracing::info!(
            name = args.name,
            "detached; nothing is captured under this name any more"
        );
    } else {
        tracing::warn!(name = args.name, "nothing was kept under this name");
    }
    Ok(())
}
