//! E-mail addresses, and the user part of URLs.

use super::{EMAIL, Found, SECRET, run_end, run_start};

/// Looks around each `@`.
pub(super) fn find(bytes: &[u8], found: &mut Vec<Found>) {
    let ats = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'@');
    for (at, _) in ats {
        let user = run_start(bytes, at, |byte| {
            !matches!(byte, b'/' | b'?' | b'#' | b'@' | b' ')
        });
        if user < at && bytes.get(..user).is_some_and(|head| head.ends_with(b"://")) {
            found.push(Found {
                start: user,
                end: at,
                label: SECRET,
            });
            continue;
        }
        let start = run_start(bytes, at, is_of_local_part);
        if start < at
            && let Some(end) = domain_end(bytes, at + 1)
        {
            found.push(Found {
                start,
                end,
                label: EMAIL,
            });
        }
    }
}

/// Without the characters that divide paths, queries and JSON, though mail would allow some of them.
fn is_of_local_part(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || !byte.is_ascii() || b".!#$%'*+_^`|~-".contains(&byte)
}

/// The end of a domain with a dot. `pkg@1.2.3` and `logo@2x.png` have none: a label after the first must begin like a
/// top-level domain, and a file's ending is no such thing.
fn domain_end(bytes: &[u8], from: usize) -> Option<usize> {
    const FILE_ENDINGS: [&[u8]; 13] = [
        b"png", b"jpg", b"jpeg", b"gif", b"svg", b"webp", b"avif", b"js", b"mjs", b"css", b"map",
        b"json", b"html",
    ];
    let end = run_end(bytes, from, |byte| {
        byte.is_ascii_alphanumeric() || !byte.is_ascii() || matches!(byte, b'.' | b'-')
    });
    let domain = bytes.get(from..end)?;
    let dangling = domain.iter().rev().take_while(|byte| **byte == b'.');
    let end = end - dangling.count();
    let looks_like_top = |label: &[u8]| match label {
        [first, second, ..] => {
            let is_letter = |byte: &u8| byte.is_ascii_alphabetic() || !byte.is_ascii();
            is_letter(first) && is_letter(second) && !FILE_ENDINGS.contains(&label)
        }
        [] | [_] => false,
    };
    let mut labels = domain.split(|byte| *byte == b'.');
    let has_name = labels.next().is_some_and(|label| !label.is_empty());
    (has_name && labels.any(looks_like_top)).then_some(end)
}
