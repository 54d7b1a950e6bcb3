//! Taking rows in: looking up codes, and sharing rows out to segments of a tenant, a partition and a stretch of days.

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::RandomState;

use super::{
    dictionaries::Dictionaries,
    error::{IndexError, SegmentError},
    manifest::{Manifest, Reach, TENANTS_MAX},
    meta::{Source, coalesce, day_of},
    snapshot::Tenant,
    writer::EventRow,
};

/// A row of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row<'a> {
    /// Whose shop; empty for none.
    pub tenant: &'a str,
    /// Who; empty for nobody, which is indexed like any other id.
    pub user: &'a str,
    /// When, nanoseconds since 1970 UTC.
    pub at_ns: i64,
    /// What.
    pub name: &'a str,
}

/// Rows of one partition of the store.
pub struct Batch<'a> {
    /// Which: *all* rows of these blocks on these days. The batches of a partition follow each other, as the blocks
    /// do; of blocks that are cut into days, all days come before the next blocks. Blocks that are left out have no
    /// rows.
    pub source: Source,
    /// The rows, in any order.
    pub rows: Box<dyn Iterator<Item = Row<'a>> + 'a>,
}

/// Rows looked up at a time: so many are held beside the codes.
const LOOK_UP_ROWS: usize = 4_096;
/// A day with fewer events shares a segment with its neighbours.
const SEGMENT_EVENTS_MIN: usize = 16_384;
/// Most rows of one call: 16 bytes each in memory.
pub(super) const APPEND_ROWS_MAX: u64 = 1 << 27;

impl Reach {
    /// Takes note of a batch; false if it does not follow.
    fn advance(&mut self, source: &Source) -> bool {
        let sound = source.first_block <= source.last_block && source.first_day <= source.last_day;
        let follows = match self.ahead {
            None => {
                let fresh = *self == Self::default();
                (fresh || source.first_block > self.block) && source.first_day == i32::MIN
            }
            Some((block, day)) => {
                (source.last_block, source.first_day) == (block, day.saturating_add(1))
                    && source.first_block > self.block
            }
        };
        if source.last_day == i32::MAX {
            self.block = source.last_block;
            self.ahead = None;
        } else {
            self.ahead = Some((source.last_block, source.last_day));
        }
        sound && follows
    }
}

/// Moves the reach of a partition on.
pub(super) fn advance(
    reach: &mut BTreeMap<String, Reach>,
    source: &Source,
) -> Result<(), IndexError> {
    let entry = reach.entry(source.partition.clone()).or_default();
    let before = *entry;
    if entry.advance(source) {
        return Ok(());
    }
    Err(IndexError::OutOfOrder {
        partition: source.partition.clone(),
        first: source.first_block,
        last: source.last_block,
        reached: before.ahead.map_or(before.block, |(block, _)| block),
    })
}

/// Events of one future segment.
pub(super) struct Share {
    pub(super) rows: Vec<EventRow>,
    pub(super) sources: Vec<Source>,
}

/// Rows of one tenant.
#[derive(Default)]
pub(super) struct TenantRows {
    /// By partition and day.
    parts: BTreeMap<String, HashMap<i32, Vec<EventRow>, RandomState>>,
    /// Why the tenant cannot be indexed.
    pub(super) refused: Option<String>,
    pub(super) rows: u64,
    codes: Vec<u32>,
}

/// All rows of one append.
#[derive(Default)]
pub(super) struct Intake {
    pub(super) tenants: BTreeMap<String, TenantRows>,
    /// By partition, in order.
    sources: BTreeMap<String, Vec<Source>>,
    pub(super) rows: u64,
    /// Rows of tenants that were refused before.
    pub(super) refused_rows: u64,
}

impl Intake {
    /// Looks up the codes of a batch.
    pub(super) fn take(
        &mut self,
        mut batch: Batch<'_>,
        held: &mut Held<'_>,
    ) -> Result<(), IndexError> {
        let partition = batch.source.partition.clone();
        let mut chunk: Vec<Row<'_>> = Vec::with_capacity(LOOK_UP_ROWS);
        loop {
            chunk.extend(batch.rows.by_ref().take(LOOK_UP_ROWS));
            if chunk.is_empty() {
                break;
            }
            self.rows += chunk.len() as u64;
            if self.rows > APPEND_ROWS_MAX {
                return Err(IndexError::Limit {
                    what: format!("{APPEND_ROWS_MAX} rows in one append; give fewer at a time"),
                });
            }
            for rows in chunk.chunk_by(|one, other| one.tenant == other.tenant) {
                self.take_rows(&partition, rows, held)?;
            }
            chunk.clear();
        }
        let sources = self.sources.entry(partition).or_default();
        sources.push(batch.source);
        Ok(())
    }

