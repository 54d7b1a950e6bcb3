//! Takes out of any text what must never leave the collector: card numbers, tokens, e-mail addresses, known secrets.
//!
//! Owns: finding them, also behind one layer of percent-encoding. Refuses: knowing which field a text is of, and
//! guessing at opaque values: a password without a shape is kept out by not keeping the field, not here. Every finder
//! is linear in the length of the text. A finding too many costs a piece of text, so the rules lean to that side.

mod addresses;
mod cards;
mod tokens;

use std::borrow::Cow;

const CARD: &str = "{card}";
const TOKEN: &str = "{token}";
const EMAIL: &str = "{email}";
const SECRET: &str = "{secret}";

const DIGIT: u64 = 1 << 63;
const AT: u64 = class(b'@');
const PERCENT: u64 = class(b'%');
const BLANK: u64 = class(b' ');
const JSON_BASE64: u64 = classes_of(b"eyJ");
const LETTER_B: u64 = classes_of(b"bB");
/// One bit per kind of byte that a finder needs; none for bytes that no finder asks for.
const fn class(byte: u8) -> u64 {
    match byte {
        b'a'..=b'z' => 1 << (byte - b'a'),
        b'A'..=b'Z' => 1 << (byte - b'A' + 26),
        b'_' => 1 << 52,
        b'-' => 1 << 53,
        b'.' => 1 << 54,
        b'@' => 1 << 55,
        b'%' => 1 << 56,
        // A form writes a space as `+`.
        b' ' | b'\t' | b'+' => 1 << 57,
        b'0'..=b'9' => DIGIT,
        _ => 0,
    }
}

const fn classes_of(mut bytes: &[u8]) -> u64 {
    let mut classes = 0;
    while let [first, rest @ ..] = bytes {
        classes |= class(*first);
        bytes = rest;
    }
    classes
}

static CLASSES: [u64; 256] = {
    let mut table = [0; 256];
    let mut rest: &mut [u64] = &mut table;
    let mut byte = 0_u8;
    while let [first, tail @ ..] = rest {
        *first = class(byte);
        byte = byte.wrapping_add(1);
        rest = tail;
    }
    table
};

/// Which kinds of bytes a text has. One pass, and for most texts the only one.
#[derive(Clone, Copy)]
struct Survey {
    present: u64,
    digits: u64,
    /// Known keys, one bit each, of whose prefix every character is there.
    shapes: u32,
}

impl Survey {
    fn of(bytes: &[u8]) -> Self {
        let (mut present, mut digits) = (0, 0);
        for byte in bytes {
            let class = CLASSES.get(usize::from(*byte)).copied().unwrap_or_default();
            present |= class;
            digits += class >> 63;
        }
        Self {
            present,
            digits,
            shapes: tokens::possible_shapes(present),
        }
    }

    const fn has_any(self, classes: u64) -> bool {
        self.present & classes != 0
    }

    const fn has_all(self, classes: u64) -> bool {
        self.present & classes == classes
    }

    const fn may_have_card(self) -> bool {
        self.digits >= cards::DIGITS_MIN
    }

    const fn may_have_credentials(self) -> bool {
        self.has_any(BLANK) && self.has_any(LETTER_B)
    }

    fn is_plain(self) -> bool {
        !self.may_have_card()
            && !self.has_any(AT | PERCENT)
            && !self.has_all(JSON_BASE64)
            && !self.may_have_credentials()
            && self.shapes == 0
    }
}

/// A stretch to be replaced, in bytes of the text that was looked at.
struct Found {
    start: usize,
    end: usize,
    label: &'static str,
}

/// The text with `{card}`, `{token}`, `{email}` and `{secret}` where those stood; borrowed when there was nothing.
///
/// Card numbers are 13 to 19 digits, in one piece or in groups as printed on cards, of an issuer's prefix and length and
/// with a right check digit. Tokens are JWTs and other JSON in base64, and what follows `Bearer` and `Basic`. Secrets
/// are keys of well-known shape and the user part of a URL.
pub fn scrub(text: &str) -> Cow<'_, str> {
    let survey = Survey::of(text.as_bytes());
    if survey.is_plain() {
        return Cow::Borrowed(text);
    }
    let found = if survey.has_any(PERCENT) {
        find_encoded(text.as_bytes())
    } else {
        find(text.as_bytes(), survey)
    };
    if found.is_empty() {
        return Cow::Borrowed(text);
    }
    Cow::Owned(rewrite(text, found))
}

