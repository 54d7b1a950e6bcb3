//! Tokens, credentials and keys that are known by how they begin.
//!
//! Refuses: guessing that a long random word is a secret; identifiers look the same.

use super::{Found, SECRET, TOKEN, class, classes_of, run_end};

/// Fewer characters after `eyJ`, the start of a JSON object in base64, could still be a word.
const JSON_BASE64_MIN: usize = 20;

/// A secret that is known by its first characters.
struct Shape {
    prefix: &'static [u8],
    /// Characters that must follow at least.
    tail_min: usize,
    /// What may follow besides letters and digits.
    tail_extra: &'static [u8],
    /// The prefix is short enough to occur inside words, so it counts only where one begins.
    starts_word: bool,
}

const fn shape(prefix: &'static str, tail_min: usize, tail_extra: &'static str) -> Shape {
    Shape {
        prefix: prefix.as_bytes(),
        tail_min,
        tail_extra: tail_extra.as_bytes(),
        starts_word: prefix.len() <= 4 && classes_of(prefix.as_bytes()) & class(b'_') == 0,
    }
}

/// Keys of payment providers, code hosts, chat and cloud services, as their makers document them.
static SHAPES: [Shape; 27] = [
    shape("sk_live_", 8, ""),
    shape("sk_test_", 8, ""),
    shape("rk_live_", 8, ""),
    shape("rk_test_", 8, ""),
    shape("whsec_", 8, "+/="),
    shape("shpat_", 8, ""),
    shape("shpca_", 8, ""),
    shape("shppa_", 8, ""),
    shape("shpss_", 8, ""),
    shape("ghp_", 16, ""),
    shape("gho_", 16, ""),
    shape("ghu_", 16, ""),
    shape("ghs_", 16, ""),
    shape("ghr_", 16, ""),
    shape("github_pat_", 16, "_"),
    shape("glpat-", 16, "_-"),
    shape("npm_", 30, ""),
    shape("xoxa-", 8, "-"),
    shape("xoxb-", 8, "-"),
    shape("xoxp-", 8, "-"),
    shape("xoxr-", 8, "-"),
    shape("xoxs-", 8, "-"),
    shape("sk-", 32, ""),
    shape("AKIA", 16, ""),
    shape("ASIA", 16, ""),
    shape("AIz", 31, "_-"),
    shape("SG.", 30, "_-."),
];

/// The characters of each prefix, side by side, so that asking for all of them is one short loop.
static NEEDS: [u64; SHAPES.len()] = {
    let mut needs = [0; SHAPES.len()];
    let (mut to, mut from): (&mut [u64], &[Shape]) = (&mut needs, &SHAPES);
    while let ([need, more @ ..], [shape, rest @ ..]) = (to, from) {
        *need = classes_of(shape.prefix);
        to = more;
        from = rest;
    }
    needs
};

/// The shapes, one bit each, whose prefix's characters are all `present`.
pub(super) fn possible_shapes(present: u64) -> u32 {
    // Every prefix has one of these, and many texts have none.
    const MARKS: u64 = classes_of(b"_-AG");
    if present & MARKS == 0 {
        return 0;
    }
    NEEDS.iter().zip(0..).fold(0, |bits, (need, bit)| {
        bits | u32::from(present & need == *need) << bit
    })
}

/// The shapes, one bit each, whose prefix ends with this byte.
const fn shapes_ending_with(end: u8) -> u32 {
    let (mut bits, mut bit, mut from): (u32, u32, &[Shape]) = (0, 1, &SHAPES);
    while let [shape, rest @ ..] = from {
        if let [.., last] = shape.prefix
            && *last == end
        {
            bits |= bit;
        }
        bit <<= 1;
        from = rest;
    }
    bits
}

/// `eyJ` begins a JSON object in base64: a JWT, or a state that a client carries.
pub(super) fn find_json_base64(bytes: &[u8], found: &mut Vec<Found>) {
    let mut from = 0;
    while let Some(start) = position(bytes, from, b"eyJ") {
        let end = run_end(bytes, start, |byte| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'=')
        });
        let token = bytes.get(start..end).unwrap_or_default();
        let mut parts = token.split(|byte| *byte == b'.').skip(1);
        let is_short_jwt = parts.next().is_some_and(|part| part.starts_with(b"eyJ"));
        if token.len() >= JSON_BASE64_MIN || is_short_jwt {
            found.push(Found {
                start,
                end,
                label: TOKEN,
            });
            from = end;
        } else {
            from = start + 1;
        }
    }
}

