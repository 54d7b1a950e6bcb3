//! Live funnels: what is set up before the server starts, and what runs beside it.
//!
//! Owns: the sinks on offer and the one task that feeds funnels and publishes what changed. Refuses: computing figures
//! (`funnel-engine`) and delivering them (`funnel-publish`).

mod driver;
mod meters;
mod webhooks;

use std::{collections::BTreeSet, fmt, sync::Arc};

use event_store::Store;
use funnel_engine::{
    FunnelDefinition,
    feed::{Feed, FeedSettings},
    live::{LiveConfig, Tumbling},
};
use funnel_publish::{
    ClickhouseSink, Hub, HubSettings, PrometheusSettings, PrometheusSink, Publisher, RedisSink,
    SinkError, SinkSettings,
};
use prometheus_client::registry::Registry;
use tokio::{sync::watch, task::JoinHandle};

pub use webhooks::{Webhook, WebhookFileError, load_webhooks};

use self::{driver::Driver, meters::Meters};
use crate::answers::Funnel;

/// Result windows of live funnels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LiveWindow {
    /// Hours of UTC.
    Hour,
    /// Days of UTC.
    Day,
}

impl LiveWindow {
    const fn tumbling(self) -> Tumbling {
        match self {
            Self::Hour => Tumbling::HOUR,
            Self::Day => Tumbling::DAY,
        }
    }
}

/// How funnels are kept live, and who is told.
#[derive(Debug)]
pub struct LiveSettings {
    /// Result windows.
    pub window: LiveWindow,
    /// So many windows before the current one are kept, too.
    pub windows_back: u32,
    /// Address of a Redis, if there is one.
    pub redis: Option<String>,
    /// Endpoints to post to.
    pub webhooks: Vec<Webhook>,
}

/// Live funnels that cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct LiveSetupError(#[from] SinkError);

/// Live funnels, set up and not yet running.
pub struct Live {
    store: Store,
    feed: Feed,
    width_ns: i64,
    names: BTreeSet<String>,
    redis: Option<RedisSink>,
    webhooks: Vec<Webhook>,
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live")
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

/// Live funnels while the server runs.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) hub: Hub,
    /// Slugs of the funnels that are kept live.
    pub(crate) names: BTreeSet<String>,
}

impl Live {
    /// Sets up all funnels that can be kept live; says in the log which cannot, and why. A funnel is known by its slug.
    ///
    /// # Errors
    /// When the address of Redis is none.
    pub fn new(
        store: &Store,
        funnels: &[Funnel],
        settings: LiveSettings,
    ) -> Result<Self, LiveSetupError> {
        let redis = settings.redis.as_deref().map(RedisSink::new).transpose()?;
        let tumbling = settings.window.tumbling();
        let definitions = funnels.iter().map(|funnel| FunnelDefinition {
            name: funnel.slug.clone(),
            ..funnel.definition.clone()
        });
        let mut names: BTreeSet<String> =
            funnels.iter().map(|funnel| funnel.slug.clone()).collect();
        let feeding = FeedSettings {
            live: LiveConfig::new(tumbling),
            windows_back: settings.windows_back,
        };
        let (feed, refused) = Feed::new(store.clone(), definitions, feeding, driver::now_ns);
        for refused in refused {
            let (funnel, error) = (&refused.funnel, &refused.error);
            tracing::warn!(funnel, %error, "this funnel is not kept live");
            names.remove(funnel);
        }
        let back_ns = i64::from(settings.windows_back).saturating_mul(tumbling.width_ns());
        for funnel in funnels.iter().filter(|funnel| names.contains(&funnel.slug)) {
            if funnel.definition.window.nanoseconds() > back_ns {
                tracing::warn!(
                    funnel = funnel.slug,
                    "its conversion window is longer than what --live-windows keeps: after a restart, windows that \
                     are older are not corrected any more"
                );
            }
        }
        Ok(Self {
            store: store.clone(),
            feed,
            width_ns: tumbling.width_ns(),
            names,
            redis,
            webhooks: settings.webhooks,
        })
    }

    /// Starts feeding and publishing; ends, with what waits delivered, when `ending` becomes true.
    pub(crate) fn start(
        self,
        registry: &mut Registry,
        ending: watch::Receiver<bool>,
    ) -> (Running, JoinHandle<()>) {
        let hub = Hub::new(HubSettings::default());
        let mut publisher = Publisher::new();
        publisher.register(registry);
        let settings = SinkSettings::default();
        let gauges = PrometheusSink::new(registry, PrometheusSettings::default());
        publisher.add("prometheus", gauges, settings);
        publisher.add("pages", hub.clone(), settings);
        publisher.add(
            driver::STORE,
            ClickhouseSink::new(self.store.clone()),
            settings,
        );
        if let Some(redis) = self.redis {
            publisher.add(driver::REDIS, redis, settings);
        }
        for webhook in self.webhooks {
            webhook.add_to(&mut publisher);
        }
        let meters = Arc::new(Meters::default());
        registry.register_collector(Box::new(Arc::clone(&meters)));
        let driver = Driver::new(self.feed, self.store, self.width_ns, publisher, meters);
        let running = Running {
            hub,
            names: self.names,
        };
        (running, tokio::spawn(driver.run(ending)))
    }
}
