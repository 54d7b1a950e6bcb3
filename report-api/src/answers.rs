//! The funnels on offer, and their answers: asked once for many watchers.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use event_store::{Scope, TenantId};
use funnel_engine::{AtHand, DefinitionError, FunnelDefinition, FunnelResult, TimeRange, ask};
use tokio::sync::Mutex;

use crate::{metrics::Metrics, problem::Problem};

/// How old an answer may be when it is given again.
const FRESH: Duration = Duration::from_secs(1);
/// How long the store may think about a funnel.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Answers kept; beyond this, the stale ones are forgotten.
const KEPT_MAX: usize = 256;

/// Threads of one answer: one per core, because answers are asked once for many watchers.
pub(crate) fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// A funnel on offer.
#[derive(Clone, Debug)]
pub struct Funnel {
    /// Its name in addresses.
    pub slug: String,
    /// What is asked.
    pub definition: FunnelDefinition,
}

impl Funnel {
    /// The definition, over another period when one is asked for.
    pub(crate) fn over(&self, range: Option<&TimeRange>) -> FunnelDefinition {
        let own = self.definition.time_range.as_ref();
        FunnelDefinition {
            time_range: range.or(own).cloned(),
            ..self.definition.clone()
        }
    }
}

/// A folder of definitions that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {message}", path.display())]
pub struct FunnelFileError {
    path: PathBuf,
    message: String,
}

/// All `*.json` of a folder, by file name.
///
/// # Errors
/// The first file that is no definition.
pub fn load_funnels(folder: &Path) -> Result<Vec<Funnel>, FunnelFileError> {
    let wrong = |path: &Path, message: String| FunnelFileError {
        path: path.to_owned(),
        message,
    };
    let entries = fs::read_dir(folder).map_err(|error| wrong(folder, error.to_string()))?;
    let mut paths: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "json")
        })
        .collect();
    paths.sort();
    let load = |path: &PathBuf| {
        let text = fs::read_to_string(path).map_err(|error| wrong(path, error.to_string()))?;
        let named = |error: DefinitionError| wrong(path, error.to_string());
        let definition = FunnelDefinition::parse(&text).map_err(named)?;
        let slug = path.file_stem().and_then(|stem| stem.to_str());
        // `run` is the address that definitions are posted to.
        let slug = slug.filter(|slug| {
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
            slug.bytes().all(is_plain) && *slug != "run"
        });
        let slug = slug.ok_or_else(|| {
            let hint = "the file's name becomes part of addresses: use letters, digits and -, and not `run`";
            wrong(path, hint.to_owned())
        })?;
        Ok(Funnel {
            slug: slug.to_owned(),
            definition,
        })
    };
    let funnels: Vec<Funnel> = paths.iter().map(load).collect::<Result<_, _>>()?;
    if funnels.is_empty() {
        return Err(wrong(
            folder,
            "holds no *.json; put a funnel's definition there".to_owned(),
        ));
    }
    Ok(funnels)
}

/// Slug, shop, and period as nanoseconds since 1970.
type Key = (String, Option<TenantId>, Option<(i128, i128)>);
type Slot = Arc<Mutex<Option<(Instant, Arc<FunnelResult>)>>>;

/// Answers of the funnels on offer.
#[derive(Clone, Debug)]
pub(crate) struct Answers {
    at_hand: AtHand,
    metrics: Arc<Metrics>,
    slots: Arc<Mutex<BTreeMap<Key, Slot>>>,
}

impl Answers {
    pub(crate) fn new(at_hand: AtHand, metrics: Arc<Metrics>) -> Self {
        Self {
            at_hand,
            metrics,
            slots: Arc::default(),
        }
    }

    /// The answer as of now or a second ago; many askers at once cause one question.
    pub(crate) async fn latest(
        &self,
        funnel: &Funnel,
        scope: &Scope,
        range: Option<&TimeRange>,
    ) -> Result<Arc<FunnelResult>, Problem> {
        let period = range.map(|range| (range.from.as_nanosecond(), range.to.as_nanosecond()));
        let slot = self
            .slot((funnel.slug.clone(), scope.tenant().cloned(), period))
            .await;
        let mut kept = slot.lock().await;
        if let Some((at, result)) = kept.as_ref()
            && at.elapsed() < FRESH
        {
            return Ok(Arc::clone(result));
        }
        let result = Arc::new(self.ask(&funnel.over(range), scope).await?);
        *kept = Some((Instant::now(), Arc::clone(&result)));
        Ok(result)
    }

    /// The answer to any definition, as of now.
    pub(crate) async fn ask(
        &self,
        definition: &FunnelDefinition,
        scope: &Scope,
    ) -> Result<FunnelResult, Problem> {
        let started = Instant::now();
        let asked = ask(&self.at_hand, scope, definition, threads());
        let Ok(result) = tokio::time::timeout(ANSWER_WITHIN, asked).await else {
            return Err(Problem::too_slow());
        };
        self.metrics.funnel_asked(started.elapsed());
        let elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(result?.with_elapsed_ms(elapsed_ms))
    }

    async fn slot(&self, key: Key) -> Slot {
        let mut slots = self.slots.lock().await;
        if slots.len() >= KEPT_MAX && !slots.contains_key(&key) {
            slots.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        Arc::clone(slots.entry(key).or_default())
    }
}
