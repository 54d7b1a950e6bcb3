//! Looks for secrets in bytes, in every writing in which they could have come out.

use std::collections::BTreeMap;

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};

/// Something that must not come out, and where it was put.
pub(crate) struct Secret {
    pub(crate) place: String,
    pub(crate) text: String,
}

/// Ways in which a text could come out. Base64 of a longer text holds one of three writings of its parts.
fn writings(text: &str) -> Vec<(&'static str, String)> {
    let percent = |keep: fn(u8) -> bool, upper: bool| -> String {
        let write = |byte: u8| match (keep(byte), upper) {
            (true, _) => char::from(byte).to_string(),
            (false, true) => format!("%{byte:02X}"),
            (false, false) => format!("%{byte:02x}"),
        };
        text.bytes().map(write).collect()
    };
    let hex = |digit: fn(u8) -> String| -> String { text.bytes().map(digit).collect() };
    let mut all = vec![
        ("as it is", text.to_owned()),
        ("in lower case", text.to_lowercase()),
        (
            "percent-encoded",
            percent(
                |byte| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte),
                true,
            ),
        ),
        ("percent-encoded", percent(|_| false, true)),
        ("percent-encoded", percent(|_| false, false)),
        ("in hexadecimal", hex(|byte| format!("{byte:02x}"))),
        ("in hexadecimal", hex(|byte| format!("{byte:02X}"))),
    ];
    for shift in 0..3 {
        let shifted = [&[0; 2][..shift], text.as_bytes()].concat();
        let (first, end) = ((shift * 8).div_ceil(6), shifted.len() * 8 / 6);
        for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
            all.push(("in base64", engine.encode(&shifted)[first..end].to_owned()));
        }
    }
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    if digits.len() >= 13
        && text
            .chars()
            .all(|letter| letter.is_ascii_digit() || " -".contains(letter))
    {
        let groups: Vec<&str> = (0..digits.len())
            .step_by(4)
            .map(|at| &digits[at..digits.len().min(at + 4)])
            .collect();
        all.extend([" ", "-", "+", "%20"].map(|between| ("in groups", groups.join(between))));
        all.push(("in one piece", digits));
    }
    all
}

/// Each secret that a text holds, and how it is written there.
pub(crate) fn found<'a>(secrets: &'a [Secret], bytes: &[u8]) -> BTreeMap<&'a str, &'static str> {
    let text = String::from_utf8_lossy(bytes);
    let way = |secret: &Secret| {
        writings(&secret.text)
            .into_iter()
            .find(|(_, written)| text.contains(written.as_str()))
    };
    secrets
        .iter()
        .filter_map(|secret| Some((secret.place.as_str(), way(secret)?.0)))
        .collect()
}

/// Fails with every secret and the output that it came out of.
pub(crate) fn assert_clean(secrets: &[Secret], outputs: &[(&str, Vec<u8>)]) {
    let mut leaks = Vec::new();
    for (output, bytes) in outputs {
        assert!(!bytes.is_empty(), "there is no {output} to look into");
        for (place, writing) in found(secrets, bytes) {
            leaks.push(format!("{place} x {output} ({writing})"));
        }
    }
    assert!(
        leaks.is_empty(),
        "{} leaks:\n{}",
        leaks.len(),
        leaks.join("\n")
    );
}
