//! Card numbers: 13 to 19 digits, of an issuer's prefix and length, with a right check digit.
//!
//! Refuses: numbers inside longer numbers. Telephone numbers, times and order numbers must mostly survive.

use super::{Found, run_end};

/// Fewer digits are no card.
pub(super) const DIGITS_MIN: u64 = 13;
const DIGITS_MAX: usize = 19;
/// Groups of digits that a card number is written in at most.
const GROUPS_MAX: usize = 5;

/// Looks at every run of digits, and at those that begin a number in groups.
pub(super) fn find(bytes: &[u8], found: &mut Vec<Found>) {
    let mut at = 0;
    while let Some(start) = bytes
        .get(at..)
        .and_then(|rest| rest.iter().position(u8::is_ascii_digit))
        .map(|skipped| skipped + at)
    {
        let end = run_end(bytes, start, |byte| byte.is_ascii_digit());
        // The next group is looked at as well: what looks like a card could begin in the group before the real one.
        if may_begin(bytes.get(start..end).unwrap_or_default())
            && let Some(card_end) = card_at(bytes, start)
        {
            found.push(Found {
                start,
                end: card_end,
                label: super::CARD,
            });
        }
        at = end;
    }
}

/// Whether any card has a first group like this; spares the digits of UUIDs and versions the closer look.
const fn may_begin(group: &[u8]) -> bool {
    matches!(group, [b'2'..=b'6' | b'8', ..]) && matches!(group.len(), 4 | 6 | 8 | 13..=19)
}

/// The end of the longest card number that begins with the group of digits at `start`.
fn card_at(bytes: &[u8], start: usize) -> Option<usize> {
    let mut digits = [0_u8; DIGITS_MAX];
    let mut groups = [0_u8; GROUPS_MAX];
    let (mut count, mut group) = (0, 0);
    let (mut at, mut best) = (start, None);
    loop {
        let end = run_end(bytes, at, |byte| byte.is_ascii_digit());
        let of_group = bytes.get(at..end)?;
        let Some(room) = digits.get_mut(count..count + of_group.len()) else {
            return best;
        };
        for (place, byte) in room.iter_mut().zip(of_group) {
            *place = byte - b'0';
        }
        *groups.get_mut(group)? = u8::try_from(of_group.len()).ok()?;
        count += of_group.len();
        group += 1;
        let (digits, groups) = (digits.get(..count)?, groups.get(..group)?);
        if is_grouped_like_a_card(groups) && is_of_issuer(digits) && has_check_digit(digits) {
            best = Some(end);
        }
        let goes_on = group < GROUPS_MAX
            && matches!(bytes.get(end), Some(b' ' | b'-' | b'+' | b'.' | b'_'))
            && bytes.get(end + 1).is_some_and(u8::is_ascii_digit);
        if !goes_on {
            return best;
        }
        at = end + 1;
    }
}

/// In one piece, in fours, or as American Express, Diners and long `UnionPay` numbers are printed. Dates, telephone
/// numbers and UUIDs have other groups.
const fn is_grouped_like_a_card(groups: &[u8]) -> bool {
    matches!(
        groups,
        [13..=19] | [4, 4, 4, 1..=4] | [4, 4, 4, 4, 1..=3] | [4, 6, 4 | 5] | [8, 8] | [6, 13]
    )
}

/// By the issuers' published ranges. Numbers that begin with 0, 1, 7 or 9 are never cards, which spares times in
/// milliseconds, microseconds and nanoseconds until the year 2096.
fn is_of_issuer(digits: &[u8]) -> bool {
    let Some(first) = digits.first_chunk::<4>() else {
        return false;
    };
    let prefix = first
        .iter()
        .fold(0_u16, |number, digit| number * 10 + u16::from(*digit));
    match digits.len() {
        // Maestro, in the ranges that it does not share with telephone numbers and the like.
        13..=19
            if matches!(
                prefix,
                5018 | 5020 | 5038 | 5893 | 6304 | 6759 | 6761..=6763
            ) =>
        {
            true
        }
        // Visa's old length.
        13 => matches!(prefix, 4000..=4999),
        // Diners Club.
        14 => matches!(prefix, 3000..=3059 | 3095 | 3600..=3699 | 3800..=3999),
        // American Express.
        15 => matches!(prefix, 3400..=3499 | 3700..=3799),
        // Visa; Mastercard (two ranges); Discover and RuPay; JCB; UnionPay; Mir.
        16 => matches!(
            prefix,
            4000..=4999
                | 5100..=5599
                | 2221..=2720
                | 6000..=6099
                | 6440..=6599
                | 8100..=8299
                | 5080..=5089
                | 3528..=3589
                | 6200..=6299
                | 2200..=2204
        ),
        // UnionPay and Mir.
        17 | 18 => matches!(prefix, 6200..=6299 | 8100..=8171 | 2200..=2204),
        // The same, and Visa's long form.
        19 => matches!(prefix, 4000..=4999 | 6200..=6299 | 8100..=8171 | 2200..=2204),
        _ => false,
    }
}

