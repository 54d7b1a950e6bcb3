//! A funnel that is fed, and which funnels cannot be.

use std::sync::Arc;

use event_store::EVENT_PROPERTIES_MAX;

use super::{compiled::Compiled, events::properties_of};
use crate::{
    definition::FunnelDefinition,
    live::{LiveConfig, LiveError, LiveFunnel, LiveSet},
    matching::{Matcher, Wants},
    shape::Shape,
};

/// A funnel that is fed.
#[derive(Clone, Debug)]
pub(super) struct Registered {
    pub(super) definition: Arc<FunnelDefinition>,
    pub(super) compiled: Arc<Compiled>,
}

/// A funnel that cannot be kept live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its name.
    pub funnel: String,
    /// Why not.
    pub error: LiveError,
}

impl Registered {
    pub(super) fn new(definition: FunnelDefinition) -> Self {
        Self {
            compiled: Arc::new(Compiled::new(&definition)),
            definition: Arc::new(definition),
        }
    }

    /// The properties that it needs beyond those that are read already.
    pub(super) fn check(&self, read: &[String]) -> Result<Vec<String>, LiveError> {
        let http = self
            .definition
            .steps
            .iter()
            .position(|step| step.http.is_some());
        if let Some(index) = http {
            return Err(LiveError {
                path: format!("steps[{index}].http"),
                message: "live funnels follow named events only; name the route's event in the collector's rules and \
                          use that, or ask for the funnel in a batch"
                    .to_owned(),
            });
        }
        let mut more = properties_of(&self.definition);
        more.retain(|property| !read.contains(property));
        if read.len() + more.len() > EVENT_PROPERTIES_MAX {
            return Err(LiveError {
                path: "steps".to_owned(),
                message: format!(
                    "all live funnels together look at more than {EVENT_PROPERTIES_MAX} properties"
                ),
            });
        }
        Ok(more)
    }
}

/// Registers a funnel with a set.
pub(super) fn register(
    set: &mut LiveSet,
    funnel: &Registered,
    config: LiveConfig,
) -> Result<(), LiveError> {
    let shape = Shape::of(&funnel.definition);
    let matcher = Matcher::new(&shape, Wants { attempts: true });
    let live = LiveFunnel::new(&funnel.definition, Box::new(matcher), config)?;
    set.register(live, Box::new(Arc::clone(&funnel.compiled)))
}
