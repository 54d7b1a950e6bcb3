//! Event files: users, times, quotes, types, and how much of it.

use std::process::Command;

use funnel_frames::{Column, to_parquet};
use serde_json::{Value, json};

use super::{EVENTS, Files, definition};

#[test]
fn events_without_a_user_are_ignored_and_it_is_said() {
    let files = Files::new();
    let text = definition(&[]);
    let found = files.counts(&text, "e.csv", format!("{EVENTS},1767225600000,login,pc\n"));
    let said = "1 of 4 events have no `user` and are ignored";
    assert_eq!(found, (vec![2, 1], said.to_owned()));
    let nulls = "{\"user\":null,\"ts\":1767225600000,\"event\":\"login\"}\n{\"user_id\":\"ann\",\"ts\":1767225600001,\"event\":\"pay\"}";
    let (counts, said) = files.counts(&text, "e.ndjson", nulls);
    assert_eq!(counts, [0, 0]);
    assert!(
        said.contains("no event has a `user`, so nobody is counted"),
        "{said}"
    );
    let (counts, said) = files.counts(&text, "e.ndjson", "");
    assert_eq!((counts, said.as_str()), (vec![0, 0], "there are no events"));
}

#[test]
fn times_before_1970_count_and_other_units_are_refused_by_line() {
    let files = Files::new();
    let old = "user,ts,event\nann,1969-12-31T23:59:00Z,login\nann,-1000,pay\n";
    let found = files.counts(&definition(&[]), "e.csv", old);
    assert_eq!(found, (vec![1, 1], String::new()));
    for (ts, unit) in [
        ("1767225660", "looks like seconds"),
        ("1767225660000000", "looks like microseconds"),
        ("1767225660000000000", "looks like nanoseconds"),
        ("9999999999999", "outside 1900 to 2262 as milliseconds"),
    ] {
        let says = [
            unit,
            "write integer milliseconds since 1970 or RFC 3339 text",
        ];
        let csv = format!("user,ts,event\nann,1767225600000,login\nann,{ts},pay\n");
        files.refused("e.csv", csv, &[&says[..], &["line 3: "]].concat());
        let ndjson = format!(
            "{{\"user\":\"ann\",\"ts\":1767225600000,\"event\":\"login\"}}\n{{\"user\":\"ann\",\"ts\":{ts},\"event\":\"pay\"}}\n"
        );
        files.refused("e.ndjson", ndjson, &[&says[..], &["line 2: "]].concat());
    }
    files.refused(
        "e.ndjson",
        r#"{"user":"ann","ts":1767225600.5,"event":"login"}"#,
        &["line 1: ", "`ts` as integer milliseconds"],
    );
}

#[test]
fn csv_may_have_line_feeds_in_quotes_and_never_loses_rows_to_an_open_one() {
    let files = Files::new();
    let head = "user,ts,event,note\nann,1767225600000,login,\"two\nlines, \"\"quoted\"\"\"\n";
    let whole = format!("{head}ann,1767225660000,pay,x\n");
    let found = files.counts(&definition(&[]), "e.csv", &whole);
    assert_eq!(found, (vec![1, 1], String::new()));
    let open = format!("{head}ann,1767225660000,pay,\"x\nbob,1767225600000,login,y\n");
    files.refused(
        "e.csv",
        open,
        &["line 4: a quote is open at the end of the file; close it"],
    );
    files.refused(
        "e.csv",
        format!("{head}ann,1767225660000,pay\n"),
        &["line 4: it has 3 fields, and the header 4"],
    );
    files.refused(
        "e.csv",
        "ts;event\n",
        &["line 1: the header has no column `ts`: it has `ts;event`"],
    );
}

