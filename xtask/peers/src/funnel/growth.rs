//! How the time of an answer grows with events, users and values of a breakdown.

use serde_json::{Value, json};

use super::{ask::Asking, definitions::definition, shops::Shop};

/// Shops with more and more events, with more and more users, and one with properties of more and more values.
pub(super) fn shops(events: u64) -> Vec<Shop> {
    let quarter = events / 4;
    vec![
        Shop::sized("events-1", quarter / 4, quarter / 40),
        Shop::sized("events-2", quarter / 2, quarter / 20),
        Shop::sized("events-4", quarter, quarter / 10),
        Shop::sized("users-few", quarter, quarter / 1_000),
        Shop::sized("users-some", quarter, quarter / 100),
        Shop::sized("users-most", quarter, quarter),
        Shop::varied("values", quarter),
    ]
}

pub(super) async fn ask(asking: &mut Asking<'_>, shops: &[Shop]) -> anyhow::Result<Vec<Value>> {
    let mut lines = Vec::new();
    for shop in shops {
        let (by, properties): (&str, &[Option<&str>]) = match shop.tenant.as_str() {
            "values" => (
                "values",
                &[
                    None,
                    Some("v10"),
                    Some("v100"),
                    Some("v1000"),
                    Some("v10000"),
                ],
            ),
            tenant if tenant.starts_with("users") => ("users", &[None]),
            _ => ("events", &[None]),
        };
        for property in properties {
            let (mut line, _) = asking.line(shop, &definition(3, &[], *property)?).await?;
            if let Some(line) = line.as_object_mut() {
                line.insert("by".to_owned(), json!(by));
            }
            lines.push(line);
        }
    }
    Ok(lines)
}