    fn take_rows(
        &mut self,
        partition: &str,
        rows: &[Row<'_>],
        held: &mut Held<'_>,
    ) -> Result<(), IndexError> {
        let Some(first) = rows.first() else {
            return Ok(());
        };
        let Some(dictionaries) = held.of(first.tenant)? else {
            self.refused_rows += rows.len() as u64;
            return Ok(());
        };
        if !self.tenants.contains_key(first.tenant) {
            self.tenants
                .insert(first.tenant.to_owned(), TenantRows::default());
        }
        if let Some(tenant) = self.tenants.get_mut(first.tenant) {
            tenant.rows += rows.len() as u64;
            if tenant.refused.is_none()
                && let Err(error) = tenant.take(partition, rows, dictionaries)
            {
                tenant.refused = Some(error.to_string());
                tenant.parts.clear();
            }
        }
        Ok(())
    }

    /// What the tenant's future segments hold, given those it has.
    pub(super) fn shares(&self, tenant: &mut TenantRows, present: Option<&Tenant>) -> Vec<Share> {
        let mut shares = Vec::new();
        for (partition, days) in std::mem::take(&mut tenant.parts) {
            let read = self.sources.get(&partition).map_or(&[][..], Vec::as_slice);
            let claimed = claimed_block(present, &partition);
            let sources = claims(&partition, read, claimed);
            shares.extend(share_out(days, &sources));
        }
        shares
    }
}

/// The dictionaries of all tenants, during an append.
pub(super) struct Held<'a> {
    pub(super) manifest: &'a Manifest,
    pub(super) dictionaries: &'a mut BTreeMap<String, Dictionaries>,
}

impl Held<'_> {
    /// Those of a tenant, new if need be; none if the tenant is refused.
    fn of(&mut self, tenant: &str) -> Result<Option<&mut Dictionaries>, IndexError> {
        if !self.dictionaries.contains_key(tenant) {
            let entry = self.manifest.tenants.get(tenant);
            if entry.is_some_and(|entry| entry.refused.is_some()) {
                return Ok(None);
            }
            if self.dictionaries.len() >= TENANTS_MAX {
                return Err(IndexError::Limit {
                    what: format!("{TENANTS_MAX} tenants"),
                });
            }
            self.dictionaries
                .insert(tenant.to_owned(), Dictionaries::default());
        }
        Ok(self.dictionaries.get_mut(tenant))
    }
}

