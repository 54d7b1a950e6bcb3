//! Finds the cgroup v2 hierarchy in the mount table; its place differs between machines.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

/// No cgroup v2 to attach to.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// Not mounted anywhere.
    #[error(
        "no cgroup v2 is mounted; mount one with `mount -t cgroup2 none /sys/fs/cgroup/unified`"
    )]
    NotMounted,
    /// A directory of something else.
    #[error("{path} is no directory of cgroup v2: `collector doctor` shows where that is mounted")]
    NotACgroup {
        /// What was given.
        path: PathBuf,
    },
    /// The mount table cannot be read.
    #[error("cannot read {path}")]
    Unreadable {
        /// What was read.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

/// The root of the first cgroup v2 mount.
///
/// # Errors
/// When the mount table is unreadable or lists none.
pub fn mount_point() -> Result<PathBuf, CgroupError> {
    let path = Path::new("/proc/self/mounts");
    let table = fs::read_to_string(path).map_err(|source| CgroupError::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    find(&table).ok_or(CgroupError::NotMounted)
}

/// Opens a cgroup for attaching: the given one, or the root of the hierarchy.
///
/// # Errors
/// When there is none or it cannot be opened.
pub fn open(path: Option<&Path>) -> Result<(PathBuf, File), CgroupError> {
    let path = match path {
        Some(path) => path.to_owned(),
        None => mount_point()?,
    };
    let file = File::open(&path).map_err(|source| CgroupError::Unreadable {
        path: path.clone(),
        source,
    })?;
    // Only version 2 has this file, in every directory of it.
    if !path.join("cgroup.controllers").exists() {
        return Err(CgroupError::NotACgroup { path });
    }
    Ok((path, file))
}

fn find(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (_device, place, kind) = (fields.next()?, fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(place.replace("\\040", " ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_version_is_found_beside_the_first() {
        let mounts = "cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\ncgroup2 /sys/fs/cgroup/my\\040unified cgroup2 rw 0 0\n";
        assert_eq!(
            find(mounts),
            Some(PathBuf::from("/sys/fs/cgroup/my unified"))
        );
        assert_eq!(find("cgroup /sys/fs/cgroup cgroup rw 0 0\n"), None);
    }
}
