//! A definition compiled against the names and the property columns of an index: what an event can do, found by its
//! codes instead of its texts.

use crate::{
    definition::{FunnelDefinition, Occurrence, StepEvent},
    index::PropertyColumn,
    predicate::{Condition, Test},
    shape::Kind,
};

/// Which bit of a [`Kind`] a rule gives.
#[derive(Clone, Copy, Debug)]
enum Gives {
    Step(u32),
    Exclusion(u32),
}

/// A step or exclusion that has conditions.
#[derive(Clone, Debug)]
struct Rule {
    gives: Gives,
    /// Indices of [`Rules::tests`]; all must hold.
    tests: Vec<usize>,
}

/// What a name can be.
#[derive(Clone, Debug, Default)]
struct Name {
    /// Without looking at properties.
    kind: Kind,
    /// With looking at them, by index of [`Rules::conditional`].
    conditional: Vec<usize>,
    /// Steps that take this name, whatever the properties say.
    named: u64,
}

/// What events of one tenant can do.
#[derive(Debug)]
pub(crate) struct Rules {
    names: Vec<Name>,
    conditional: Vec<Rule>,
    /// Column (by index of the wanted properties) and test.
    tests: Vec<(usize, Test)>,
    /// Tests that every event must pass.
    global: Vec<usize>,
    /// Steps that take only a user's first event of their names.
    pub(crate) first_ever: u64,
    /// Steps that take only a user's first event that passes.
    pub(crate) first_matching: u64,
}

/// The properties that a definition looks at, without repetition.
pub fn wanted_properties(definition: &FunnelDefinition) -> Vec<String> {
    let mut wanted: Vec<String> = Vec::new();
    let mut add = |name: &str| {
        if !wanted.iter().any(|known| known == name) {
            wanted.push(name.to_owned());
        }
    };
    let of_steps = definition
        .steps
        .iter()
        .flat_map(crate::definition::Step::all_conditions);
    of_steps.for_each(|condition| add(&condition.property));
    let others = definition
        .exclusions
        .iter()
        .flat_map(|exclusion| &exclusion.conditions);
    others
        .chain(&definition.conditions)
        .for_each(|condition| add(&condition.property));
    let breakdown = definition
        .breakdown
        .iter()
        .flat_map(|breakdown| &breakdown.properties);
    breakdown.for_each(|property| add(property));
    if definition.count == crate::definition::Count::Sessions {
        add("session");
    }
    wanted
}

impl Rules {
    /// Compiles a definition for a list of event names; columns are numbered as `wanted` lists them.
    pub(crate) fn new(definition: &FunnelDefinition, names: &[String], wanted: &[String]) -> Self {
        let mut rules = Self {
            names: vec![Name::default(); names.len()],
            conditional: Vec::new(),
            tests: Vec::new(),
            global: Vec::new(),
            first_ever: 0,
            first_matching: 0,
        };
        rules.global = rules.compile(&definition.conditions, wanted);
        for (bit, step) in (0_u32..).zip(&definition.steps) {
            match step.occurrence {
                Occurrence::Any => {}
                Occurrence::FirstMatching => rules.first_matching |= 1 << bit,
                Occurrence::FirstEver => rules.first_ever |= 1 << bit,
            }
            let tests = rules.compile(&step.all_conditions(), wanted);
            rules.add(Gives::Step(bit), &step.event, tests, names);
        }
        for (bit, exclusion) in (0_u32..).zip(&definition.exclusions) {
            let tests = rules.compile(&exclusion.conditions, wanted);
            rules.add(Gives::Exclusion(bit), &exclusion.event, tests, names);
        }
        rules
    }

    fn compile(&mut self, conditions: &[Condition], wanted: &[String]) -> Vec<usize> {
        let compiled = conditions.iter().map(|condition| {
            // A property that no column was read for is never set.
            let column = wanted.iter().position(|name| *name == condition.property);
            self.tests
                .push((column.unwrap_or(usize::MAX), Test::compile(condition)));
            self.tests.len() - 1
        });
        compiled.collect()
    }

    fn add(&mut self, gives: Gives, event: &StepEvent, tests: Vec<usize>, names: &[String]) {
        let rule = self.conditional.len();
        let is_plain = tests.is_empty();
        for (name, text) in self.names.iter_mut().zip(names) {
            if !event.accepts(text) {
                continue;
            }
            if let Gives::Step(bit) = gives {
                name.named |= 1 << bit;
            }
            if is_plain {
                gives.to(&mut name.kind);
            } else {
                name.conditional.push(rule);
            }
        }
        self.conditional.push(Rule { gives, tests });
    }

    /// Whether names alone tell what an event can do.
    pub(crate) fn are_plain(&self) -> bool {
        self.tests.is_empty() && self.first_ever == 0 && self.first_matching == 0
    }

    /// What events of each name can do, by name code, where names alone tell.
    pub(crate) fn kinds(&self) -> Vec<Kind> {
        self.names.iter().map(|name| name.kind).collect()
    }

    /// Whether an event of a name may fill the first step, by name code.
    pub(crate) fn names_of_first_step(&self) -> Vec<bool> {
        self.names.iter().map(|name| name.named & 1 == 1).collect()
    }

    /// The tests, worked out for every value of a segment's columns.
    pub(crate) fn tables(&self, columns: &[Option<&PropertyColumn>]) -> Tables {
        let table = |(column, test): &(usize, Test)| {
            let values = columns
                .get(*column)
                .copied()
                .flatten()
                .map_or(&[][..], PropertyColumn::values);
            let set = values.iter().map(|value| test.holds(Some(value)));
            (
                *column,
                std::iter::once(test.holds(None)).chain(set).collect(),
            )
        };
        Tables(self.tests.iter().map(table).collect())
    }

    /// What an event can do: its kind if it is considered, and the steps that take its name.
    pub(crate) fn judge(&self, name: u16, codes: &[u32], tables: &Tables) -> (Option<Kind>, u64) {
        let Some(name) = self.names.get(usize::from(name)) else {
            return (None, 0);
        };
        let holds = |test: &usize| tables.holds(*test, codes);
        if !self.global.iter().all(holds) {
            return (None, name.named);
        }
        let mut kind = name.kind;
        for rule in name
            .conditional
            .iter()
            .filter_map(|rule| self.conditional.get(*rule))
        {
            if rule.tests.iter().all(holds) {
                rule.gives.to(&mut kind);
            }
        }
        (Some(kind), name.named)
    }
}

impl Gives {
    const fn to(self, kind: &mut Kind) {
        match self {
            Self::Step(bit) => kind.fills |= 1 << bit,
            Self::Exclusion(bit) => kind.excludes |= 1 << bit,
        }
    }
}

/// Per test: its column, and whether it holds, by value code (0: not set).
#[derive(Debug)]
pub(crate) struct Tables(Vec<(usize, Vec<bool>)>);

impl Tables {
    fn holds(&self, test: usize, codes: &[u32]) -> bool {
        self.0.get(test).is_some_and(|(column, table)| {
            let code = codes.get(*column).copied().unwrap_or(0);
            table.get(code as usize).copied().unwrap_or(false)
        })
    }
}