impl TenantRows {
    fn take(
        &mut self,
        partition: &str,
        rows: &[Row<'_>],
        dictionaries: &mut Dictionaries,
    ) -> Result<(), SegmentError> {
        self.codes.clear();
        let codes = &mut self.codes;
        let ids = rows.iter().map(|row| row.user);
        dictionaries.users.codes(ids, |code| codes.push(code))?;
        if !self.parts.contains_key(partition) {
            self.parts.insert(partition.to_owned(), HashMap::default());
        }
        let Some(days) = self.parts.get_mut(partition) else {
            return Ok(());
        };
        for (row, user) in rows.iter().zip(&self.codes) {
            let name = dictionaries.name(row.name)?;
            let day = days.entry(day_of(row.at_ns)).or_default();
            day.push(EventRow::new(*user, row.at_ns, name));
        }
        Ok(())
    }
}

/// The last block of the partition that a segment of the tenant speaks of.
fn claimed_block(present: Option<&Tenant>, partition: &str) -> Option<u64> {
    let segments = present.into_iter().flat_map(|tenant| &tenant.segments);
    let sources = segments.flat_map(|segment| &segment.meta().sources);
    sources
        .filter(|source| source.partition == partition)
        .map(|source| source.last_block)
        .max()
}

/// The sources of a tenant's new rows: what was read, and the blocks before in which the tenant had no rows. Without
/// the latter, sources of a tenant that is not in every batch would never join.
fn claims(partition: &str, read: &[Source], claimed: Option<u64>) -> Vec<Source> {
    let mut next = claimed.map_or(0, |block| block.saturating_add(1));
    let mut claims = Vec::new();
    for source in read {
        if next < source.first_block {
            claims.push(Source {
                partition: partition.to_owned(),
                first_day: i32::MIN,
                last_day: i32::MAX,
                first_block: next,
                last_block: source.first_block - 1,
            });
        }
        claims.push(source.clone());
        next = next.max(source.last_block.saturating_add(1));
    }
    coalesce(claims)
}

/// Cuts days into stretches that are worth a segment. Each stretch reaches to the next, the first and the last without
/// bound, so that the stretches of a batch together hold all of its days.
fn share_out(days: HashMap<i32, Vec<EventRow>, RandomState>, sources: &[Source]) -> Vec<Share> {
    let mut days: Vec<(i32, Vec<EventRow>)> = days.into_iter().collect();
    days.sort_unstable_by_key(|(day, _)| *day);
    let mut stretches: Vec<(i32, Vec<EventRow>)> = Vec::new();
    for (day, rows) in days {
        match stretches.last_mut() {
            Some((_, open)) if open.len() < SEGMENT_EVENTS_MIN => open.extend(rows),
            Some(_) => stretches.push((day, rows)),
            None => stretches.push((i32::MIN, rows)),
        }
    }
    let ends: Vec<i32> = stretches
        .iter()
        .skip(1)
        .map(|(day, _)| day.saturating_sub(1))
        .chain([i32::MAX])
        .collect();
    let stretches = stretches.into_iter().zip(ends);
    stretches
        .map(|((first, rows), last)| Share {
            rows,
            sources: within(sources, first, last),
        })
        .collect()
}

fn within(sources: &[Source], first_day: i32, last_day: i32) -> Vec<Source> {
    let cut = sources.iter().map(|source| Source {
        first_day: source.first_day.max(first_day),
        last_day: source.last_day.min(last_day),
        ..source.clone()
    });
    let cut = cut.filter(|source| source.first_day <= source.last_day);
    coalesce(cut.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(blocks: (u64, u64), days: (i32, i32)) -> Source {
        Source {
            partition: "p".to_owned(),
            first_day: days.0,
            last_day: days.1,
            first_block: blocks.0,
            last_block: blocks.1,
        }
    }

    const ALL: (i32, i32) = (i32::MIN, i32::MAX);

    #[test]
    fn a_tenant_that_comes_and_goes_claims_the_blocks_between() {
        let first = claims("p", &[source((1, 3), ALL)], None);
        assert_eq!(first, [source((0, 3), ALL)]);
        let later = claims("p", &[source((8, 9), ALL), source((10, 12), ALL)], Some(3));
        assert_eq!(later, [source((4, 12), ALL)]);
    }

    #[test]
    fn blocks_cut_into_days_are_claimed_day_by_day() {
        let tiles = [source((5, 9), (i32::MIN, 3)), source((5, 9), (4, i32::MAX))];
        assert_eq!(claims("p", &tiles, Some(4)), [source((5, 9), ALL)]);
        assert_eq!(claims("p", &tiles[1..], Some(9)), [tiles[1].clone()]);
        assert_eq!(
            claims("p", &tiles[..1], Some(2)),
            [source((5, 9), (i32::MIN, 3)), source((3, 4), ALL)]
        );
    }

    #[test]
    fn batches_must_follow_each_other() {
        let mut reach = BTreeMap::new();
        let mut go = |blocks, days| advance(&mut reach, &source(blocks, days)).is_ok();
        assert!(go((0, 4), ALL));
        assert!(go((6, 9), (i32::MIN, 5)));
        assert!(go((6, 9), (6, 7)));
        assert!(go((6, 9), (8, i32::MAX)));
        assert!(go((12, 12), ALL));
        for (blocks, days) in [((12, 13), ALL), ((14, 13), ALL), ((13, 13), (0, i32::MAX))] {
            let mut reach = BTreeMap::from([(
                "p".to_owned(),
                Reach {
                    block: 12,
                    ahead: None,
                },
            )]);
            assert!(
                advance(&mut reach, &source(blocks, days)).is_err(),
                "{blocks:?} {days:?}"
            );
        }
        for (blocks, days) in [((13, 15), (7, 9)), ((13, 16), (6, 9)), ((16, 17), ALL)] {
            let mut reach = BTreeMap::from([(
                "p".to_owned(),
                Reach {
                    block: 12,
                    ahead: Some((15, 5)),
                },
            )]);
            assert!(
                advance(&mut reach, &source(blocks, days)).is_err(),
                "{blocks:?} {days:?}"
            );
        }
    }

    #[test]
    fn stretches_of_days_tile_the_sources() {
        let rows = |count: usize| vec![EventRow::new(0, 0, 0); count];
        let days = HashMap::from_iter([
            (3, rows(SEGMENT_EVENTS_MIN)),
            (4, rows(1)),
            (9, rows(SEGMENT_EVENTS_MIN)),
            (11, rows(2)),
        ]);
        let shares = share_out(days, &[source((0, 5), ALL), source((6, 6), (i32::MIN, 3))]);
        let found: Vec<(usize, Vec<Source>)> = shares
            .into_iter()
            .map(|share| (share.rows.len(), share.sources))
            .collect();
        assert_eq!(
            found,
            [
                (SEGMENT_EVENTS_MIN, vec![source((0, 6), (i32::MIN, 3))]),
                (SEGMENT_EVENTS_MIN + 1, vec![source((0, 5), (4, 10))]),
                (2, vec![source((0, 5), (11, i32::MAX))]),
            ]
        );
    }
}