/// Luhn: every second digit from the right doubled, the sum of all digits divisible by ten.
fn has_check_digit(digits: &[u8]) -> bool {
    let doubled = |digit: u8| digit / 5 + digit * 2 % 10;
    let (mut sum, mut is_second) = (0_u32, false);
    for digit in digits.iter().rev() {
        sum += u32::from(if is_second { doubled(*digit) } else { *digit });
        is_second = !is_second;
    }
    sum.is_multiple_of(10)
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::{CARD, scrub};

    /// Numbers that the issuers publish for tests.
    pub(in super::super) const CARDS: [&str; 14] = [
        "4222222222222",
        "30569309025904",
        "38520000023237",
        "378282246310005",
        "371449635398431",
        "4111111111111111",
        "4012888888881881",
        "5555555555554444",
        "2223003122003222",
        "6011111111111117",
        "3530111333300000",
        "6200000000000005",
        "6759649826438453",
        "6205500000000000004",
    ];

    /// As printed.
    pub(in super::super) fn in_groups(card: &str, separator: &str) -> String {
        let groups: &[usize] = match card.len() {
            14 => &[4, 6, 4],
            15 => &[4, 6, 5],
            _ => &[4, 4, 4, 4, 4],
        };
        let (mut rest, mut out) = (card, Vec::new());
        for group in groups {
            let (head, tail) = rest.split_at(rest.len().min(*group));
            out.push(head);
            rest = tail;
        }
        out.retain(|group| !group.is_empty());
        out.join(separator)
    }

    #[test]
    fn cards_of_every_issuer_are_found_in_one_piece_and_in_groups() {
        for card in CARDS {
            for separator in ["", " ", "-", "%20", "%2D"] {
                let written = in_groups(card, separator);
                for (before, after) in
                    [("/pay/", "/now"), ("card", "."), ("12 ", "-2031"), ("", "")]
                {
                    let text = format!("{before}{written}{after}");
                    assert_eq!(scrub(&text), format!("{before}{{card}}{after}"), "{text}");
                }
            }
        }
    }

    #[test]
    fn a_wrong_digit_makes_it_no_card() {
        for card in CARDS {
            let last = card.as_bytes()[card.len() - 1];
            let wrong = format!("{}{}", &card[..card.len() - 1], (last - b'0' + 1) % 10);
            assert_eq!(scrub(&wrong), wrong);
        }
    }

    /// Of random digits this many in a thousand are taken for a card; `docs/privacy.md` says the same.
    #[test]
    fn random_numbers_are_rarely_taken_for_cards() {
        let mut state = 7_u64;
        let mut random_digit = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            char::from(b'0' + u8::try_from((state >> 33) % 10).unwrap())
        };
        let in_a_thousand = [
            (12, 0.0),
            (13, 10.1),
            (14, 3.2),
            (15, 2.1),
            (16, 26.5),
            (17, 2.0),
            (18, 2.0),
            (19, 12.0),
            (20, 0.0),
        ];
        for (length, expected) in in_a_thousand {
            const TRIES: u32 = 50_000;
            let is_taken = |_: &u32| {
                let number: String = (0..length).map(|_| random_digit()).collect();
                scrub(&number) == CARD
            };
            let taken = u32::try_from((0..TRIES).filter(is_taken).count()).unwrap();
            let rate = f64::from(taken) * 1_000.0 / f64::from(TRIES);
            assert!(
                (rate - expected).abs() <= expected * 0.2 + 0.2,
                "{length} digits: {rate} in a thousand, not {expected}"
            );
        }
    }
}
