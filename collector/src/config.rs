//! The collector's configuration: flags over environment over file over defaults, all typed.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::IgnoredAny};

use crate::{
    attribution::discovery::Wanted,
    facts::{FactRules, Source},
    pipeline::PipelineConfig,
    privacy::{CookieAllow, List, PseudonymKey, Pseudonyms, QueryAllow, allow},
    routes::Routes,
    rules::{EventRule, EventRules},
    source::kernel::WatchSide,
};

/// A configuration that cannot be used; exit code 2.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {path}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The file does not parse.
    #[error("{path}: {message}")]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// Where and why.
        message: String,
    },
    /// A value that cannot work.
    #[error("{0}")]
    Value(String),
}

/// The file's contents. Unknown keys are errors.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FileConfig {
    /// `[[services]]`: a name per port; these ports are watched too.
    pub services: Vec<ServiceName>,
    /// Where identities are found.
    pub identity: Identity,
    /// Allow-list of headers.
    pub attributes: Attributes,
    /// Path templates, most specific first.
    pub routes: RouteTemplates,
    /// `[[events]]`: business events.
    pub events: Vec<EventRule>,
    /// `[run]`: flags of `collector run`, read before this.
    run: IgnoredAny,
    /// `[replay]`: flags of `collector replay`.
    replay: IgnoredAny,
}

/// A service's name.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceName {
    /// Port it listens on.
    pub port: u16,
    /// Name in exchanges and spans.
    pub name: String,
}

/// Sources of identities, in order of preference.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Identity {
    /// Default: the header `X-Tenant-ID`.
    pub tenant: Vec<Source>,
    /// Default: the claim `sub` of the JWT in `X-Auth-Token` or `Authorization`, of either message.
    pub user: Vec<Source>,
    /// Default: the cookies `session_id` and `sid`, then the header `X-Session-ID`.
    pub session: Vec<Source>,
    /// Whether user ids leave as pseudonyms; default yes.
    pub pseudonymise: bool,
}

impl Default for Identity {
    #[expect(clippy::expect_used, reason = "constants, covered by a test")]
    fn default() -> Self {
        let sources = |texts: &[&str]| {
            texts
                .iter()
                .map(|text| text.parse().expect("a default source parses"))
                .collect()
        };
        Self {
            tenant: sources(&["request.header:x-tenant-id"]),
            user: sources(&[
                "request.jwt:x-auth-token:sub",
                "request.jwt:authorization:sub",
                "response.jwt:x-auth-token:sub",
            ]),
            session: sources(&[
                "request.cookie:session_id",
                "request.cookie:sid",
                "request.header:x-session-id",
            ]),
            pseudonymise: true,
        }
    }
}

/// Which headers are kept.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Attributes {
    /// Request headers kept as attributes; default none.
    pub headers: Vec<String>,
    /// Cookies kept as attributes; default none.
    pub cookies: Vec<String>,
    /// Query parameters kept as attributes; default none.
    pub query: Vec<String>,
}

/// Path templates.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RouteTemplates {
    /// Such as `/products/{id}`.
    pub templates: Vec<String>,
}

