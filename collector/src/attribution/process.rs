//! Who a pid is: command, program and control groups from `/proc`, and a bounded cache of the answers.
//!
//! Owns reading one process and deciding what it is called. Refuses to keep or hand out arguments and environment:
//! they carry secrets. A pid alone is no identity, since pids are reused; pid and start time together are one.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::cgroup_facts::CgroupFacts;

/// Processes remembered; the one not asked for longest leaves first.
const PROCESSES_MAX: usize = 1_024;
/// An answer is believed this long before the start time is looked at again.
const BELIEVE_FOR: Duration = Duration::from_secs(3);
/// After this long everything is read again: a process may move between control groups or change its title.
const READ_AGAIN_AFTER: Duration = Duration::from_mins(1);
/// Bytes of a file of `/proc` that are read; the class path of a Java service is long and stands before its name.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// Characters of a name that are kept.
const NAME_CHARS_MAX: usize = 128;

/// One process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// Clock ticks from boot to the start of the process; with the pid, its identity.
    pub start_time: u64,
    /// Command name as the kernel has it: at most 15 bytes.
    pub command: String,
    /// File name of the program, or of the script that an interpreter runs. Never arguments.
    pub program: Option<String>,
    /// Container, pod and unit.
    pub cgroup: CgroupFacts,
}

/// Reads a process; `None` when there is no such process.
pub fn read(pid: u32) -> Option<Process> {
    read_under(Path::new("/proc"), pid)
}

pub(super) fn read_under(proc: &Path, pid: u32) -> Option<Process> {
    let folder = folder(proc, pid);
    let (start_time, command) = stat(&folder)?;
    let process = Process {
        pid,
        start_time,
        command,
        program: contents(&folder.join("cmdline")).and_then(|cmdline| program(&cmdline)),
        cgroup: contents(&folder.join("cgroup"))
            .map(|text| CgroupFacts::parse(&String::from_utf8_lossy(&text)))
            .unwrap_or_default(),
    };
    // The pid may have passed to another process between the files.
    (stat(&folder)?.0 == start_time).then_some(process)
}

fn folder(proc: &Path, pid: u32) -> PathBuf {
    proc.join(pid.to_string())
}

fn contents(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)
        .ok()?
        .take(FILE_BYTES_MAX)
        .read_to_end(&mut bytes)
        .ok()?;
    Some(bytes)
}

fn stat(folder: &Path) -> Option<(u64, String)> {
    parse_stat(&fs::read(folder.join("stat")).ok()?)
}

/// Start time (field 22) and command of `/proc/PID/stat`. The command may itself hold blanks and parentheses.
fn parse_stat(line: &[u8]) -> Option<(u64, String)> {
    let line = String::from_utf8_lossy(line);
    let (front, fields) = line.rsplit_once(')')?;
    let (_, command) = front.split_once('(')?;
    let start_time = fields.split_whitespace().nth(19)?.parse().ok()?;
    Some((start_time, clean(command).unwrap_or_default()))
}

/// A name fit for logs and labels; `None` when nothing is left of it.
fn clean(name: &str) -> Option<String> {
    let name: String = name
        .chars()
        .filter(|char| !char.is_control())
        .take(NAME_CHARS_MAX)
        .collect();
    (!name.is_empty()).then_some(name)
}

/// How the command line of an interpreter is read.
struct Interpreter {
    /// Its file name, without a version.
    name: &'static str,
    /// Options whose next argument is not the script.
    with_value: &'static [&'static str],
    /// Options whose next argument names what runs.
    with_script: &'static [&'static str],
    /// Options whose next argument is program text, which must not leave the process.
    with_code: &'static [&'static str],
}