#[test]
fn parquet_that_is_cut_or_of_other_types_is_refused() {
    let files = Files::new();
    let texts = |values: [&str; 2]| values.map(|value| Some(value.to_owned())).to_vec();
    let user = || Column::Text("user", texts(["ann", "ann"]));
    let event = || Column::Text("event", texts(["login", "pay"]));
    let ts = || Column::Count("ts", vec![Some(1_767_225_600_000), Some(1_767_225_660_000)]);
    let whole = to_parquet(vec![user(), ts(), event()]).unwrap();
    let found = files.counts(&definition(&[]), "e.parquet", &whole);
    assert_eq!(found, (vec![1, 1], String::new()));
    for part in [&whole[..whole.len() / 2], &whole[whole.len() / 2..], &[]] {
        files.refused(
            "e.parquet",
            part,
            &["no readable Parquet file, or a part of one"],
        );
    }
    let mut flipped = whole.clone();
    flipped[whole.len() - 5] ^= 0x40;
    files.refused("e.parquet", flipped, &["no readable Parquet file"]);
    let numbers = |name| Column::Number(name, vec![Some(1.5), None]);
    for (columns, says) in [
        (
            vec![user(), numbers("ts"), event()],
            "column `ts` is of type f64: write a timestamp, RFC 3339 text or integer milliseconds",
        ),
        (
            vec![numbers("user"), ts(), event()],
            "column `user` is of type f64: write text or integers",
        ),
        (
            vec![user(), ts(), numbers("event")],
            "column `event` is of type f64: write text",
        ),
        (vec![user(), event()], "it has no column `ts`"),
    ] {
        files.refused("e.parquet", to_parquet(columns).unwrap(), &[says]);
    }
    let seconds = Column::Count("ts", vec![Some(1_767_225_600_000), Some(1_767_225_660)]);
    let mixed = to_parquet(vec![user(), seconds, event()]).unwrap();
    files.refused("e.parquet", mixed, &["row 2: ", "looks like seconds"]);
}

#[test]
fn ten_thousand_values_are_counted_and_a_million_refused() {
    let files = Files::new();
    let lines = |values: u32| -> String {
        let line = |value| format!("u{value},1,login,v{value}\n");
        let lines: String = (0..values).map(line).collect();
        format!("user,ts,event,device\n{lines}x,1,pay,v0\n")
    };
    let text = definition(&[(
        "/breakdown",
        json!({"properties": ["device"], "limit": 1_000}),
    )]);
    let ended = files.run(&text, "e.csv", lines(10_000));
    let result: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(result["breakdown"].as_array().unwrap().len(), 1_000);
    assert_eq!(result["breakdown_omitted"], 9_000);
    assert_eq!(result["steps"][0]["count"], 10_000);
    let ended = files.run(&text, "e.csv", lines(1_000_001));
    assert_eq!((ended.code, ended.out.as_str()), (Some(1), ""));
    let says = "property `device` has more than 1000000 different values: leave it out of the definition, or ask";
    assert!(ended.said.contains(says), "{}", ended.said);
}

/// Runs with so many KiB of address space.
fn within(kib: u64, definition: &str, events: &str) -> (Option<i32>, String) {
    let script = "ulimit -v $1; exec \"$2\" run --definition \"$3\" --events \"$4\" --threads 1";
    let output = Command::new("sh")
        .args([
            "-c",
            script,
            "sh",
            &kib.to_string(),
            env!("CARGO_BIN_EXE_funnel"),
            definition,
            events,
        ])
        .output()
        .unwrap();
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

#[test]
fn memory_that_runs_out_ends_with_an_error() {
    let files = Files::new();
    let definition = files.write("d.json", definition(&[]));
    let few = files.write("few.csv", EVENTS);
    // What the program itself takes differs from build to build.
    let mut limits = (100..2_000).step_by(10).map(|mib| mib * 1_024);
    let enough = limits
        .find(|kib| within(*kib, &definition, &few).0 == Some(0))
        .unwrap();
    // 16 bytes an event, doubled as they grow: 32 MiB and more.
    let many = files.write(
        "many.csv",
        format!("user,ts,event\n{}", "u,1,login\n".repeat(2_200_000)),
    );
    let (code, said) = within(enough + 10 * 1_024, &definition, &many);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("there is no memory for more than "), "{said}");
    assert!(
        said.contains("give fewer, or ask the store with the clickhouse backend"),
        "{said}"
    );
}
