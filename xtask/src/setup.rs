//! Installs what is missing, once, and says what it does.
//!
//! Debian with root: everything comes from apt, npm and cargo. Elsewhere: the exact list to install.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};

use crate::shell::{find_program, output_of, run, say};

/// Debian packages by what proves that they are there, and the first purpose that needs them.
const PACKAGES: &[(Purpose, &str, Proof)] = &[
    (
        Purpose::Demo,
        "rustc-web",
        Proof::File("/usr/share/doc/rustc-web"),
    ),
    (
        Purpose::Demo,
        "libstd-rust-web-dev-bpf",
        Proof::File("/usr/lib/rustlib/bpfel-unknown-none"),
    ),
    (Purpose::Demo, "curl", Proof::Program("curl")),
    (Purpose::Demo, "npm", Proof::Program("npm")),
    (Purpose::Tests, "procps", Proof::Program("kill")),
    (Purpose::Tests, "nginx-light", Proof::Program("nginx")),
    (Purpose::Tests, "wrk", Proof::Program("wrk")),
    (Purpose::Tests, "bpftrace", Proof::Program("bpftrace")),
    (Purpose::Tests, "openssl", Proof::Program("openssl")),
    (
        Purpose::Tests,
        "redis-server",
        Proof::Program("redis-server"),
    ),
    (Purpose::Tests, "gnutls-bin", Proof::Program("gnutls-serv")),
    (
        Purpose::Tests,
        "python3-venv",
        Proof::File("/usr/share/doc/python3-venv"),
    ),
    (Purpose::Tests, "poppler-utils", Proof::Program("pdftotext")),
    (Purpose::Tests, "chromium", Proof::Program("chromium")),
    (
        Purpose::Tests,
        "chromium-driver",
        Proof::Program("chromedriver"),
    ),
    (Purpose::Tests, "prometheus", Proof::Program("prometheus")),
];

/// What the machine is to be ready for; the tests need all that the demo does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Purpose {
    /// To build and run the river.
    Demo,
    /// To test and measure it: other servers, browsers, clients.
    Tests,
}

const BPF_LINKER_VERSION: &str = "0.10.4";
/// The ClickHouse engine as a library, and the checksum of the library itself.
const ENGINE_PACKAGE: &str = "@chdb/lib-linux-x64-gnu@26.7.3-stable.1";

