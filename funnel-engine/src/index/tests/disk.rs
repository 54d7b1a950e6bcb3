//! A disk that stops at a chosen step, and can lose what was not synced.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::Mutex,
};

use super::super::files::{Fault, Step};

/// Lets a number of steps happen, and knows what a loss of power would undo.
#[derive(Default)]
pub(super) struct Crash(Mutex<State>);

#[derive(Default)]
struct State {
    /// Steps that still happen; none: all do.
    left: Option<usize>,
    /// Whether the first step that does not happen is a write of which half arrives.
    tears: bool,
    /// Whether only that one step fails: a full disk rather than an end.
    heals: bool,
    stopped: Option<Step>,
    /// Written but not synced: how long each file lastingly is.
    dirty: BTreeMap<PathBuf, u64>,
    /// Names that may be gone.
    unnamed: BTreeSet<PathBuf>,
    /// The manifest that may come back.
    replaced: Option<(PathBuf, Option<Vec<u8>>)>,
}

impl Fault for Crash {
    fn before(&self, step: Step, path: &Path, bytes: usize) -> io::Result<usize> {
        let mut state = self.0.lock().unwrap();
        let stops = match &mut state.left {
            Some(0) => true,
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        };
        if stops {
            if state.heals {
                state.left = None;
            }
            let first = state.stopped.replace(step).is_none();
            if !(first && state.tears && step == Step::Write) {
                return Err(io::Error::other("stopped"));
            }
        }
        match step {
            Step::Create => {
                state.unnamed.insert(path.to_owned());
            }
            Step::Write | Step::Shorten => {
                let length = std::fs::metadata(path).map_or(0, |file| file.len());
                state.dirty.entry(path.to_owned()).or_insert(length);
            }
            Step::Sync => {
                state.dirty.remove(path);
            }
            Step::Rename => {
                let next = path.with_file_name("MANIFEST.next");
                assert!(
                    !state.dirty.contains_key(&next),
                    "renamed before it was synced"
                );
                state.unnamed.remove(&next);
                state.replaced = Some((path.to_owned(), std::fs::read(path).ok()));
            }
            Step::SyncDir => {
                state.unnamed.clear();
                state.replaced = None;
            }
            Step::Remove => {}
        }
        Ok(if stops { bytes / 2 } else { bytes })
    }
}

impl Crash {
    /// From now on so many steps happen.
    pub(super) fn arm(&self, left: usize, tears: bool, heals: bool) {
        *self.0.lock().unwrap() = State {
            left: Some(left),
            tears,
            heals,
            ..State::default()
        };
    }

    /// All steps happen again; which one did not, if any.
    pub(super) fn disarm(&self) -> Option<Step> {
        let mut state = self.0.lock().unwrap();
        state.left = None;
        state.stopped
    }

    /// What was not synced is lost; the name of the new manifest too, if `old_name`.
    pub(super) fn lose_power(&self, old_name: bool) {
        let state = self.0.lock().unwrap();
        for (path, length) in &state.dirty {
            if let Ok(file) = std::fs::OpenOptions::new().write(true).open(path)
                && file.metadata().unwrap().len() > *length
            {
                file.set_len(*length).unwrap();
            }
        }
        for path in &state.unnamed {
            if path.exists() {
                std::fs::remove_file(path).unwrap();
            }
        }
        if let Some((path, bytes)) = state.replaced.as_ref().filter(|_| old_name) {
            match bytes {
                Some(bytes) => std::fs::write(path, bytes).unwrap(),
                None => std::fs::remove_file(path).unwrap(),
            }
        }
    }
}