fn find(bytes: &[u8], survey: Survey) -> Vec<Found> {
    let mut found = Vec::new();
    if survey.may_have_card() {
        cards::find(bytes, &mut found);
    }
    if survey.has_any(AT) {
        addresses::find(bytes, &mut found);
    }
    if survey.has_all(JSON_BASE64) {
        tokens::find_json_base64(bytes, &mut found);
    }
    if survey.may_have_credentials() {
        tokens::find_credentials(bytes, &mut found);
    }
    if survey.shapes != 0 {
        tokens::find_shapes(bytes, survey.shapes, &mut found);
    }
    found
}

/// Looks behind the percent-encoding; what is found there is given in bytes of the encoded text.
fn find_encoded(bytes: &[u8]) -> Vec<Found> {
    let decoded: Vec<u8> = Decoder { rest: bytes }.collect();
    let mut found = find(&decoded, Survey::of(&decoded));
    if found.is_empty() || decoded.len() == bytes.len() {
        return found;
    }
    let mut again = Decoder { rest: bytes };
    let mut places = Vec::with_capacity(decoded.len());
    while !again.rest.is_empty() {
        places.push(bytes.len() - again.rest.len());
        again.next();
    }
    let place = |at: usize| places.get(at).copied().unwrap_or(bytes.len());
    for found in &mut found {
        found.start = place(found.start);
        found.end = place(found.end);
    }
    found
}

/// Undoes percent-encoding; what is no escape stays as it is.
pub(super) struct Decoder<'a> {
    pub(super) rest: &'a [u8],
}

impl Iterator for Decoder<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let hex = |digit: u8| char::from(digit).to_digit(16);
        if let [b'%', high, low, rest @ ..] = self.rest
            && let (Some(high), Some(low)) = (hex(*high), hex(*low))
        {
            self.rest = rest;
            return u8::try_from(high * 16 + low).ok();
        }
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }
}

fn rewrite(text: &str, mut found: Vec<Found>) -> String {
    found.sort_by_key(|found| (found.start, usize::MAX - found.end));
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for Found { start, end, label } in found {
        if end <= done {
            continue;
        }
        // Overlapping stretches become one, under the name of the first.
        if start >= done {
            out.push_str(text.get(done..start).unwrap_or_default());
            out.push_str(label);
        }
        done = end;
    }
    out.push_str(text.get(done..).unwrap_or_default());
    out
}

/// Where the run of fitting bytes ends that begins at `from`.
fn run_end(bytes: &[u8], from: usize, fits: impl Fn(u8) -> bool) -> usize {
    let rest = bytes.get(from..).unwrap_or_default();
    from + rest.iter().take_while(|byte| fits(**byte)).count()
}

