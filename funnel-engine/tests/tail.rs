//! The tail against a real engine: whatever happens to the table meanwhile, the index ends up with exactly its events.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail the test"
)]

#[path = "tail/fake.rs"]
mod fake;

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

use event_store::{EventRow, PropertyQuestion, Slice, Store};
use fake::{Bag, Clock, Disk, Numbers, add, assert_same};
use funnel_engine::tail::{Cursor, EventBatch, IndexWriter as _, Tail, TailError};
use serde::Deserialize;
use weir_testing::{TestStore, exchange};

/// 2026-11-20, in nanoseconds.
const NOVEMBER: i64 = 1_795_132_800_000_000_000;
const DAY: i64 = 86_400_000_000_000;
/// Polls while the writers write.
const ROUNDS: usize = 60;

fn event(user: &str, at_ns: i64, name: &str) -> EventRow {
    EventRow {
        tenant_id: "t1".to_owned(),
        user_id: user.to_owned(),
        timestamp: at_ns,
        event: name.to_owned(),
        session_id: None,
        trace_id: None,
        status_code: None,
        duration_ns: 0,
        properties: Vec::new(),
    }
}

async fn insert(store: &Store, rows: &[EventRow], token: &str) {
    let client = store
        .database()
        .with_setting("insert_deduplication_token", token);
    let mut insert = client.insert::<EventRow>("events").await.unwrap();
    for row in rows {
        insert.write(row).await.unwrap();
    }
    insert.end().await.unwrap();
}

async fn run(store: &Store, sql: &str) {
    store.database().query(sql).execute().await.unwrap();
}

#[derive(Deserialize, clickhouse::Row)]
struct Whole {
    tenant_id: String,
    user_id: String,
    at: i64,
    event: String,
}

/// Everything in the table that an index can hold, read at once.
async fn truth(store: &Store) -> Bag {
    let rows: Vec<Whole> = store
        .database()
        .query(
            "SELECT tenant_id, user_id, toUnixTimestamp64Nano(timestamp) AS at, event FROM events \
             WHERE at >= 0 AND isValidUTF8(user_id) AND length(user_id) <= 1024",
        )
        .fetch_all()
        .await
        .unwrap();
    let mut bag = Bag::new();
    for row in rows {
        *bag.entry((row.tenant_id, row.user_id, row.at, row.event))
            .or_default() += 1;
    }
    bag
}