#[rustfmt::skip]
const INTERPRETERS: &[Interpreter] = &[
    Interpreter { name: "python", with_value: &["-W", "-X", "-Q", "--check-hash-based-pycs"], with_script: &["-m"], with_code: &["-c"] },
    Interpreter { name: "pypy", with_value: &["-W", "-X"], with_script: &["-m"], with_code: &["-c"] },
    Interpreter {
        name: "node",
        with_value: &["-r", "--require", "--import", "--loader", "--experimental-loader", "-C", "--conditions", "--env-file", "--title", "--input-type"],
        with_script: &[], with_code: &["-e", "--eval", "-p", "--print", "-pe"],
    },
    Interpreter {
        name: "java",
        with_value: &["-cp", "-classpath", "--class-path", "-p", "--module-path", "--upgrade-module-path", "--add-modules", "--add-opens", "--add-exports",
            "--add-reads", "--limit-modules", "--patch-module", "--enable-native-access", "--source"],
        with_script: &["-jar", "-m", "--module"], with_code: &[],
    },
    Interpreter { name: "ruby", with_value: &["-C", "-E", "-I", "-r", "--encoding", "--enable", "--disable"], with_script: &[], with_code: &["-e"] },
    Interpreter { name: "perl", with_value: &["-I"], with_script: &[], with_code: &["-e", "-E"] },
    Interpreter {
        name: "php",
        with_value: &["-c", "-d", "-S", "-t", "-z", "--php-ini", "--define", "--server", "--docroot"],
        with_script: &["-f", "--file"], with_code: &["-r", "-B", "-R", "-E", "--run"],
    },
];

impl Interpreter {
    fn find(program: &str) -> Option<&'static Self> {
        // `python3.11` and `nodejs` are known by their plain names.
        let plain = program.trim_end_matches(|char: char| char.is_ascii_digit() || char == '.');
        let plain = if plain == "nodejs" { "node" } else { plain };
        INTERPRETERS
            .iter()
            .find(|interpreter| interpreter.name == plain)
    }

    /// The script's name, when the arguments leave no doubt which one it is.
    fn script<'a>(&self, mut arguments: impl Iterator<Item = &'a str>) -> Option<&'a str> {
        let mut after_unknown_option = false;
        while let Some(argument) = arguments.next() {
            if self.with_code.contains(&argument) || argument == "-" {
                return None;
            }
            if argument == "--" || self.with_script.contains(&argument) {
                return arguments.next().map(file_name);
            }
            if self.with_value.contains(&argument) {
                arguments.next();
            } else if argument.starts_with(['-', '@']) {
                after_unknown_option = argument.starts_with("--") && !argument.contains('=');
            } else {
                // The value of an option that is not in the table must not pass for a script: it may be a secret.
                let sure = !after_unknown_option || SCRIPT_ENDINGS.contains(&ending(argument));
                return sure.then(|| file_name(argument));
            }
        }
        None
    }
}

const SCRIPT_ENDINGS: &[&str] = &["py", "js", "mjs", "cjs", "ts", "rb", "ru", "pl", "php"];

fn ending(path: &str) -> &str {
    path.rsplit_once('.').map_or("", |(_, ending)| ending)
}