/// Where the run of fitting bytes begins that ends before `to`.
fn run_start(bytes: &[u8], to: usize, fits: impl Fn(u8) -> bool) -> usize {
    let before = bytes.get(..to).unwrap_or_default();
    to - before.iter().rev().take_while(|byte| fits(**byte)).count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        cards::tests::{CARDS, in_groups},
        *,
    };

    const JWT: &str = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ1NyIsIm4iOjF9.sig";

    #[test]
    fn what_must_not_leave_is_replaced() {
        let cases = [
            (format!("/t/{JWT}/x"), "/t/{token}/x"),
            (JWT.replace('.', "%2E"), "{token}"),
            ("/t/eyJhbGc.eyJzdWI".to_owned(), "/t/{token}"),
            ("s=eyJjYXJ0IjpbMSwyXX0=;".to_owned(), "s={token};"),
            ("Bearer 5k.x-Y_z~1+/==".to_owned(), "{token}"),
            ("said: BASIC%20YTpi, or".to_owned(), "said: {token}, or"),
            ("bearer: abc".to_owned(), "{token}"),
            (
                "/users/anna.b+x@mail.example.com".to_owned(),
                "/users/{email}",
            ),
            ("/u/anna%40mail.example.com/o".to_owned(), "/u/{email}/o"),
            (
                "/u/j%C3%B6rg%40b%C3%BCcher.example".to_owned(),
                "/u/{email}",
            ),
            (
                "to=j\u{f6}rg@b\u{fc}cher.example&x".to_owned(),
                "to={email}&x",
            ),
            (
                "\u{e9} x@163.com \u{e9}".to_owned(),
                "\u{e9} {email} \u{e9}",
            ),
            ("a@example.com.json".to_owned(), "{email}"),
            ("a@example.com-old/b".to_owned(), "{email}/b"),
            ("<a@b.com>, c@d.org.".to_owned(), "<{email}>, {email}."),
            (
                "from https://anna:pa.ss@shop.example/cart".to_owned(),
                "from https://{secret}@shop.example/cart",
            ),
            ("key=sk_live_4eC39HqLyjWD".to_owned(), "key={secret}"),
            ("AKIAIOSFODNN7EXAMPLE".to_owned(), "{secret}"),
            ("/x/ghp_0123456789abcdefghij".to_owned(), "/x/{secret}"),
            ("xoxb-1234-5678-abcdef".to_owned(), "{secret}"),
            ("sk%5Flive%5F4eC39HqLyjWD".to_owned(), "{secret}"),
            (
                "5555555555554444 of a@b.com by sk_test_abcdefgh".to_owned(),
                "{card} of {email} by {secret}",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(scrub(&text), expected, "{text}");
        }
    }

    #[test]
    fn the_ordinary_survives_without_a_copy() {
        let texts = [
            "/",
            "/products/42/reviews",
            "/orders/0190b3c5-7d2a-7f3e-8a55-0123456789ab/pay",
            "/orders/12345678-1234-1234-1234-123456789012",
            "/orders/ord_01h2xcejqtf2nbrexx3vqjhp41",
            "/since/1763912345678/1763912345678901/1763912345678901234",
            "2026-11-23 15:44:40.123456789",
            "+49 170 1234567, +1-202-555-0143",
            "/@anna/posts",
            "/npm/@scope/pkg@1.2.3/index.min.js",
            "/img/logo@2x.png",
            "/a%20b/%zz/100%",
            "/docs/bearer-token/basic-auth",
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36",
            "shop.example:8080",
            "/brands/sk-ii/task_sk_live",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "keyJournal.of.days",
            "\u{65e5}\u{672c}\u{8a9e}",
        ];
        for text in texts {
            assert!(
                matches!(scrub(text), Cow::Borrowed(same) if same == text),
                "{text}"
            );
        }
    }

    /// Looking twice at each byte would be hours here.
    #[test]
    fn hostile_text_takes_no_longer_than_its_length() {
        let began = std::time::Instant::now();
        let parts = [
            "eyJ", "eyJ.", "@", "a@", "a@b.", "://a@", "1 ", "1234-", "xoxb-", "AKIA", "bearer ",
            "basic+", "%40a", "SG.", "sk-", "%", "1", "b", "://",
        ];
        for part in parts {
            let text = part.repeat((1 << 20) / part.len());
            assert!(scrub(&text).len() <= text.len() * 3);
        }
        assert!(began.elapsed().as_secs() < 20, "{:?}", began.elapsed());
    }

    fn secret() -> impl Strategy<Value = (String, &'static str)> {
        let secrets: Vec<(String, &'static str)> = CARDS
            .into_iter()
            .flat_map(|card| [(card.to_owned(), CARD), (in_groups(card, "-"), CARD)])
            .chain([
                (JWT.to_owned(), TOKEN),
                ("Bearer abcDEF".to_owned(), TOKEN),
                ("anna@mail.example".to_owned(), EMAIL),
                ("sk_live_4eC39HqLyjWD".to_owned(), SECRET),
                ("AKIAIOSFODNN7EXAMPLE".to_owned(), SECRET),
            ])
            .collect();
        proptest::sample::select(secrets)
    }

    proptest! {
        #[test]
        fn a_secret_is_found_wherever_it_stands(
            before in "([a-z%/ ]{0,20}[/ ])?",
            after in "([,?][a-z%/]{0,20})?",
            (secret, label) in secret(),
            encoded: bool,
        ) {
            let written = if encoded {
                secret.bytes().fold(String::new(), |text, byte| format!("{text}%{byte:02x}"))
            } else {
                secret
            };
            let text = format!("{before}{written}{after}");
            prop_assert_eq!(scrub(&text).into_owned(), format!("{before}{label}{after}"));
        }

        #[test]
        fn any_text_is_taken_and_nothing_is_left_to_find(text in "\\PC{0,60}|[0-9a@.%4eyJ_ :/+-]{0,60}") {
            let once = scrub(&text).into_owned();
            prop_assert_eq!(scrub(&once).into_owned(), once.clone());
        }
    }
}
