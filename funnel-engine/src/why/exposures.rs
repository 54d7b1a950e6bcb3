//! Who was exposed to which fact, and how many that makes: the counts that drivers are judged by.
//!
//! In memory; the store counts by itself (see [`read`](super::read)) and comes to the same. A property with more than
//! 50 values keeps its 50 most frequent, the others are one fact together. Refuses: judging.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::facts::{Fact, FactKind};

/// Values of a property that are told apart; the others are counted together.
pub const VALUES_MAX: usize = 50;
/// Different facts that a book holds.
const BOOK_MAX: usize = 1_000_000;

/// What became of a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Did not reach the next step.
    Dropped,
    /// Did.
    Converted,
}

/// A fact's place in a [`FactBook`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FactId(u32);

/// Each different fact once; at most 1,000,000 of them.
#[derive(Clone, Debug, Default)]
pub struct FactBook {
    ids: BTreeMap<Fact, FactId>,
    facts: Vec<Fact>,
}

impl FactBook {
    /// The fact's place; `None` when the book is full.
    pub fn id(&mut self, fact: Fact) -> Option<FactId> {
        if let Some(id) = self.ids.get(&fact) {
            return Some(*id);
        }
        let next = u32::try_from(self.facts.len()).ok().map(FactId)?;
        if self.facts.len() >= BOOK_MAX {
            return None;
        }
        self.facts.push(fact.clone());
        self.ids.insert(fact, next);
        Some(next)
    }

    fn fact(&self, id: FactId) -> Option<&Fact> {
        self.facts.get(usize::try_from(id.0).ok()?)
    }
}

/// What one subject was exposed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exposure {
    /// Place in the list of outcomes.
    pub subject: usize,
    /// What was seen while the subject was watched.
    pub facts: Vec<FactId>,
    /// The same, but watched no longer than a converted subject would be (see [`TimeCheck`](super::TimeCheck)).
    pub facts_in_time: Vec<FactId>,
}

/// How many subjects were exposed to a fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FactCount {
    /// To what.
    pub fact: Fact,
    /// Of those who dropped.
    pub dropped: u64,
    /// Of those who converted.
    pub converted: u64,
    /// Of those who dropped, within the time that a converted subject would have been watched.
    pub dropped_in_time: u64,
}

/// One side of the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Side {
    /// Subjects.
    pub total: u64,
    /// Subjects whose facts were read: all, or a sample by a hash of the user. The counts of the table are of these.
    pub sampled: u64,
}

/// All that was counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Those who dropped.
    pub dropped: Side,
    /// Those who converted.
    pub converted: Side,
    /// Different facts seen, with those that are not listed.
    pub facts_seen: u64,
    /// Per fact.
    pub facts: Vec<FactCount>,
}

/// Counts exposures in memory, folding rare values of properties.
pub fn count_exposures(book: &FactBook, outcomes: &[Outcome], exposures: &[Exposure]) -> Counts {
    let of = |outcome: Outcome| outcomes.iter().filter(|other| **other == outcome).count() as u64;
    let side = |total: u64| Side {
        total,
        sampled: total,
    };
    let folded = Folding::new(book, exposures);
    let mut counts: BTreeMap<Fact, (u64, u64, u64)> = BTreeMap::new();
    for exposure in exposures {
        let Some(outcome) = outcomes.get(exposure.subject) else {
            continue;
        };
        for fact in folded.facts(book, &exposure.facts) {
            let slot = counts.entry(fact).or_default();
            match outcome {
                Outcome::Dropped => slot.0 += 1,
                Outcome::Converted => slot.1 += 1,
            }
        }
        if *outcome == Outcome::Dropped {
            for fact in folded.facts(book, &exposure.facts_in_time) {
                counts.entry(fact).or_default().2 += 1;
            }
        }
    }
    let facts = counts.into_iter();
    let facts: Vec<FactCount> = facts
        .map(|(fact, (dropped, converted, dropped_in_time))| FactCount {
            fact,
            dropped,
            converted,
            dropped_in_time,
        })
        .collect();
    Counts {
        dropped: side(of(Outcome::Dropped)),
        converted: side(of(Outcome::Converted)),
        facts_seen: facts.len() as u64,
        facts,
    }
}

