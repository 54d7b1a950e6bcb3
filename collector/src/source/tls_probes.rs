//! Probes on the TLS libraries of watched processes, and the processes whose TLS cannot be read.
//!
//! Owns: finding the file that carries OpenSSL's functions (a shared library of any version that has them, or the
//! program itself, as with Node), and attaching each file once for all processes that map it. Refuses: guessing at
//! functions by byte patterns, and libraries without these functions: those are named, with what they are.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use aya::programs::{
    ProbeKind, ProgramError, UProbe,
    uprobe::{UProbeError, UProbeScope},
};
use ebpf_probes::abi::names;

use super::{KernelSource, SourceError};

/// Processes remembered as looked at; beyond, all are looked at again.
const KNOWN_MAX: usize = 4_096;

/// A file mapped into a process.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mapped {
    inode: u64,
    path: String,
    /// Its address range, as `/proc/PID/map_files` names it.
    range: String,
}

/// What became of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Its TLS calls are read, in this file.
    Readable(PathBuf),
    /// It maps no file with OpenSSL's functions; what it seems to use instead.
    Unreadable(&'static str),
    /// It has gone, or `/proc` does not show its files.
    Hidden,
    /// The kernel does not let us probe.
    Refused,
}

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attached {
    /// Reading and writing are covered.
    Yes,
    /// It has no such functions.
    NoFunctions,
    /// It has, and the kernel refused.
    Refused,
}

/// The probes attached so far.
#[derive(Debug, Default)]
pub struct TlsProbes {
    /// Device and inode of files tried, and whether they carry the functions.
    files: HashMap<(u64, u64), Attached>,
    known: BTreeMap<u32, Reading>,
    /// Programs without the functions, by inode, and what they seem to use: reading a program whole takes long.
    instead: HashMap<u64, &'static str>,
}

impl TlsProbes {
    /// Sees to it that the TLS libraries of these processes are probed. Returns those looked at for the first time.
    pub fn cover(
        &mut self,
        source: &mut KernelSource,
        processes: impl IntoIterator<Item = u32>,
    ) -> Vec<(u32, Reading)> {
        if self.known.len() > KNOWN_MAX {
            self.known.clear();
        }
        let mut fresh = Vec::new();
        for process in processes {
            // A library may be loaded later, so that an unreadable process is looked at again.
            if matches!(self.known.get(&process), Some(Reading::Readable(_))) {
                continue;
            }
            let reading = self.cover_one(source, process);
            if self.known.get(&process) != Some(&reading) {
                fresh.push((process, reading.clone()));
            }
            self.known.insert(process, reading);
        }
        fresh
    }

    /// What became of a process.
    pub fn reading(&self, process: u32) -> Option<&Reading> {
        self.known.get(&process)
    }

    fn cover_one(&mut self, source: &mut KernelSource, process: u32) -> Reading {
        let Ok(maps) = fs::read_to_string(format!("/proc/{process}/maps")) else {
            return Reading::Hidden;
        };
        let program = fs::read_link(format!("/proc/{process}/exe")).unwrap_or_default();
        let mapped = executable_files(&maps);
        let is_candidate = |file: &&Mapped| {
            let name = file.path.rsplit('/').next().unwrap_or_default();
            name.starts_with("libssl") || Path::new(&file.path) == program
        };
        for file in mapped.iter().filter(is_candidate) {
            let Some((path, key)) = reachable(process, file) else {
                continue;
            };
            let attached = if let Some(attached) = self.files.get(&key) {
                *attached
            } else {
                let attached = attach_all(source, &path, key);
                self.files.insert(key, attached);
                attached
            };
            match attached {
                Attached::NoFunctions => {}
                Attached::Refused => return Reading::Refused,
                Attached::Yes => {
                    if let Err(error) = source.want_sessions_of(process) {
                        tracing::debug!(%error, process, "older TLS sessions of a process are not read");
                    }
                    return Reading::Readable(PathBuf::from(&file.path));
                }
            }
        }
        let inode = mapped.iter().find(|file| Path::new(&file.path) == program);
        let inode = inode.map_or(0, |file| file.inode);
        let instead = self.instead.entry(inode);
        Reading::Unreadable(instead.or_insert_with(|| what_instead(process, &mapped)))
    }
}

