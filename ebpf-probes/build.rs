//! Builds the kernel programs for BPF and leaves the object where `src/lib.rs` embeds it.
//!
//! Two toolchains can do it and are looked for in this order: a rustc that ships a precompiled `core`
//! for BPF (Debian's `rustc-web` with `libstd-rust-web-dev-bpf`), and a rustup nightly with `rust-src`,
//! which compiles `core` itself. Neither is downloaded here: `cargo xtask setup` does that.

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const TARGET: &str = "bpfel-unknown-none";

/// A way to compile for BPF that exists on this machine.
enum Toolchain {
    /// This rustc carries `core` for the target.
    Precompiled(PathBuf),
    /// `cargo +nightly -Z build-std=core`.
    Nightly,
}

fn main() -> Result<(), Box<dyn Error>> {
    for path in [
        "kernel/src",
        "kernel/Cargo.toml",
        "kernel/Cargo.lock",
        "abi/src",
        "build.rs",
    ] {
        println!("cargo::rerun-if-changed={path}");
    }
    println!("cargo::rerun-if-env-changed=WEIR_BPF_RUSTC");
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    let kernel =
        PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or("cargo sets it")?).join("kernel");
    let linker = find_linker().ok_or(
        "bpf-linker is missing: run `cargo xtask setup`, or `cargo install bpf-linker --version 0.10.4 --locked`",
    )?;
    let toolchain = find_toolchain().ok_or(
        "no compiler for BPF: run `cargo xtask setup`; it installs Debian's `rustc-web libstd-rust-web-dev-bpf`. \
         Elsewhere: `rustup toolchain install nightly --component rust-src`",
    )?;
    // Beside the other profiles, so that debug, release and clippy share one build of the programs.
    let target_dir = out_dir.ancestors().nth(4).unwrap_or(&out_dir).join("bpf");
    compile(&toolchain, &kernel, &linker, &target_dir)?;
    let object = target_dir.join(TARGET).join("release").join("weir-kernel");
    fs::copy(&object, out_dir.join("weir-kernel.o"))?;
    Ok(())
}

fn compile(
    toolchain: &Toolchain,
    kernel: &Path,
    linker: &Path,
    target_dir: &Path,
) -> Result<(), Box<dyn Error>> {
    let mut cargo = match toolchain {
        Toolchain::Precompiled(rustc) => {
            let mut cargo = Command::new(env::var_os("CARGO").ok_or("cargo sets CARGO")?);
            cargo.env("RUSTC", rustc);
            cargo.args(["build", "--release", "--locked", "--target", TARGET]);
            cargo
        }
        Toolchain::Nightly => {
            let mut cargo = Command::new("rustup");
            cargo.args(["run", "nightly", "cargo", "build", "--release", "--locked"]);
            cargo
                .args(["--target", TARGET, "-Z", "build-std=core"])
                .env_remove("RUSTC");
            cargo
        }
    };
    // What cargo and clippy set for the outer build would reach the inner one and break it.
    for name in [
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "CARGO_ENCODED_RUSTFLAGS",
        "CLIPPY_ARGS",
    ] {
        cargo.env_remove(name);
    }
    let flags = format!(
        "-Clinker={} -Cdebuginfo=2 -Clink-arg=--btf",
        linker.display()
    );
    let output = cargo
        .current_dir(kernel)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", flags)
        .env("CARGO_TARGET_DIR", target_dir)
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "the kernel programs do not build:\n{}",
        String::from_utf8_lossy(&output.stderr)
    )
    .into())
}

fn find_linker() -> Option<PathBuf> {
    let home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")));
    let on_path = env::var_os("PATH").map(|path| env::split_paths(&path).collect::<Vec<_>>());
    on_path
        .unwrap_or_default()
        .into_iter()
        .chain(home.map(|home| home.join("bin")))
        .map(|folder| folder.join("bpf-linker"))
        .find(|candidate| candidate.is_file())
}

fn find_toolchain() -> Option<Toolchain> {
    let candidates = env::var_os("WEIR_BPF_RUSTC")
        .map(PathBuf::from)
        .into_iter()
        .chain(["/usr/bin/rustc".into()]);
    for rustc in candidates {
        if sysroot(Command::new(&rustc))
            .is_some_and(|root| root.join("lib/rustlib").join(TARGET).is_dir())
        {
            return Some(Toolchain::Precompiled(rustc));
        }
    }
    let mut nightly = Command::new("rustup");
    nightly.args(["run", "nightly", "rustc"]);
    sysroot(nightly)
        .is_some_and(|root| root.join("lib/rustlib/src/rust/library").is_dir())
        .then_some(Toolchain::Nightly)
}

fn sysroot(mut rustc: Command) -> Option<PathBuf> {
    let output = rustc
        .args(["--print", "sysroot"])
        .env_remove("RUSTC")
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| PathBuf::from(text.trim()))
}