/// Which facts stand for themselves; the others are the rest of their property.
struct Folding {
    rare: BTreeSet<FactId>,
}

impl Folding {
    fn new(book: &FactBook, exposures: &[Exposure]) -> Self {
        let mut support: BTreeMap<FactId, u64> = BTreeMap::new();
        for exposure in exposures {
            let each: BTreeSet<&FactId> = exposure.facts.iter().collect();
            for id in each {
                *support.entry(*id).or_default() += 1;
            }
        }
        let mut values: BTreeMap<&str, Vec<(u64, &str, FactId)>> = BTreeMap::new();
        for (id, support) in support {
            if let Some(fact) = book.fact(id).filter(|fact| fact.kind == FactKind::Property) {
                let of_property = values.entry(&fact.name).or_default();
                of_property.push((support, &fact.value, id));
            }
        }
        let mut rare = BTreeSet::new();
        for mut of_property in values.into_values() {
            of_property.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(b.1)));
            rare.extend(of_property.iter().skip(VALUES_MAX).map(|(_, _, id)| *id));
        }
        Self { rare }
    }

    /// The facts of one subject, each once.
    fn facts(&self, book: &FactBook, ids: &[FactId]) -> BTreeSet<Fact> {
        let shown = |id: &FactId| {
            let fact = book.fact(*id)?;
            Some(if self.rare.contains(id) {
                Fact {
                    is_rest: true,
                    ..Fact::new(fact.kind, &fact.name, "")
                }
            } else {
                fact.clone()
            })
        };
        ids.iter().filter_map(shown).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn property(book: &mut FactBook, value: &str) -> FactId {
        book.id(Fact::new(FactKind::Property, "city", value))
            .unwrap()
    }

    fn exposure(subject: usize, facts: Vec<FactId>) -> Exposure {
        Exposure {
            subject,
            facts_in_time: facts.clone(),
            facts,
        }
    }

    #[test]
    fn each_subject_counts_once_on_its_own_side() {
        let mut book = FactBook::default();
        let (rome, oslo) = (property(&mut book, "Rome"), property(&mut book, "Oslo"));
        assert_eq!(property(&mut book, "Rome"), rome);
        let outcomes = [Outcome::Dropped, Outcome::Converted, Outcome::Dropped];
        let mut late = exposure(2, vec![rome]);
        late.facts_in_time.clear();
        let exposures = [
            exposure(0, vec![rome, rome]),
            exposure(1, vec![oslo]),
            late,
            exposure(9, vec![oslo]),
        ];
        let counts = count_exposures(&book, &outcomes, &exposures);
        let shown: Vec<_> = counts
            .facts
            .iter()
            .map(|count| {
                (
                    count.fact.value.as_str(),
                    count.dropped,
                    count.converted,
                    count.dropped_in_time,
                )
            })
            .collect();
        assert_eq!(shown, [("Oslo", 0, 1, 0), ("Rome", 2, 0, 1)]);
        assert_eq!(
            (
                counts.dropped.total,
                counts.converted.sampled,
                counts.facts_seen
            ),
            (2, 1, 2)
        );
    }

    #[test]
    fn rare_values_are_one_fact_and_no_subject_is_in_it_twice() {
        let mut book = FactBook::default();
        let mut exposures = Vec::new();
        // Values v0 to v49 twice, v50 to v59 once; one subject has the last two of these.
        for value in 0..60 {
            let id = property(&mut book, &format!("v{value}"));
            for _ in 0..if value < 50 { 2 } else { 1 } {
                exposures.push(exposure(exposures.len(), vec![id]));
            }
        }
        let last = exposures.pop().unwrap().facts[0];
        exposures.last_mut().unwrap().facts.push(last);
        let outcomes = vec![Outcome::Converted; exposures.len()];
        let counts = count_exposures(&book, &outcomes, &exposures);
        assert_eq!(counts.facts.len(), 51);
        let rest = counts
            .facts
            .iter()
            .find(|count| count.fact.is_rest)
            .unwrap();
        assert_eq!(
            (rest.converted, rest.fact.key()),
            (9, "property:city=*".to_owned())
        );
        assert!(
            counts
                .facts
                .iter()
                .filter(|count| !count.fact.is_rest)
                .all(|count| count.converted == 2)
        );
    }
}