/// The executable mappings of files, each file once.
fn executable_files(maps: &str) -> Vec<Mapped> {
    let mut seen = HashSet::new();
    maps.lines()
        .filter_map(|line| {
            let mut fields = line.split_ascii_whitespace();
            let (range, rights) = (fields.next()?, fields.next()?);
            let (_offset, _device, inode) = (fields.next()?, fields.next()?, fields.next()?);
            let at = line.find('/')?;
            let path = line.get(at..)?.trim_end_matches(" (deleted)");
            let inode = inode.parse().ok()?;
            let is_new = rights.contains('x') && seen.insert((inode, path));
            is_new.then(|| Mapped {
                inode,
                path: path.to_owned(),
                range: range.to_owned(),
            })
        })
        .collect()
}

/// A path by which we reach the file the process has mapped: as it sees it, as we see it, or by the mapping itself
/// (a library that was replaced on disk since).
fn reachable(process: u32, file: &Mapped) -> Option<(PathBuf, (u64, u64))> {
    let candidates = [
        PathBuf::from(format!("/proc/{process}/root{}", file.path)),
        PathBuf::from(&file.path),
        PathBuf::from(format!("/proc/{process}/map_files/{}", file.range)),
    ];
    candidates.into_iter().find_map(|path| {
        let data = fs::metadata(&path).ok()?;
        (data.ino() == file.inode).then(|| (path, (data.dev(), data.ino())))
    })
}

/// Attaches every probe the file has a function for.
fn attach_all(source: &mut KernelSource, path: &Path, (device, inode): (u64, u64)) -> Attached {
    let mut covered = HashSet::new();
    for (function, entry, done) in names::TLS_PROBES {
        let programs = [
            Some((*entry, ProbeKind::Entry)),
            done.map(|done| (done, ProbeKind::Return)),
        ];
        for (program, kind) in programs.into_iter().flatten() {
            let link = format!("{program}-{device:x}-{inode:x}");
            let attach =
                |probe: &mut UProbe| probe.attach(*function, path, UProbeScope::AllProcesses);
            match source.attach_probe(program, kind, attach, &link) {
                Ok(()) => drop(covered.insert(*function)),
                // Older versions have no `_ex`, and most programs carry no TLS at all.
                Err(error) if lacks_the_function(&error) => break,
                Err(error) => {
                    tracing::warn!(path = %path.display(), "TLS is not read: {:#}", anyhow::Error::from(error));
                    return Attached::Refused;
                }
            }
        }
        if *function == "SSL_write" && covered.is_empty() {
            return Attached::NoFunctions;
        }
    }
    if covered.contains("SSL_write") && covered.contains("SSL_read") {
        Attached::Yes
    } else {
        Attached::NoFunctions
    }
}

fn lacks_the_function(error: &SourceError) -> bool {
    let SourceError::Program { source, .. } = error else {
        return false;
    };
    matches!(
        **source,
        ProgramError::UProbeError(UProbeError::SymbolError { .. })
    )
}

/// What a process without OpenSSL's functions seems to use.
fn what_instead(process: u32, mapped: &[Mapped]) -> &'static str {
    let maps = |part: &str| mapped.iter().any(|file| file.path.contains(part));
    if maps("/libgnutls") {
        return "GnuTLS";
    }
    if maps("/libnss3") {
        return "NSS";
    }
    if maps("/libmbedtls") {
        return "mbed TLS";
    }
    if maps("libjvm.so") {
        return "Java";
    }
    let Ok(program) = fs::read(format!("/proc/{process}/exe")) else {
        return "unknown";
    };
    let holds = |mark: &[u8]| program.windows(mark.len()).any(|window| window == mark);
    if holds(b"\xff Go buildinf:") {
        "Go crypto/tls"
    } else if holds(b"/rustls-0.") || holds(b"rustls::") {
        "rustls"
    } else {
        "unknown"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executable_files_are_found_once_also_when_replaced_on_disk() {
        let maps = "\
55d0c0000000-55d0c0100000 r--p 00000000 08:01 11 /usr/sbin/nginx
55d0c0100000-55d0c0200000 r-xp 00100000 08:01 11 /usr/sbin/nginx
7f0000000000-7f0000001000 r-xp 00000000 00:00 0 [vdso]
7f0000010000-7f0000020000 r-xp 00010000 08:01 42 /usr/lib/x86_64-linux-gnu/libssl.so.3 (deleted)
7f0000020000-7f0000030000 r-xp 00010000 08:01 42 /usr/lib/x86_64-linux-gnu/libssl.so.3
";
        let files = executable_files(maps);
        let told: Vec<(&str, u64)> = files
            .iter()
            .map(|file| (file.path.as_str(), file.inode))
            .collect();
        assert_eq!(
            told,
            [
                ("/usr/sbin/nginx", 11),
                ("/usr/lib/x86_64-linux-gnu/libssl.so.3", 42)
            ]
        );
        assert_eq!(files[1].range, "7f0000010000-7f0000020000");
    }
}
