//! Paths to routes: configured templates first, then a guess, with a bound on how many there may be.

use std::collections::{HashMap, HashSet};

use crate::limits::ROUTES_MAX;

/// What a path becomes when a service already has [`ROUTES_MAX`] routes.
pub const OTHER: &str = "{other}";

/// The routes of all services.
#[derive(Debug, Default)]
pub struct Routes {
    templates: Vec<Vec<String>>,
    known: HashMap<String, HashSet<String>>,
}

impl Routes {
    /// `templates` look like `/products/{id}/reviews`; the first that fits wins.
    pub fn new(templates: &[String]) -> Self {
        let split = |template: &String| segments(template).map(str::to_owned).collect();
        Self {
            templates: templates.iter().map(split).collect(),
            known: HashMap::new(),
        }
    }

    /// The route of `path` (without query) at `service`.
    pub fn route(&mut self, service: &str, path: &str) -> String {
        let route = self.match_template(path).unwrap_or_else(|| guess(path));
        let known = match self.known.get_mut(service) {
            Some(known) => known,
            None => self.known.entry(service.to_owned()).or_default(),
        };
        if known.contains(&route) {
            return route;
        }
        if known.len() >= ROUTES_MAX {
            return OTHER.to_owned();
        }
        known.insert(route.clone());
        route
    }

    fn match_template(&self, path: &str) -> Option<String> {
        let fits = |template: &&Vec<String>| {
            let mut of_path = segments(path);
            let all = template.iter().all(|part| {
                of_path
                    .next()
                    .is_some_and(|segment| part.starts_with('{') || part == segment)
            });
            all && of_path.next().is_none()
        };
        self.templates
            .iter()
            .find(fits)
            .map(|template| format!("/{}", template.join("/")))
    }
}

fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|segment| !segment.is_empty())
}

/// Replaces segments that look like identifiers: numbers, UUIDs, long hex, long mixed words.
fn guess(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for segment in segments(path) {
        out.push('/');
        out.push_str(if looks_like_id(segment) {
            "{id}"
        } else {
            segment
        });
    }
    if out.is_empty() { "/".to_owned() } else { out }
}

fn looks_like_id(segment: &str) -> bool {
    let digits = segment.bytes().filter(u8::is_ascii_digit).count();
    let hex = segment
        .bytes()
        .all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    let all_digits = digits == segment.len();
    all_digits
        || (hex && segment.len() >= 8 && digits > 0)
        || (segment.len() >= 12 && digits >= 4)
        || segment.len() > 64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_become_placeholders() {
        let mut routes = Routes::new(&["/shops/{shop}/items".to_owned()]);
        let cases = [
            ("/", "/"),
            ("/pay", "/pay"),
            ("/products/42", "/products/{id}"),
            (
                "/orders/0190b3c5-7d2a-7f3e-8a55-0123456789ab/pay",
                "/orders/{id}/pay",
            ),
            ("/shops/red-lantern/items", "/shops/{shop}/items"),
            ("/orders/ord_01h2xcejqtf2nbrexx3vqjhp41", "/orders/{id}"),
        ];
        for (path, route) in cases {
            assert_eq!(routes.route("s", path), route);
        }
    }

    #[test]
    fn the_number_of_routes_is_bounded() {
        let mut routes = Routes::default();
        let word = |n: usize| -> String {
            n.to_string()
                .bytes()
                .map(|digit| char::from(digit - b'0' + b'g'))
                .collect()
        };
        for n in 0..ROUTES_MAX + 10 {
            routes.route("s", &format!("/{}", word(n)));
        }
        assert_eq!(routes.route("s", "/fresh"), OTHER);
        assert_eq!(
            routes.route("s", &format!("/{}", word(1))),
            format!("/{}", word(1)),
            "known ones stay"
        );
        assert_eq!(
            routes.route("t", "/fresh"),
            "/fresh",
            "other services have their own"
        );
    }
}