fn file_name(path: &str) -> &str {
    let path = path.trim_end_matches('/');
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

/// The name of what runs, from `/proc/PID/cmdline`.
fn program(cmdline: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(cmdline);
    let mut arguments = text.trim_end_matches('\0').split('\0');
    // A process may overwrite its arguments with a title, `nginx: worker process`; what follows is no name.
    let title = arguments.next()?;
    let title = title.split_once(": ").map_or(title, |(name, _)| name);
    let own = file_name(title.split_whitespace().next()?).trim_start_matches('-');
    let script = Interpreter::find(own).and_then(|interpreter| interpreter.script(arguments));
    clean(script.filter(|name| !name.is_empty()).unwrap_or(own))
}

#[derive(Debug)]
struct Entry {
    process: Option<Process>,
    read_at: Instant,
    checked_at: Instant,
    used: u64,
}

/// Remembers processes, also pids that are none, so that asking again is cheap.
#[derive(Debug)]
pub struct Processes {
    proc: PathBuf,
    entries: HashMap<u32, Entry>,
    uses: u64,
    reads: u64,
}

impl Default for Processes {
    fn default() -> Self {
        Self::under(Path::new("/proc"))
    }
}

impl Processes {
    pub(super) fn under(proc: &Path) -> Self {
        Self {
            proc: proc.to_owned(),
            entries: HashMap::new(),
            uses: 0,
            reads: 0,
        }
    }

    /// The process behind a pid, at most 3 s out of date; `None` when there is none.
    pub fn get(&mut self, pid: u32) -> Option<&Process> {
        self.get_at(pid, Instant::now())
    }

    /// How often a process was read from `/proc` whole; for watching the cache's worth.
    pub const fn reads(&self) -> u64 {
        self.reads
    }

    fn get_at(&mut self, pid: u32, now: Instant) -> Option<&Process> {
        self.uses += 1;
        if !self.is_current(pid, now) {
            self.make_room(pid);
            self.reads += 1;
            let process = read_under(&self.proc, pid);
            self.entries.insert(
                pid,
                Entry {
                    process,
                    read_at: now,
                    checked_at: now,
                    used: self.uses,
                },
            );
        }
        let entry = self.entries.get_mut(&pid)?;
        entry.used = self.uses;
        entry.process.as_ref()
    }

    /// Whether what is remembered still holds. A program started by `exec` keeps the start time, so the command
    /// is compared too.
    fn is_current(&mut self, pid: u32, now: Instant) -> bool {
        let Some(entry) = self.entries.get_mut(&pid) else {
            return false;
        };
        if now.saturating_duration_since(entry.checked_at) < BELIEVE_FOR {
            return true;
        }
        entry.checked_at = now;
        let Some(process) = &entry.process else {
            return false;
        };
        now.saturating_duration_since(entry.read_at) < READ_AGAIN_AFTER
            && stat(&folder(&self.proc, pid)).is_some_and(|(start_time, command)| {
                start_time == process.start_time && command == process.command
            })
    }

    fn make_room(&mut self, pid: u32) {
        if self.entries.len() < PROCESSES_MAX || self.entries.contains_key(&pid) {
            return;
        }
        let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.used);
        if let Some(oldest) = oldest.map(|(pid, _)| *pid) {
            self.entries.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_are_who_we_are() {
        let process = read(std::process::id()).unwrap();
        assert_eq!(process.pid, std::process::id());
        assert!(process.start_time > 0);
        let own = std::env::current_exe().unwrap();
        assert_eq!(
            process.program.as_deref(),
            own.file_name().unwrap().to_str()
        );
        // The kernel's copy of the thread group leader's name is cut at 15 bytes.
        assert!(
            own.file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with(&process.command)
        );
        assert_eq!(read(u32::MAX), None);
    }

    #[test]
    fn a_command_with_parentheses_does_not_shift_the_fields() {
        let line = b"42 (a) R) (b) S 1 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 987654 1 2 3\n";
        assert_eq!(parse_stat(line), Some((987_654, "a) R) (b".to_owned())));
        for bad in [
            &b""[..],
            b"42",
            b"42 (sh",
            b"42 (sh) S 1 2",
            b")(",
            b"\xff\xfe) (",
        ] {
            assert_eq!(parse_stat(bad), None);
        }
    }

    #[rustfmt::skip]
    const COMMAND_LINES: &[(&str, Option<&str>)] = &[
        ("/usr/sbin/postgres -D /var/lib", Some("postgres")),
        ("./target/release/shop", Some("shop")),
        ("-bash", Some("bash")),
        ("python3 app.py --password hunter2", Some("app.py")),
        ("/usr/bin/python3.11 -u -W ignore /srv/shop/manage.py runserver", Some("manage.py")),
        ("python3 -m http.server 8000", Some("http.server")),
        ("python3 -c print(1)", Some("python3")),
        ("python3 -", Some("python3")),
        ("python3", Some("python3")),
        ("/app/venv/bin/python /app/venv/bin/gunicorn shop:app -b :80", Some("gunicorn")),
        ("python-config --libs", Some("python-config")),
        ("node --max-old-space-size=512 /app/dist/server.js", Some("server.js")),
        ("nodejs -r dotenv/config index.js", Some("index.js")),
        ("node --some-new-option s3cret server.js", Some("node")),
        ("node --trace-warnings server.js", Some("server.js")),
        ("node -e while(1)", Some("node")),
        ("node_exporter --web.listen-address=:9100", Some("node_exporter")),
        ("java -Xmx1g -Dkey=s3cret -jar /opt/app/shop-1.2.jar --token x", Some("shop-1.2.jar")),
        ("java -server -cp /a:/b -Dx=y kafka.Kafka server.properties", Some("kafka.Kafka")),
        ("java @argfile", Some("java")),
        ("/usr/lib/jvm/bin/java -p /mods -m shop/shop.Main", Some("shop.Main")),
        ("ruby bin/rails server -e production", Some("rails")),
        ("ruby -e sleep", Some("ruby")),
        ("php -S 0.0.0.0:8000 router.php", Some("router.php")),
        ("php8.2 -d display_errors=0 artisan serve", Some("artisan")),
        ("perl -w /usr/bin/ack", Some("ack")),
        ("sh", Some("sh")),
        ("", None),
    ];

    #[test]
    fn a_program_is_named_without_its_arguments() {
        for (line, expected) in COMMAND_LINES {
            let cmdline = line.replace(' ', "\0");
            assert_eq!(program(cmdline.as_bytes()).as_deref(), *expected, "{line}");
        }
    }

    #[test]
    fn a_title_in_place_of_arguments_gives_the_name_alone() {
        let titles = [
            ("nginx: worker process\0\0\0", "nginx"),
            ("php-fpm: pool www", "php-fpm"),
            ("postgres: writer process", "postgres"),
            ("/usr/bin/redis-server 127.0.0.1:6379", "redis-server"),
            ("puma 6.4.2 (tcp://0.0.0.0:3000) [shop]\0left over", "puma"),
            ("sshd: root@pts/0", "sshd"),
        ];
        for (title, expected) in titles {
            assert_eq!(program(title.as_bytes()).as_deref(), Some(expected));
        }
    }

    fn write_process(proc: &Path, pid: u32, start_time: u64, command: &str) {
        let folder = folder(proc, pid);
        fs::create_dir_all(&folder).unwrap();
        let zeros = "0 ".repeat(18);
        fs::write(
            folder.join("stat"),
            format!("{pid} ({command}) S {zeros}{start_time} 0\n"),
        )
        .unwrap();
        fs::write(folder.join("cmdline"), format!("/usr/bin/{command}\0-x\0")).unwrap();
    }

    #[test]
    fn the_cache_believes_for_a_while_and_notices_reuse_and_exec() {
        let proc = tempfile::tempdir().unwrap();
        let mut cache = Processes::under(proc.path());
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        write_process(proc.path(), 7, 100, "sh");
        assert_eq!(cache.get_at(7, after(0)).unwrap().command, "sh");
        write_process(proc.path(), 7, 100, "shop");
        assert_eq!(cache.get_at(7, after(1)).unwrap().command, "sh", "believed");
        assert_eq!(cache.get_at(7, after(4)).unwrap().command, "shop", "exec");
        write_process(proc.path(), 7, 200, "shop");
        assert_eq!(cache.get_at(7, after(8)).unwrap().start_time, 200, "reuse");
        assert_eq!(cache.reads(), 3);
        assert!(cache.get_at(7, after(12)).is_some());
        assert_eq!(
            cache.reads(),
            3,
            "unchanged, so only the start time is read"
        );
        fs::remove_dir_all(folder(proc.path(), 7)).unwrap();
        assert!(cache.get_at(7, after(16)).is_none(), "gone");
        assert!(cache.get_at(7, after(17)).is_none());
        assert_eq!(cache.reads(), 4, "that there is none is remembered too");
        write_process(proc.path(), 7, 300, "new");
        assert_eq!(cache.get_at(7, after(20)).unwrap().command, "new");
    }

    #[test]
    fn the_cache_is_bounded_and_keeps_what_is_in_use() {
        let proc = tempfile::tempdir().unwrap();
        write_process(proc.path(), 1, 100, "init");
        let mut cache = Processes::under(proc.path());
        for pid in 2..5_000 {
            assert!(cache.get(pid).is_none());
            assert!(cache.get(1).is_some());
        }
        assert_eq!(cache.entries.len(), PROCESSES_MAX);
        assert!(cache.entries.contains_key(&1) && cache.entries.contains_key(&4_999));
        assert!(!cache.entries.contains_key(&2));
    }
}
