//! The file of webhooks (TOML): where to post results, signed with which secret, and of what.
//!
//! Secrets stand in files of their own and are never shown; an address may hold a token and is never shown either.

use std::{
    fs,
    path::{Path, PathBuf},
};

use event_store::{Scope, TenantId};
use funnel_publish::{Publisher, Secret, SinkSettings, Wanted, WebhookSink};
use serde::Deserialize;

const AGENT: &str = concat!("weir/", env!("CARGO_PKG_VERSION"));
/// Each has a queue and a task of its own.
const WEBHOOKS_MAX: usize = 100;

/// A file of webhooks that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {message}", path.display())]
pub struct WebhookFileError {
    path: PathBuf,
    message: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    webhooks: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    url: String,
    secret_file: PathBuf,
    funnels: Option<Vec<String>>,
    tenant: Option<String>,
    #[serde(default)]
    only_final: bool,
}

/// An endpoint to post to.
#[derive(Debug)]
pub struct Webhook {
    name: String,
    sink: WebhookSink,
    wanted: Wanted,
    only_final: bool,
}

impl Webhook {
    pub(super) fn add_to(self, publisher: &mut Publisher) {
        let settings = SinkSettings {
            only_final: self.only_final,
            ..SinkSettings::default()
        };
        let name = format!("webhook-{}", self.name);
        publisher.add_for(self.wanted, &name, self.sink, settings);
    }
}

/// Reads a file of webhooks. `slugs` are the funnels on offer.
///
/// # Errors
/// The first thing that is wrong, with its entry; without secrets.
pub fn load_webhooks(path: &Path, slugs: &[&str]) -> Result<Vec<Webhook>, WebhookFileError> {
    let wrong = |message: String| WebhookFileError {
        path: path.to_owned(),
        message,
    };
    let text = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    // Only what and where: the text around it could be an address with a token.
    let file: File = toml::from_str(&text).map_err(|error| {
        let line = error.span().map(|span| {
            let before = text.get(..span.start).unwrap_or_default();
            before.matches('\n').count() + 1
        });
        wrong(format!("line {}: {}", line.unwrap_or(1), error.message()))
    })?;
    if file.webhooks.is_empty() || file.webhooks.len() > WEBHOOKS_MAX {
        return Err(wrong(format!(
            "needs 1 to {WEBHOOKS_MAX} [[webhooks]], each with `name`, `url` and `secret_file`"
        )));
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut webhooks: Vec<Webhook> = Vec::with_capacity(file.webhooks.len());
    for (index, entry) in file.webhooks.into_iter().enumerate() {
        let is_repeated = webhooks.iter().any(|other| other.name == entry.name);
        let webhook = entry.read(folder, slugs);
        let webhook = webhook.and_then(|webhook| {
            let message = "`name` stands there twice".to_owned();
            if is_repeated {
                Err(message)
            } else {
                Ok(webhook)
            }
        });
        webhooks.push(webhook.map_err(|what| wrong(format!("webhook {}: {what}", index + 1)))?);
    }
    Ok(webhooks)
}

impl Entry {
    fn read(self, folder: &Path, slugs: &[&str]) -> Result<Webhook, String> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if self.name.is_empty() || !self.name.bytes().all(is_plain) {
            return Err("`name` shows in logs and metrics: use letters, digits and -".to_owned());
        }
        let file = folder.join(&self.secret_file);
        let secret = fs::read_to_string(&file)
            .map_err(|error| format!("`secret_file` {}: {error}", file.display()))?;
        let secret = Secret::new(secret.trim_end_matches(['\r', '\n']))
            .map_err(|error| format!("`secret_file` {}: {error}", file.display()))?;
        let sink = WebhookSink::new(&self.url, secret, AGENT)
            .map_err(|error| format!("`url`: {error}"))?;
        let scope = match &self.tenant {
            None => Scope::Operator,
            Some(tenant) => Scope::Tenant(
                TenantId::new(tenant).ok_or("`tenant` must not be empty; leave it out for all")?,
            ),
        };
        let mut wanted = Wanted::within(&scope);
        if let Some(funnels) = self.funnels {
            if let Some(unknown) = funnels.iter().find(|name| !slugs.contains(&name.as_str())) {
                return Err(format!(
                    "`funnels`: there is no funnel `{unknown}`; the name of its file without .json is meant"
                ));
            }
            wanted = wanted.funnels(funnels);
        }
        Ok(Webhook {
            name: self.name,
            sink,
            wanted,
            only_final: self.only_final,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "a secret that nobody may see";

    fn load(text: &str) -> Result<Vec<Webhook>, String> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("secret"), format!("{SECRET}\n")).unwrap();
        fs::write(folder.path().join("short"), "short\n").unwrap();
        let path = folder.path().join("webhooks.toml");
        fs::write(&path, text).unwrap();
        load_webhooks(&path, &["checkout"]).map_err(|error| error.to_string())
    }

    #[test]
    fn an_entry_becomes_an_endpoint_and_shows_no_secret() {
        let webhooks = load(
            "[[webhooks]]\nname = \"bi\"\nurl = \"https://bi.example/in?token=hidden\"\nsecret_file = \"secret\"\n\
             funnels = [\"checkout\"]\ntenant = \"t1\"\nonly_final = true\n",
        )
        .unwrap();
        assert_eq!(webhooks.len(), 1);
        assert!(webhooks[0].only_final);
        assert!(!format!("{webhooks:?}").contains(SECRET));
    }

    #[test]
    fn mistakes_are_named_and_secrets_are_not() {
        let entry = |more: &str| {
            let url = "url = \"http://bi.example/in?token=hidden\"";
            format!("[[webhooks]]\nname = \"bi\"\n{url}\nsecret_file = \"secret\"\n{more}\n")
        };
        let cases = [
            (String::new(), "[[webhooks]]"),
            (
                entry("funnels = [\"nope\"]"),
                "webhook 1: `funnels`: there is no funnel `nope`",
            ),
            (entry("tenant = \"\""), "`tenant`"),
            (entry("tennant = \"a\""), "tennant"),
            (entry("").replace("\"bi\"", "\"b i\""), "`name`"),
            (entry("").replace("\"secret\"", "\"absent\""), "absent"),
            (entry("").replace("\"secret\"", "\"short\""), "16 bytes"),
            (entry("").replace("http://", "ftp://"), "http://"),
            (
                entry("").replace("http://", "http://me:pw@"),
                "user or password",
            ),
            (entry("") + &entry(""), "webhook 2: `name`"),
            (entry("only_final = 3"), "line 5"),
        ];
        for (text, expected) in cases {
            let error = load(&text).unwrap_err();
            assert!(error.contains(expected), "{error} should name {expected}");
            assert!(
                !error.contains(SECRET) && !error.contains("hidden"),
                "{error}"
            );
        }
    }
}