#[derive(Clone, Copy)]
enum Proof {
    File(&'static str),
    Program(&'static str),
}

impl Proof {
    fn holds(self) -> bool {
        match self {
            Self::File(path) => Path::new(path).exists(),
            Self::Program(name) => find_program(name).is_some(),
        }
    }
}

/// Installs what a purpose needs and the machine lacks.
pub(crate) fn make_ready(purpose: Purpose) -> anyhow::Result<()> {
    install_packages(purpose)?;
    install_bpf_linker()?;
    install_engine()?;
    if purpose >= Purpose::Tests {
        install_nextest()?;
        install_foreign_clients()?;
        install_old_openssl()?;
    }
    Ok(())
}

pub(crate) fn run_and_say() -> anyhow::Result<()> {
    make_ready(Purpose::Tests)?;
    say("everything is here; next: cargo xtask demo, or cargo xtask test");
    Ok(())
}

fn install_packages(purpose: Purpose) -> anyhow::Result<()> {
    let missing: Vec<&str> = PACKAGES
        .iter()
        .filter(|(needed_by, _, proof)| *needed_by <= purpose && !proof.holds())
        .map(|(_, package, _)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let is_root = output_of("id", &["-u"]).as_deref() == Some("0");
    if find_program("apt-get").is_none() || !is_root {
        bail!(
            "please install (names are Debian's; `sudo apt-get install` them): {}",
            missing.join(" ")
        );
    }
    say(&format!("installing from Debian: {}", missing.join(" ")));
    run("apt-get", &["-qq", "update"])?;
    // A package that starts its server at once would hold a port that a test wants.
    let mut args = vec![
        "DEBIAN_FRONTEND=noninteractive",
        "RUNLEVEL=1",
        "apt-get",
        "-qq",
        "install",
        "-y",
        "--no-install-recommends",
    ];
    args.extend(&missing);
    run("env", &args).context(
        "on Debian 12, rustc-web with the BPF target comes from bookworm-security: is that among the sources of apt?",
    )
}

fn install_bpf_linker() -> anyhow::Result<()> {
    if find_program("bpf-linker").is_some() {
        return Ok(());
    }
    say("building bpf-linker (about two minutes, once)");
    run(
        "cargo",
        &[
            "install",
            "bpf-linker",
            "--version",
            BPF_LINKER_VERSION,
            "--locked",
        ],
    )
}

fn install_nextest() -> anyhow::Result<()> {
    if output_of("cargo", &["nextest", "--version"]).is_some() {
        return Ok(());
    }
    say("building cargo-nextest (some minutes, once)");
    run("cargo", &["install", "cargo-nextest", "--locked"])
}

/// What is installed once per user, shared by all checkouts.
fn cache_folder() -> PathBuf {
    let home = env::var_os("HOME").map_or_else(|| PathBuf::from("/tmp"), PathBuf::from);
    home.join(".cache/weir")
}

/// Where the engine library is kept.
pub(crate) fn engine_path() -> PathBuf {
    cache_folder().join("engine-26.7.3/libchdb.so")
}

/// The ClickHouse clients of other languages that the tests talk to `event-store serve` with.
fn install_foreign_clients() -> anyhow::Result<()> {
    let folder = cache_folder().join("clients");
    let (venv, node) = (folder.join("venv"), folder.join("node"));
    if !venv.join("bin/clickhouse-connect.installed").exists() {
        say("installing clickhouse-connect from PyPI (once)");
        fs::create_dir_all(&folder)
            .with_context(|| format!("while creating {}", folder.display()))?;
        run(
            "python3",
            &["-m", "venv", "--clear", &venv.to_string_lossy()],
        )?;
        run(
            &venv.join("bin/pip").to_string_lossy(),
            &["install", "--quiet", "clickhouse-connect==1.12.0"],
        )?;
        fs::write(venv.join("bin/clickhouse-connect.installed"), "")
            .context("while noting the installation")?;
    }
    if !node.join("node_modules/@clickhouse/client").exists() {
        say("installing @clickhouse/client from npm (once)");
        fs::create_dir_all(&node).with_context(|| format!("while creating {}", node.display()))?;
        run(
            "npm",
            &[
                "install",
                "--silent",
                "--prefix",
                &node.to_string_lossy(),
                "@clickhouse/client@1.23.1",
            ],
        )?;
    }
    Ok(())
}

/// OpenSSL 1.1 as a shared library, which Debian 12 has no more: out of a package of `PyPI` that brings it along.
fn install_old_openssl() -> anyhow::Result<()> {
    const PACKAGE: &str = "psycopg2-binary==2.9.3";
    let target = cache_folder().join("openssl-1.1");
    if target.is_dir() {
        return Ok(());
    }
    say("fetching OpenSSL 1.1 from PyPI, as a part of psycopg2-binary (once)");
    let unpacked = cache_folder().join("openssl-1.1.tmp");
    fs::create_dir_all(&unpacked)
        .with_context(|| format!("while creating {}", unpacked.display()))?;
    let unpacked_text = unpacked.to_string_lossy();
    let pip = cache_folder().join("clients/venv/bin/pip");
    run(
        &pip.to_string_lossy(),
        &[
            "install",
            "--quiet",
            "--no-deps",
            "--only-binary=:all:",
            "--python-version=3.10",
            "--platform=manylinux2014_x86_64",
            "--target",
            &unpacked_text,
            PACKAGE,
        ],
    )?;
    fs::rename(unpacked.join("psycopg2_binary.libs"), &target)
        .with_context(|| format!("while moving to {}", target.display()))?;
    fs::remove_dir_all(&unpacked).with_context(|| format!("while removing {}", unpacked.display()))
}

fn install_engine() -> anyhow::Result<()> {
    let target = engine_path();
    if target.is_file() {
        return Ok(());
    }
    ensure!(
        cfg!(all(target_os = "linux", target_arch = "x86_64")),
        "the embedded ClickHouse exists for Linux on x86-64 only; elsewhere give --clickhouse URL"
    );
    say("fetching the ClickHouse engine from npm (170 MB, once)");
    let folder = target.parent().context("the engine has a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("while creating {}", folder.display()))?;
    let folder_text = folder.to_string_lossy();
    // npm checks the package against the registry's integrity hash.
    run(
        "npm",
        &[
            "pack",
            "--silent",
            ENGINE_PACKAGE,
            "--pack-destination",
            &folder_text,
        ],
    )?;
    let archive = fs::read_dir(folder)?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "tgz"))
        .context("npm left no package behind")?;
    run(
        "tar",
        &[
            "-xzf",
            &archive.to_string_lossy(),
            "-C",
            &folder_text,
            "--strip-components=1",
            "package/libchdb.so",
        ],
    )?;
    fs::remove_file(&archive).with_context(|| format!("while removing {}", archive.display()))
}
