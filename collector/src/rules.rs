//! Business events: which exchanges are a `login`, a `pay`, and which were an attempt at one.

use serde::Deserialize;

/// `POST /pay` with 2xx at the gateway is `pay`. A field left out matches anything.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventRule {
    /// Service the exchange was served by.
    pub service: Option<String>,
    /// Method, upper case.
    pub method: Option<String>,
    /// Route template, exactly.
    pub route: String,
    /// `2xx`, `404` and so on; default `2xx`.
    #[serde(default)]
    pub status: StatusPattern,
    /// Name of the event. An exchange that fits all but the status becomes `<event>.failed`.
    pub event: String,
}

/// A status code or a class of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct StatusPattern {
    from: u16,
    to: u16,
}

impl Default for StatusPattern {
    fn default() -> Self {
        Self { from: 200, to: 299 }
    }
}

impl TryFrom<String> for StatusPattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let error = || format!("`{text}` is no status: write 2xx, 4xx or a code such as 201");
        if let Some(class) = text.strip_suffix("xx") {
            let class: u16 = class.parse().ok().ok_or_else(error)?;
            return (1..=5)
                .contains(&class)
                .then_some(Self {
                    from: class * 100,
                    to: class * 100 + 99,
                })
                .ok_or_else(error);
        }
        let code = text.parse().ok().ok_or_else(error)?;
        Ok(Self {
            from: code,
            to: code,
        })
    }
}

/// The rules in order; the first that fits names the event.
#[derive(Clone, Debug, Default)]
pub struct EventRules(pub Vec<EventRule>);

impl EventRules {
    /// Names the event of an exchange, if it is one.
    pub fn name(
        &self,
        service: Option<&str>,
        method: Option<&str>,
        route: &str,
        status: Option<u16>,
    ) -> Option<String> {
        let accepts = |wanted: &Option<String>, got: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| Some(wanted) == got)
        };
        let fits = |rule: &&EventRule| {
            accepts(&rule.service, service) && accepts(&rule.method, method) && rule.route == route
        };
        let good = |rule: &EventRule| {
            status.is_some_and(|status| (rule.status.from..=rule.status.to).contains(&status))
        };
        let mut fitting = self.0.iter().filter(fits);
        let first = fitting.next()?;
        if good(first) {
            return Some(first.event.clone());
        }
        let other = fitting
            .find(|rule| good(rule))
            .map(|rule| rule.event.clone());
        Some(other.unwrap_or_else(|| format!("{}.failed", first.event)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn success_names_the_event_and_failure_the_attempt() {
        let rule = |status: &str, event: &str| EventRule {
            service: Some("gateway".to_owned()),
            method: Some("POST".to_owned()),
            route: "/pay".to_owned(),
            status: StatusPattern::try_from(status.to_owned()).unwrap(),
            event: event.to_owned(),
        };
        let rules = EventRules(vec![rule("2xx", "pay"), rule("402", "declined")]);
        let name = |service, status| rules.name(Some(service), Some("POST"), "/pay", status);
        assert_eq!(name("gateway", Some(201)).as_deref(), Some("pay"));
        assert_eq!(name("gateway", Some(402)).as_deref(), Some("declined"));
        assert_eq!(name("gateway", Some(500)).as_deref(), Some("pay.failed"));
        assert_eq!(name("gateway", None).as_deref(), Some("pay.failed"));
        assert_eq!(name("orders", Some(200)), None);
    }

    #[test]
    fn a_status_that_is_none_is_refused() {
        assert!(StatusPattern::try_from("9xx".to_owned()).is_err());
        assert!(StatusPattern::try_from("ok".to_owned()).is_err());
    }
}
