//! Names that stand for people: the same for the same person of the same shop, and of no use without the key.
//!
//! Owns: the key's file and how a pseudonym is computed. Refuses: finding identities (`facts.rs` does) and remembering
//! them: nothing maps a pseudonym back, not even in memory.
//!
//! A pseudonym is HMAC-SHA-256 under the key, cut to 128 bits, of the text `weir/1/KIND/LENGTH/TENANT/ID`: KIND is
//! `user` or `session`, LENGTH the bytes of the tenant in decimal, or `-` with an empty tenant where there is none. The
//! length makes it impossible for two different triples to give the same text, `weir/1` keeps other uses of the key
//! apart, and the tenant in it keeps a person who buys in two shops from being recognised across them.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::scrub::scrub;

const KEY_BYTES: usize = 32;
/// Bytes of the MAC that are shown: 128 bits, so that even a billion people have no pseudonym in common.
const SHOWN_BYTES: usize = 16;
/// A file that is longer is no key; nothing beyond is read.
const FILE_BYTES_MAX: u64 = 256;
const HEX: &[u8; 16] = b"0123456789abcdef";

/// Whom a pseudonym stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A person; the pseudonym begins with `u_`.
    User,
    /// A visit; the pseudonym begins with `s_`.
    Session,
}

impl Kind {
    const fn prefix(self) -> &'static str {
        match self {
            Self::User => "u_",
            Self::Session => "s_",
        }
    }

    const fn domain(self) -> &'static [u8] {
        match self {
            Self::User => b"weir/1/user/",
            Self::Session => b"weir/1/session/",
        }
    }
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file is there and cannot be read.
    #[error("cannot read the pseudonym key {path}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Others than the owner may open the file.
    #[error(
        "the pseudonym key {path} is open to others (mode {mode:04o}); whoever reads it can tell who is who: run `chmod 600 {path}`"
    )]
    OpenToOthers {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file holds something else.
    #[error(
        "{path} holds no pseudonym key (64 hexadecimal digits); restore it from a copy, or move it away to start with a new one, under which everybody gets a new pseudonym"
    )]
    NoKey {
        /// Which file.
        path: PathBuf,
    },
    /// There was none and none could be made.
    #[error(
        "cannot create the pseudonym key {path}; name a place that can be written with --pseudonym-key, or make the file with `openssl rand -hex 32` and mode 600"
    )]
    Uncreatable {
        /// Which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// The key under which pseudonyms are computed: 32 random bytes.
#[derive(Clone)]
pub struct PseudonymKey {
    /// The MAC with the key already taken in.
    keyed: Hmac<Sha256>,
}

impl fmt::Debug for PseudonymKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PseudonymKey").finish_non_exhaustive()
    }
}

impl PseudonymKey {
    /// A key from its bytes.
    pub fn from_bytes(key: [u8; KEY_BYTES]) -> Self {
        // HMAC fills a key up to its block with zeros; doing so here leaves nothing that can fail.
        let mut block = hmac::digest::Key::<Hmac<Sha256>>::default();
        for (place, byte) in block.iter_mut().zip(key) {
            *place = byte;
        }
        Self {
            keyed: Hmac::new(&block),
        }
    }

    /// A key that nobody keeps, for output that is compared with nothing else.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn random() -> io::Result<Self> {
        random_bytes().map(Self::from_bytes)
    }

    /// The key in a file, which is created with a random key, readable by the owner only, when it is missing.
    ///
    /// # Errors
    /// When the file cannot be read or created, when it holds no key, or when others may open it.
    pub fn load_or_create(path: &Path) -> Result<Self, KeyError> {
        if let Some(key) = read(path)? {
            return Ok(key);
        }
        let uncreatable = |source| KeyError::Uncreatable {
            path: path.to_owned(),
            source,
        };
        create(path).map_err(uncreatable)?;
        // Read back instead of kept: if another collector was quicker, its key is the one.
        read(path)?.ok_or_else(|| uncreatable(io::ErrorKind::NotFound.into()))
    }

    /// The pseudonym of an id within a tenant: `u_` or `s_`, then 32 lower-case hexadecimal digits.
    pub fn pseudonym(&self, tenant: Option<&str>, kind: Kind, id: &str) -> String {
        let mut mac = self.keyed.clone();
        mac.update(kind.domain());
        match tenant {
            Some(tenant) => {
                mac.update(tenant.len().to_string().as_bytes());
                mac.update(b"/");
                mac.update(tenant.as_bytes());
            }
            None => mac.update(b"-/"),
        }
        mac.update(b"/");
        mac.update(id.as_bytes());
        let digest = mac.finalize().into_bytes();
        let prefix = kind.prefix();
        let mut out = String::with_capacity(prefix.len() + 2 * SHOWN_BYTES);
        out.push_str(prefix);
        for byte in digest.iter().take(SHOWN_BYTES) {
            for digit in [byte >> 4, byte & 15] {
                let digit = HEX.get(usize::from(digit)).copied().unwrap_or_default();
                out.push(char::from(digit));
            }
        }
        out
    }
}