impl FileConfig {
    /// Reads a file, or the defaults when there is none to read.
    ///
    /// # Errors
    /// When the file cannot be read, does not parse, or asks for what may not be.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let Some(path) = path else {
            return Ok(Self::default());
        };
        let text = fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        let config: Self = toml::from_str(&text).map_err(|error| ConfigError::Invalid {
            path: path.to_owned(),
            message: error.to_string(),
        })?;
        config.validate().map_err(|message| ConfigError::Invalid {
            path: path.to_owned(),
            message,
        })?;
        Ok(config)
    }

    fn validate(&self) -> Result<(), String> {
        let lists = [
            (List::Headers, &self.attributes.headers),
            (List::Cookies, &self.attributes.cookies),
            (List::Query, &self.attributes.query),
        ];
        for (list, names) in lists {
            allow::check(list, names).map_err(|error| error.to_string())?;
            let sources = self.identity.user.iter().chain(&self.identity.session);
            allow::check_identities(list, names, sources).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Configured names per port.
    pub fn names(&self) -> HashMap<u16, String> {
        self.services
            .iter()
            .map(|service| (service.port, service.name.clone()))
            .collect()
    }

    /// The pipeline's share.
    ///
    /// # Errors
    /// When an allow-list names what may not be kept.
    pub fn pipeline(&self, key: PseudonymKey) -> Result<PipelineConfig, ConfigError> {
        let bad = |error: allow::AllowError| ConfigError::Value(error.to_string());
        Ok(PipelineConfig {
            facts: FactRules {
                tenant: self.identity.tenant.clone(),
                user: self.identity.user.clone(),
                session: self.identity.session.clone(),
                attribute_headers: self
                    .attributes
                    .headers
                    .iter()
                    .map(|name| name.to_ascii_lowercase())
                    .collect(),
                cookies: CookieAllow::new(&self.attributes.cookies).map_err(bad)?,
                query: QueryAllow::new(&self.attributes.query).map_err(bad)?,
            },
            events: EventRules(self.events.clone()),
            routes: Routes::new(&self.routes.templates),
            pseudonyms: if self.identity.pseudonymise {
                Pseudonyms::of_all(key)
            } else {
                Pseudonyms::of_sessions(key)
            },
        })
    }
}

/// Where exchanges go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Output {
    /// NDJSON on standard output.
    Stdout,
    /// NDJSON into a file, appended.
    File(PathBuf),
    /// Nowhere: everything is decoded and counted, nothing written.
    None,
}

impl std::str::FromStr for Output {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("ndjson:") {
            None if text == "none" => Ok(Self::None),
            Some("-") => Ok(Self::Stdout),
            Some(path) if !path.is_empty() => Ok(Self::File(PathBuf::from(path))),
            _ => Err(format!(
                "`{text}` is no output: write ndjson:FILE, ndjson:- or none"
            )),
        }
    }
}

/// What to watch.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    /// Server ports.
    pub ports: Vec<u16>,
    /// Ports on which processes of this name listen are watched too.
    pub process: Option<String>,
    /// Attach here instead of at the root of the hierarchy.
    pub cgroup: Option<PathBuf>,
    /// Which end.
    pub side: WatchSide,
}

impl Watch {
    /// What discovery is to look for: ports given and named in the file, a process by name, or, when there is only a
    /// cgroup, whatever listens in it.
    ///
    /// # Errors
    /// When nothing is left to look for.
    pub fn wanted(&self, file: &FileConfig) -> Result<Wanted, ConfigError> {
        let mut ports: Vec<u16> = self
            .ports
            .iter()
            .copied()
            .chain(file.services.iter().map(|service| service.port))
            .collect();
        ports.sort_unstable();
        ports.dedup();
        let processes: Vec<String> = self.process.iter().cloned().collect();
        let cgroups = if ports.is_empty() && processes.is_empty() {
            self.cgroup.iter().cloned().collect()
        } else {
            Vec::new()
        };
        if ports.is_empty() && processes.is_empty() && cgroups.is_empty() {
            return Err(ConfigError::Value(
                "nothing to watch: give --port, --process, --cgroup, or [[services]] in a --config file"
                    .to_owned(),
            ));
        }
        Ok(Wanted {
            ports,
            processes,
            cgroups,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_sound() {
        let config = FileConfig::load(None).unwrap();
        assert_eq!(config.identity.tenant.len(), 1);
        assert_eq!(config.identity.user.len(), 3);
    }

    #[test]
    fn a_key_with_a_typo_is_an_error_that_names_it() {
        let error = toml::from_str::<FileConfig>("[identity]\ntenents = []\n")
            .unwrap_err()
            .to_string();
        assert!(error.contains("tenents"), "{error}");
    }

    #[test]
    fn secrets_cannot_be_put_on_the_allow_list() {
        let config: FileConfig =
            toml::from_str("[attributes]\nheaders = [\"Authorization\"]").unwrap();
        assert!(config.validate().unwrap_err().contains("Authorization"));
    }

    #[test]
    fn nothing_to_watch_is_an_error() {
        assert!(Watch::default().wanted(&FileConfig::default()).is_err());
    }
}