/// Polls until nothing is left and no partition is being rebuilt.
async fn settle(tail: &mut Tail<Disk>) {
    for _ in 0..200 {
        let polled = tail.poll_once().await.unwrap();
        if polled.rows == 0 && polled.rebuilt.is_empty() && polled.awaited_merges == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the tail does not settle");
}

/// A process can have one engine, so the chapters share it; each begins with an empty table.
#[tokio::test(flavor = "multi_thread")]
async fn the_index_gets_every_event_exactly_once() {
    let running = TestStore::start().await;
    let store = &running.store;
    writers_merges_and_restarts(store).await;
    changes_behind_the_cursor(store).await;
    large_blocks_are_read_day_by_day(store).await;
    odd_rows_are_counted(store).await;
    properties_line_up(store).await;
    tables_that_cannot_be_tailed(store).await;
}

/// Inserts until told to stop: months in a mix, some through the view, some twice with the same token.
async fn write(store: Store, writer: u64, stop: Arc<AtomicBool>) -> u64 {
    let mut numbers = Numbers(writer);
    let now = i64::try_from(SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos()).unwrap();
    let mut inserted = 0;
    for round in 0.. {
        if stop.load(Relaxed) {
            break;
        }
        let token = format!("{writer}-{round}");
        let rows = numbers.below(300) + 1;
        let user = |numbers: &mut Numbers| format!("u{}", numbers.below(40));
        let repeats = 1 + numbers.below(4) / 3;
        if numbers.below(3) == 0 {
            // Exchanges of the last days: older ones are past their time to live.
            let rows: Vec<_> = (0..rows)
                .map(|_| {
                    exchange(
                        now - numbers.below_i64(3_600) * 1_000_000_000,
                        &user(&mut numbers),
                        "pay",
                    )
                })
                .collect();
            for _ in 0..repeats {
                store.insert_exchanges(&rows, &token).await.unwrap();
            }
        } else {
            let at = |numbers: &mut Numbers| {
                NOVEMBER - numbers.below_i64(90) * DAY + numbers.below_i64(50)
            };
            let rows: Vec<_> = (0..rows)
                .map(|_| event(&user(&mut numbers), at(&mut numbers), "cart"))
                .collect();
            for _ in 0..repeats {
                insert(&store, &rows, &token).await;
            }
        }
        inserted += rows;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    inserted
}

async fn writers_merges_and_restarts(store: &Store) {
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..4)
        .map(|writer| tokio::spawn(write(store.clone(), writer, Arc::clone(&stop))))
        .collect();
    let (disk, clock) = (Disk::default(), Clock::default());
    let mut numbers = Numbers(7);
    let mut tail = clock.tail(store, &disk);
    let (mut before, mut restarts, mut handovers) = (Bag::new(), 0, 0_u64);
    let mut written = Cursor::default();
    for _ in 0..ROUNDS {
        match numbers.below(8) {
            0 => {
                // The hot tail is lost with the process, the index is not.
                tail = clock.tail(store, &disk);
                before.clear();
                restarts += 1;
            }
            1 => clock.pass(31),
            2 => run(store, "OPTIMIZE TABLE events FINAL").await,
            3 => disk.fail(1),
            4 => {
                // A poll that is given up in the middle.
                let wait = Duration::from_micros(numbers.below(20_000));
                drop(tokio::time::timeout(wait, tail.poll_once()).await);
            }
            _ => {}
        }
        match tail.poll_once().await {
            Ok(polled) => assert_eq!(polled.rebuilt, Vec::<String>::new()),
            // A machine that is busy enough can make the store miss its time; the next poll goes on.
            Err(TailError::Index(_) | TailError::Slow(_)) => {}
            Err(error) => panic!("{error}"),
        }
        let cursor = disk.cursor();
        handovers += u64::from(cursor != written);
        written = cursor;
        let seen = disk.seen(&tail.hot());
        let lost = before
            .iter()
            .find(|(key, count)| seen.get(*key) < Some(*count));
        assert_eq!(lost, None, "an event is not seen any more");
        before = seen;
    }
    stop.store(true, Relaxed);
    let mut inserted = 0;
    for writer in writers {
        inserted += writer.await.unwrap();
    }
    disk.fail(0);
    settle(&mut tail).await;
    let whole = truth(store).await;
    assert_eq!(
        whole.values().sum::<u64>(),
        inserted,
        "the writers' own count"
    );
    assert_same(&disk.seen(&tail.hot()), &whole, "while hot");
    tail.hand_over().unwrap();
    assert_eq!(tail.hot().rows(), 0);
    assert_same(&disk.bag(), &whole, "handed over");
    assert!(
        restarts > 3 && handovers > 3 && inserted > 1_000,
        "{restarts} {handovers} {inserted}"
    );
    let figures = tail.meters().figures();
    assert_eq!((figures.seen, figures.lag_rows), (figures.passed, 0));
    assert!(figures.level_at_ns >= NOVEMBER);
}

/// Starts a chapter: the table has these rows alone, and the index has read them.
async fn begin(store: &Store, rows: &[EventRow]) -> (Disk, Clock, Tail<Disk>) {
    run(store, "TRUNCATE TABLE events").await;
    let (disk, clock) = (Disk::default(), Clock::default());
    for (index, rows) in rows.chunks(50).enumerate() {
        insert(store, rows, &format!("{index}-{:?}", Instant::now())).await;
    }
    let mut tail = clock.tail(store, &disk);
    settle(&mut tail).await;
    tail.hand_over().unwrap();
    assert_same(&disk.bag(), &truth(store).await, "at first");
    (disk, clock, tail)
}

async fn changes_behind_the_cursor(store: &Store) {
    let rows: Vec<EventRow> = (0..400)
        .map(|n| event(&format!("u{}", n % 20), NOVEMBER - n % 60 * DAY, "cart"))
        .collect();
    let (disk, clock, mut tail) = begin(store, &rows).await;
    let mut token = 0;
    // The statement, and whether partitions have to be read anew for it.
    for (sql, anew) in [
        ("OPTIMIZE TABLE events FINAL", false),
        (
            "ALTER TABLE events DELETE WHERE user_id = 'u1' SETTINGS mutations_sync = 2",
            true,
        ),
        ("DELETE FROM events WHERE user_id = 'u2'", true),
        ("OPTIMIZE TABLE events FINAL", false),
        ("ALTER TABLE events DETACH PARTITION '202610'", true),
        ("ALTER TABLE events ATTACH PARTITION '202610'", true),
        ("ALTER TABLE events DROP PARTITION '202610'", true),
        (
            "ALTER TABLE events UPDATE status_code = 500 WHERE user_id = 'u4' SETTINGS mutations_sync = 2",
            true,
        ),
    ] {
        run(store, sql).await;
        token += 1;
        let late = [
            event("late", NOVEMBER - 35 * DAY, "cart"),
            event("new", NOVEMBER, "cart"),
        ];
        insert(store, &late, &format!("late-{token}")).await;
        settle(&mut tail).await;
        let whole = truth(store).await;
        assert_same(&disk.seen(&tail.hot()), &whole, sql);
        let rebuilt = tail.meters().figures().rebuilt;
        assert_eq!(rebuilt > 0, anew, "{sql}");
        // The next chapter's tail begins where this one's index ends, with meters at zero.
        tail.hand_over().unwrap();
        tail = clock.tail(store, &disk);
    }
    // Another table of the same name.
    let created: String = store
        .database()
        .query("SELECT create_table_query FROM system.tables WHERE database = 'weir' AND name = 'events'")
        .fetch_one()
        .await
        .unwrap();
    run(store, "DROP TABLE events SYNC").await;
    assert!(matches!(tail.poll_once().await, Err(TailError::NoTable)));
    run(store, &created).await;
    insert(store, &rows[..30], "again").await;
    settle(&mut tail).await;
    assert_same(
        &disk.seen(&tail.hot()),
        &truth(store).await,
        "the table created anew",
    );
}

/// One insert of many rows, which a tail with small slices has to cut between days.
async fn large_blocks_are_read_day_by_day(store: &Store) {
    run(store, "TRUNCATE TABLE events").await;
    for (first, rows) in [(0, 3), (3, 900), (903, 5), (908, 700)] {
        let sql = format!(
            "INSERT INTO events SELECT 't1', toString(number), toDateTime64('2026-11-01 00:00:00', 9, 'UTC') + number % 9 * 86400, \
             'cart', NULL, NULL, NULL, 0, map() FROM numbers({first}, {rows})"
        );
        run(store, &sql).await;
    }
    for merged in [false, true] {
        if merged {
            run(store, "OPTIMIZE TABLE events FINAL").await;
        }
        let head = store.tail_heads().await.unwrap().pop().unwrap();
        let slices = store
            .tail_slices("202611", 1, head.block, 150)
            .await
            .unwrap();
        let (mut bag, mut cut_by_day) = (EventBatch::default(), BTreeSet::new());
        for planned in &slices {
            let Slice {
                first_day,
                last_day,
                ..
            } = planned.slice;
            cut_by_day.insert((first_day, last_day) != (i32::MIN, i32::MAX));
            let read = store
                .tail_rows(&planned.slice, &mut |row| bag.push(row))
                .await
                .unwrap();
            assert_eq!(read.rows, planned.rows);
            assert!(read.rows <= 300, "{planned:?}");
        }
        assert_eq!(
            cut_by_day.len(),
            2,
            "some slices are whole blocks, some are days"
        );
        let mut read = Bag::new();
        add(&mut read, &bag);
        assert_same(&read, &truth(store).await, "slice by slice");
        // From a day on: what a tail asks that was ended in the middle of a large block.
        let middle = slices
            .iter()
            .find(|planned| planned.slice.first_day > i32::MIN)
            .unwrap();
        let Slice {
            first_block,
            last_block,
            first_day,
            ..
        } = middle.slice;
        let rest = store
            .tail_days("202611", first_block, last_block, first_day, 150)
            .await
            .unwrap();
        assert_eq!(&rest[0], middle);
        assert_eq!(rest.last().unwrap().slice.last_day, i32::MAX);
    }
}

async fn odd_rows_are_counted(store: &Store) {
    let (_, _, mut tail) = begin(store, &[]).await;
    run(
        store,
        "INSERT INTO events SELECT 't1', user, at, 'odd', NULL, NULL, NULL, 0, map() FROM values( \
            'user String, at DateTime64(9, ''UTC'')', \
            ('fine', '2026-11-20 00:00:00'), ('', '2026-11-20 00:00:00'), (unhex('ff'), '2026-11-20 00:00:00'), \
            (repeat('x', 1025), '2026-11-20 00:00:00'), (repeat('x', 1024), '2026-11-20 00:00:00'), \
            ('old', '1969-12-31 23:59:59.9'), ('older', '1901-01-01 00:00:00'), ('ahead', '2026-12-20 00:00:00'))",
    )
    .await;
    settle(&mut tail).await;
    let figures = tail.meters().figures();
    assert_eq!((figures.seen, figures.passed), (8, 4));
    assert_eq!(
        (figures.not_text, figures.too_long, figures.before_1970),
        (1, 1, 2)
    );
    assert_eq!(
        (figures.future, figures.lag_rows, figures.rebuilt),
        (1, 0, 0)
    );
}

/// What `properties_line_up` asks for.
const NAMES: [&str; 8] = [
    "session",
    "tenant",
    "status_code",
    "status_class",
    "duration_ms",
    "n",
    "none",
    "a?'\\b",
];

/// Many events alike in user, time and name: only a total order keeps their properties together.
fn alike() -> Vec<EventRow> {
    let rows = (0..300_u32).map(|n| EventRow {
        session_id: (n % 2 == 0).then(|| format!("s{n}")),
        status_code: (n % 4 > 0).then_some(if n % 4 == 3 { 503 } else { 200 }),
        duration_ns: u64::from(n) * 250_000,
        properties: match n % 3 {
            0 => vec![
                ("n".to_owned(), n.to_string()),
                ("session".to_owned(), "of the map".to_owned()),
                ("status_code".to_owned(), format!("{}", n * 10)),
                ("a?'\\b".to_owned(), "odd".to_owned()),
            ],
            1 => vec![("n".to_owned(), String::new())],
            _ => Vec::new(),
        },
        ..event(
            &format!("u{}", n % 5),
            NOVEMBER + i64::from(n % 3) * DAY,
            "pay",
        )
    });
    rows.collect()
}

/// The values of [`NAMES`].
fn values_of(row: &EventRow) -> Vec<Option<String>> {
    let key = |name: &str| {
        let pair = row.properties.iter().find(|(key, _)| key == name);
        pair.map(|(_, value)| value.clone())
    };
    let status = row.status_code.map(|code| code.to_string());
    let status = status.or_else(|| key("status_code"));
    let class = status
        .as_ref()
        .filter(|code| (100..600).contains(&code.parse::<u32>().unwrap()));
    // Quarters are exact in a double.
    let quarters = u32::try_from(row.duration_ns / 250_000).unwrap();
    vec![
        row.session_id.clone().or_else(|| key("session")),
        Some("t1".to_owned()),
        status.clone(),
        class.map(|code| format!("{}xx", &code[..1])),
        Some((f64::from(quarters) / 4.0).to_string()),
        key("n"),
        None,
        key("a?'\\b"),
    ]
}

async fn properties_line_up(store: &Store) {
    let rows = alike();
    let (_, _, _tail) = begin(store, &rows).await;
    let mut other = event("u1", NOVEMBER, "pay");
    "t2".clone_into(&mut other.tenant_id);
    insert(store, &[other], "other").await;
    let head = store.tail_heads().await.unwrap().pop().unwrap();
    let old = Slice::of("202611", 0, head.block - 3);
    let day = i32::try_from(NOVEMBER / DAY).unwrap();
    let slices = [
        Slice {
            last_day: day,
            ..old.clone()
        },
        Slice {
            first_day: day + 1,
            ..old
        },
        Slice::of("202611", head.block - 2, head.block),
    ];
    let mut wanted: PropertyRows = rows
        .iter()
        .map(|row| (row.user_id.clone(), row.timestamp, values_of(row)))
        .collect();
    wanted.sort();
    let whole = rows_with(store, &slices, &NAMES).await;
    let mut sorted = whole.clone();
    sorted.sort();
    assert_eq!(sorted, wanted);
    for slice in &slices {
        let part = rows_with(store, std::slice::from_ref(slice), &["n"]).await;
        assert!(
            (1..300).contains(&part.len()),
            "every slice has some of the rows"
        );
    }
    run(store, "OPTIMIZE TABLE events FINAL").await;
    for (at, name) in NAMES.iter().enumerate() {
        let single = rows_with(store, &slices, &[name]).await;
        let column = whole
            .iter()
            .map(|(user, time, values)| (user.clone(), *time, vec![values[at].clone()]));
        assert!(column.eq(single), "{name} asked for alone");
    }
}

type PropertyRows = Vec<(String, i64, Vec<Option<String>>)>;

async fn rows_with(store: &Store, slices: &[Slice], properties: &[&str]) -> PropertyRows {
    let question = PropertyQuestion {
        tenant: "t1",
        slices,
        properties,
    };
    let mut found = PropertyRows::new();
    store
        .property_rows(&question, &mut |row| {
            let values = row.values.iter().map(|value| value.map(str::to_owned));
            found.push((row.user.to_owned(), row.at_ns, values.collect()));
        })
        .await
        .unwrap();
    let in_order = found.is_sorted_by(|left, right| (&left.0, left.1) <= (&right.0, right.1));
    assert!(in_order, "by user and time");
    found
}

async fn tables_that_cannot_be_tailed(store: &Store) {
    let (disk, clock) = (Disk::default(), Clock::default());
    run(
        store,
        "ALTER TABLE events RESET SETTING enable_block_offset_column",
    )
    .await;
    let mut tail = clock.tail(store, &disk);
    assert!(matches!(tail.poll_once().await, Err(TailError::NoPlaces)));
    store.migrate().await.unwrap();
    tail.poll_once().await.unwrap();
    run(store, "RENAME TABLE events TO kept").await;
    run(store, "CREATE TABLE events AS kept ENGINE = Memory").await;
    let refused = tail.poll_once().await.unwrap_err().to_string();
    assert!(refused.contains("`events` is a Memory"), "{refused}");
}

#[tokio::test]
async fn a_store_that_is_away_is_asked_again_until_the_end() {
    let (disk, clock) = (Disk::default(), Clock::default());
    let mut tail = clock.tail(&Store::at("http://127.0.0.1:9"), &disk);
    let meters = tail.meters();
    tail.follow(tokio::time::sleep(Duration::from_millis(1_200)))
        .await
        .unwrap();
    // At once, and after half a second.
    assert!(meters.figures().failures >= 2);
}