/// What becomes of identities on their way out.
#[derive(Clone, Debug)]
pub struct Pseudonyms {
    key: PseudonymKey,
    keeps_user_ids: bool,
}

impl Pseudonyms {
    /// Users and sessions both get pseudonyms.
    pub const fn of_all(key: PseudonymKey) -> Self {
        Self {
            key,
            keeps_user_ids: false,
        }
    }

    /// User ids go out as they are, for shops whose ids say nothing about a person.
    pub const fn of_sessions(key: PseudonymKey) -> Self {
        Self {
            key,
            keeps_user_ids: true,
        }
    }

    /// What stands for a user. An id that is itself an e-mail address or a secret is never kept.
    pub fn user(&self, tenant: Option<&str>, id: String) -> String {
        if self.keeps_user_ids && scrub(&id) == id {
            id
        } else {
            self.key.pseudonym(tenant, Kind::User, &id)
        }
    }

    /// What stands for a session. Never the id itself: whoever has that has the session.
    pub fn session(&self, tenant: Option<&str>, id: &str) -> String {
        self.key.pseudonym(tenant, Kind::Session, id)
    }
}

/// The key in a file; `None` without a file.
fn read(path: &Path) -> Result<Option<PseudonymKey>, KeyError> {
    let unreadable = |source| KeyError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    // Asked of the open file, so that it is the one that is read.
    let mode = file.metadata().map_err(unreadable)?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyError::OpenToOthers {
            path: path.to_owned(),
            mode,
        });
    }
    let mut text = Vec::new();
    file.take(FILE_BYTES_MAX)
        .read_to_end(&mut text)
        .map_err(unreadable)?;
    let key = parse(text.trim_ascii()).ok_or_else(|| KeyError::NoKey {
        path: path.to_owned(),
    })?;
    Ok(Some(PseudonymKey::from_bytes(key)))
}

fn parse(text: &[u8]) -> Option<[u8; KEY_BYTES]> {
    let (pairs, rest) = text.as_chunks::<2>();
    if pairs.len() != KEY_BYTES || !rest.is_empty() {
        return None;
    }
    let digit = |digit: u8| char::from(digit).to_digit(16);
    let mut key = [0; KEY_BYTES];
    for (place, [high, low]) in key.iter_mut().zip(pairs) {
        *place = u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()?;
    }
    Some(key)
}

/// Puts a new key in place: written under another name and linked, so that nobody ever reads half a key or replaces one.
fn create(path: &Path) -> io::Result<()> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    fs::create_dir_all(folder)?;
    let name: [u8; 8] = random_bytes()?;
    let unfinished = folder.join(format!(".pseudonym-{:016x}", u64::from_le_bytes(name)));
    let written = write_key(&unfinished).and_then(|()| match fs::hard_link(&unfinished, path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        Ok(()) | Err(_) => Ok(()),
    });
    let removed = fs::remove_file(&unfinished);
    written?;
    removed?;
    File::open(folder)?.sync_all()
}

