//! A batch of events in columns: texts of tenants and names once, users one after another, times.
//!
//! Bounded by whoever fills it; some 40 bytes an event.

use std::collections::HashMap;

use event_store::TailRow;

/// Texts by code, in order of first appearance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Texts {
    texts: Vec<Box<str>>,
    codes: HashMap<Box<str>, u32>,
}

impl Texts {
    fn code(&mut self, text: &str) -> u32 {
        if let Some(code) = self.codes.get(text) {
            return *code;
        }
        // One text needs at least one event, and a batch has fewer than 2^32.
        let code = u32::try_from(self.texts.len()).unwrap_or(u32::MAX);
        self.texts.push(text.into());
        self.codes.insert(text.into(), code);
        code
    }

    /// The texts; the index of each is its code.
    pub fn all(&self) -> &[Box<str>] {
        &self.texts
    }

    fn get(&self, code: u32) -> &str {
        self.texts.get(code as usize).map_or("", |text| text)
    }
}

/// Events in columns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventBatch {
    tenants: Texts,
    names: Texts,
    tenant_codes: Vec<u32>,
    name_codes: Vec<u32>,
    times_ns: Vec<i64>,
    users: String,
    /// Where each event's user ends in `users`.
    user_ends: Vec<usize>,
}

impl EventBatch {
    /// Adds an event.
    pub fn push(&mut self, row: TailRow<'_>) {
        let tenant = self.tenants.code(row.tenant);
        let name = self.names.code(row.event);
        self.tenant_codes.push(tenant);
        self.name_codes.push(name);
        self.times_ns.push(row.at_ns);
        self.users.push_str(row.user);
        self.user_ends.push(self.users.len());
    }

    /// How many events.
    pub fn len(&self) -> usize {
        self.times_ns.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.times_ns.is_empty()
    }

    /// The tenants that occur.
    pub fn tenants(&self) -> &Texts {
        &self.tenants
    }

    /// The event names that occur.
    pub fn names(&self) -> &Texts {
        &self.names
    }

    /// The tenant of each event, as a code of [`Self::tenants`].
    pub fn tenant_codes(&self) -> &[u32] {
        &self.tenant_codes
    }

    /// The name of each event, as a code of [`Self::names`].
    pub fn name_codes(&self) -> &[u32] {
        &self.name_codes
    }

    /// The time of each event, nanoseconds since 1970 UTC.
    pub fn times_ns(&self) -> &[i64] {
        &self.times_ns
    }

    /// The user of each event; empty when unknown.
    pub fn users(&self) -> impl Iterator<Item = &str> {
        let starts = std::iter::once(0).chain(self.user_ends.iter().copied());
        starts
            .zip(&self.user_ends)
            .map(|(start, end)| self.users.get(start..*end).unwrap_or(""))
    }

    /// The events, in the order in which they were added.
    pub fn rows(&self) -> impl Iterator<Item = TailRow<'_>> {
        let codes = self.tenant_codes.iter().zip(&self.name_codes);
        codes
            .zip(&self.times_ns)
            .zip(self.users())
            .map(|(((tenant, name), at_ns), user)| TailRow {
                tenant: self.tenants.get(*tenant),
                user,
                at_ns: *at_ns,
                event: self.names.get(*name),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_as_they_went_in() {
        let rows: Vec<(String, String, i64, String)> = (0..100_i64)
            .map(|n| {
                let user = if n % 7 == 0 {
                    String::new()
                } else {
                    format!("ü{}", n % 13)
                };
                (format!("t{}", n % 3), user, n - 50, format!("e{}", n % 5))
            })
            .collect();
        let as_row = |row: &'static (String, String, i64, String)| TailRow {
            tenant: &row.0,
            user: &row.1,
            at_ns: row.2,
            event: &row.3,
        };
        let rows: &'static [_] = rows.leak();
        let mut batch = EventBatch::default();
        for row in rows {
            batch.push(as_row(row));
        }
        assert_eq!((batch.len(), batch.tenants().all().len()), (100, 3));
        assert!(batch.rows().eq(rows.iter().map(as_row)));
    }
}