/// `Bearer x` and `Basic x`, in any case.
pub(super) fn find_credentials(bytes: &[u8], found: &mut Vec<Found>) {
    let mut from = 0;
    while let Some(start) = bytes
        .get(from..)
        .and_then(|rest| rest.iter().position(|byte| matches!(byte, b'b' | b'B')))
        .map(|at| at + from)
    {
        from = start + 1;
        let is_scheme = |scheme: &[u8]| {
            let word = bytes.get(start..start + scheme.len());
            word.is_some_and(|word| word.eq_ignore_ascii_case(scheme))
        };
        let schemes: [&[u8]; 2] = [b"bearer", b"basic"];
        let Some(scheme) = schemes.into_iter().find(|scheme| is_scheme(scheme)) else {
            continue;
        };
        let word = start + scheme.len();
        let value = run_end(bytes, word, |byte| {
            matches!(byte, b' ' | b'\t' | b'+' | b':')
        });
        let end = run_end(bytes, value, |byte| {
            byte.is_ascii_alphanumeric() || b"-._~+/=:".contains(&byte)
        });
        if word < value && value < end && starts_word(bytes, start) {
            found.push(Found {
                start,
                end,
                label: TOKEN,
            });
            from = end;
        }
    }
}

/// Looks before each character that ends a prefix; one pass for all of the shapes given as bits.
pub(super) fn find_shapes(bytes: &[u8], possible: u32, found: &mut Vec<Found>) {
    let mut from = 0;
    let ends = |(_, byte): &(usize, &u8)| matches!(byte, b'_' | b'-' | b'A' | b'z' | b'.');
    for (at, byte) in bytes.iter().enumerate().filter(ends) {
        let mut here = possible
            & match byte {
                b'_' => const { shapes_ending_with(b'_') },
                b'-' => const { shapes_ending_with(b'-') },
                b'A' => const { shapes_ending_with(b'A') },
                b'z' => const { shapes_ending_with(b'z') },
                _ => const { shapes_ending_with(b'.') },
            };
        while here != 0 && at >= from {
            let shape = usize::try_from(here.trailing_zeros()).ok();
            here &= here - 1;
            if let Some(key) = shape
                .and_then(|shape| SHAPES.get(shape))
                .and_then(|shape| key_at(bytes, at + 1, shape))
            {
                from = key.end;
                found.push(key);
            }
        }
    }
}

/// The key whose prefix ends where its `tail` begins.
fn key_at(bytes: &[u8], tail: usize, shape: &Shape) -> Option<Found> {
    let start = tail.checked_sub(shape.prefix.len())?;
    if bytes.get(start..tail)? != shape.prefix {
        return None;
    }
    let end = run_end(bytes, tail, |byte| {
        byte.is_ascii_alphanumeric() || shape.tail_extra.contains(&byte)
    });
    let is_key = end - tail >= shape.tail_min && (!shape.starts_word || starts_word(bytes, start));
    is_key.then_some(Found {
        start,
        end,
        label: SECRET,
    })
}

fn position(bytes: &[u8], from: usize, what: &[u8]) -> Option<usize> {
    let rest = bytes.get(from..)?;
    rest.windows(what.len())
        .position(|window| window == what)
        .map(|at| at + from)
}

fn starts_word(bytes: &[u8], at: usize) -> bool {
    let before = at.checked_sub(1).and_then(|before| bytes.get(before));
    !before.is_some_and(u8::is_ascii_alphanumeric)
}

#[cfg(test)]
mod tests {
    use super::{super::scrub, SHAPES};

    #[test]
    fn every_known_key_is_found_and_a_stump_of_it_is_not() {
        for shape in &SHAPES {
            let prefix = std::str::from_utf8(shape.prefix).unwrap();
            let key = format!("{prefix}{}", "7".repeat(shape.tail_min));
            assert_eq!(scrub(&format!("/x={key}|y")), "/x={secret}|y", "{key}");
            let stump = key[..key.len() - 1].to_owned();
            assert_eq!(scrub(&stump), stump);
            let inside = format!("ta{key}");
            assert_eq!(scrub(&inside) == inside, shape.starts_word, "{inside}");
        }
    }
}