fn write_key(path: &Path) -> io::Result<()> {
    let key: [u8; KEY_BYTES] = random_bytes()?;
    let mut text = key
        .iter()
        .fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    text.push('\n');
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn random_bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use proptest::prelude::*;

    use super::*;

    fn key() -> PseudonymKey {
        PseudonymKey::from_bytes(std::array::from_fn(|at| u8::try_from(at).unwrap()))
    }

    /// Truth from elsewhere: `printf %s TEXT | openssl dgst -sha256 -mac HMAC -macopt hexkey:000102...1f`.
    #[test]
    fn openssl_computes_the_same() {
        let of = |tenant, kind, id| key().pseudonym(tenant, kind, id);
        assert_eq!(
            of(Some("lamps"), Kind::User, "u7"),
            "u_793614ce414ade06fcafbb0d28fd083a"
        );
        assert_eq!(
            of(None, Kind::Session, "s9"),
            "s_748df5f4afbb106866d9f791b300dbc5"
        );
        assert_eq!(
            of(Some(""), Kind::User, "j\u{f6}rg"),
            "u_16a48409195bab87dde68e833d5915c4"
        );
    }

    #[test]
    fn shops_kinds_and_keys_are_kept_apart() {
        let other = PseudonymKey::from_bytes([7; KEY_BYTES]);
        let mut seen = std::collections::BTreeSet::new();
        for key in [&key(), &other] {
            for tenant in [None, Some(""), Some("a"), Some("a/b"), Some("1/a")] {
                for kind in [Kind::User, Kind::Session] {
                    for id in ["", "7", "b/7", "a/7"] {
                        let pseudonym = key.pseudonym(tenant, kind, id);
                        assert!(seen.insert(pseudonym[2..].to_owned()), "{tenant:?} {id}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_key_is_made_once_and_for_the_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/pseudonym.key");
        let first = PseudonymKey::load_or_create(&path).unwrap();
        let again = PseudonymKey::load_or_create(&path).unwrap();
        let of = |key: &PseudonymKey| key.pseudonym(None, Kind::User, "u7");
        assert_eq!(of(&first), of(&again));
        assert_ne!(of(&first), of(&PseudonymKey::random().unwrap()));
        let mode = fs::metadata(&path).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(
            text.trim_end().len(),
            64,
            "as `openssl rand -hex 32` writes it"
        );
        let left: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().collect();
        assert_eq!(left.len(), 1, "nothing unfinished stays: {left:?}");
    }

    #[test]
    fn collectors_that_start_together_agree_on_one_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pseudonym.key");
        let start = || {
            PseudonymKey::load_or_create(&path)
                .unwrap()
                .pseudonym(None, Kind::User, "u7")
        };
        let all: Vec<String> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        assert!(all.iter().all(|pseudonym| *pseudonym == all[0]), "{all:?}");
    }

    #[test]
    fn mistakes_are_told_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pseudonym.key");
        let said = |path: &Path| PseudonymKey::load_or_create(path).unwrap_err().to_string();
        PseudonymKey::load_or_create(&path).unwrap();
        for mode in [0o640, 0o604, 0o620] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let said = said(&path);
            assert!(
                said.contains("chmod 600") && said.contains(&format!("{mode:04o}")),
                "{said}"
            );
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let good = fs::read_to_string(&path).unwrap();
        for bad in [
            "",
            "secret",
            &good[1..],
            &good.replace('\n', "0"),
            &"z".repeat(64),
            &good.repeat(9),
        ] {
            fs::write(&path, bad).unwrap();
            assert!(said(&path).contains("64 hexadecimal digits"), "{bad}");
            assert_eq!(fs::read_to_string(&path).unwrap(), bad, "never overwritten");
        }
        assert!(said(&path.join("below-a-file")).contains("cannot read"));
        assert!(
            said(folder.path()).contains("chmod 600")
                || said(folder.path()).contains("cannot read")
        );
        assert!(said(Path::new("/proc/no-such-place")).contains("--pseudonym-key"));
    }

    #[test]
    fn the_key_is_never_shown() {
        let shown = format!("{:?}", Pseudonyms::of_all(key()));
        assert_eq!(
            shown,
            "Pseudonyms { key: PseudonymKey { .. }, keeps_user_ids: false }"
        );
    }

    #[test]
    fn kept_user_ids_are_no_addresses_and_sessions_are_never_kept() {
        let open = Pseudonyms::of_sessions(key());
        let closed = Pseudonyms::of_all(key());
        assert_eq!(open.user(Some("t"), "4711".to_owned()), "4711");
        let address = || "anna@mail.example".to_owned();
        assert_eq!(
            open.user(Some("t"), address()),
            closed.user(Some("t"), address())
        );
        assert!(closed.user(Some("t"), "4711".to_owned()).starts_with("u_"));
        assert_eq!(open.session(None, "s9"), closed.session(None, "s9"));
    }

    proptest! {
        #[test]
        fn pseudonyms_look_the_same_whatever_the_id(
            tenant in proptest::option::of(".{0,80}"),
            id in ".{0,200}",
        ) {
            let pseudonym = key().pseudonym(tenant.as_deref(), Kind::User, &id);
            prop_assert_eq!(pseudonym.len(), 34);
            let digits = pseudonym.strip_prefix("u_").unwrap();
            prop_assert!(digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')));
            prop_assert_eq!(&key().pseudonym(tenant.as_deref(), Kind::User, &id), &pseudonym);
        }
    }
}
