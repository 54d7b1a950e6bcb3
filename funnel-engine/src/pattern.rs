//! Regular expressions that mean the same here and in ClickHouse.
//!
//! ClickHouse's `match` is RE2 with `.` matching line breaks too; here runs the crate `regex`. Both read nearly the
//! same language. Where they read the same text differently, RE2's reading holds: `\d`, `\s`, `\w` and `\b` know
//! ASCII only and are rewritten so. What RE2 does not know, or reads as something else, is refused.

use regex::{Regex, RegexBuilder};
use regex_syntax::ast::{
    self, AssertionKind, Ast, ClassPerl, ClassPerlKind, ClassSetBinaryOp, ClassSetItem,
    ClassUnicode, ClassUnicodeKind, Flag, Flags, FlagsItemKind, GroupKind, HexLiteralKind, Literal,
    LiteralKind, RepetitionKind, RepetitionRange, Span, Visitor,
};

/// Longest pattern, bytes.
const PATTERN_BYTES_MAX: usize = 1_000;
/// Largest compiled program, and largest cache of a search, bytes.
const COMPILED_BYTES_MAX: usize = 1 << 20;
/// Groups and classes inside one another.
const NEST_MAX: u32 = 50;
/// RE2 counts no further.
const REPEAT_MAX: u32 = 1_000;

/// Compiles a pattern; it matches anywhere in a text unless it says `^` or `$`.
///
/// # Errors
/// What is wrong with it, in one line.
pub(crate) fn compile(pattern: &str) -> Result<Regex, String> {
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err(format!(
            "a regular expression has at most {PATTERN_BYTES_MAX} bytes, this one has {}",
            pattern.len()
        ));
    }
    let mut parser = ast::parse::ParserBuilder::new()
        .nest_limit(NEST_MAX)
        .build();
    let tree = parser.parse(pattern).map_err(|error| {
        let column = error.span().start.column;
        format!(
            "no valid regular expression: {} (character {column})",
            error.kind()
        )
    })?;
    let changes = ast::visit(&tree, Reader::default())?;
    RegexBuilder::new(&rewritten(pattern, &changes))
        .dot_matches_new_line(true)
        .size_limit(COMPILED_BYTES_MAX)
        .dfa_size_limit(COMPILED_BYTES_MAX)
        .build()
        .map_err(|error| {
            if matches!(error, regex::Error::CompiledTooBig(_)) {
                return "the regular expression is too large when compiled: repeat less".to_owned();
            }
            // A syntax error draws the pattern first; its last line says what is wrong.
            let text = error.to_string();
            let reason = text.lines().last().unwrap_or_default();
            let reason = reason.trim_start_matches("error: ");
            format!("no valid regular expression: {reason}")
        })
}

/// A part of the pattern that is written differently for `regex`.
type Change = (Span, &'static str);

/// `changes` are in the order of the pattern and do not overlap.
fn rewritten(pattern: &str, changes: &[Change]) -> String {
    let mut text = String::with_capacity(pattern.len());
    let mut done = 0;
    for (span, replacement) in changes {
        text.push_str(pattern.get(done..span.start.offset).unwrap_or_default());
        text.push_str(replacement);
        done = span.end.offset;
    }
    text.push_str(pattern.get(done..).unwrap_or_default());
    text
}

/// Walks the pattern, notes what must be rewritten and refuses what RE2 reads differently.
#[derive(Default)]
struct Reader {
    changes: Vec<Change>,
}

impl Visitor for Reader {
    type Output = Vec<Change>;
    type Err = String;

    fn finish(self) -> Result<Vec<Change>, String> {
        Ok(self.changes)
    }

    fn visit_pre(&mut self, part: &Ast) -> Result<(), String> {
        match part {
            Ast::Flags(set) => flags(&set.flags),
            Ast::Group(group) => match &group.kind {
                GroupKind::NonCapturing(set) => flags(set),
                GroupKind::CaptureIndex(_) | GroupKind::CaptureName { .. } => Ok(()),
            },
            Ast::Literal(one) => literal(one),
            Ast::Assertion(assertion) => self.assertion(assertion),
            Ast::ClassUnicode(class) => unicode(class),
            Ast::ClassPerl(class) => {
                self.changes.push((class.span, ascii(class)));
                Ok(())
            }
            Ast::Repetition(one) => repetition(one),
            Ast::Empty(_)
            | Ast::Dot(_)
            | Ast::ClassBracketed(_)
            | Ast::Alternation(_)
            | Ast::Concat(_) => Ok(()),
        }
    }

    fn visit_class_set_item_pre(&mut self, item: &ClassSetItem) -> Result<(), String> {
        match item {
            ClassSetItem::Literal(one) => literal(one),
            ClassSetItem::Range(range) => literal(&range.start).and_then(|()| literal(&range.end)),
            ClassSetItem::Unicode(class) => unicode(class),
            ClassSetItem::Perl(class) => {
                self.changes.push((class.span, ascii(class)));
                Ok(())
            }
            ClassSetItem::Bracketed(_) => {
                Err("write `\\[` for a bracket inside a character class".to_owned())
            }
            ClassSetItem::Empty(_) | ClassSetItem::Ascii(_) | ClassSetItem::Union(_) => Ok(()),
        }
    }

    fn visit_class_set_binary_op_pre(&mut self, _: &ClassSetBinaryOp) -> Result<(), String> {
        Err("write `\\&`, `\\-` or `\\~` for a doubled sign inside a character class".to_owned())
    }
}

impl Reader {
    fn assertion(&mut self, assertion: &ast::Assertion) -> Result<(), String> {
        match assertion.kind {
            AssertionKind::StartLine
            | AssertionKind::EndLine
            | AssertionKind::StartText
            | AssertionKind::EndText => Ok(()),
            AssertionKind::WordBoundary => {
                self.changes.push((assertion.span, r"(?-u:\b)"));
                Ok(())
            }
            // RE2 finds it inside a letter of several bytes too.
            AssertionKind::NotWordBoundary
            | AssertionKind::WordBoundaryStart
            | AssertionKind::WordBoundaryEnd
            | AssertionKind::WordBoundaryStartAngle
            | AssertionKind::WordBoundaryEndAngle
            | AssertionKind::WordBoundaryStartHalf
            | AssertionKind::WordBoundaryEndHalf => {
                Err("of the word boundaries, only `\\b` is known".to_owned())
            }
        }
    }
}

fn repetition(repetition: &ast::Repetition) -> Result<(), String> {
    if matches!(*repetition.ast, Ast::Repetition(_)) {
        return Err(
            "a repetition is repeated: put the inner one in parentheses, as in `(a+)*`".to_owned(),
        );
    }
    let RepetitionKind::Range(range) = &repetition.op.kind else {
        return Ok(());
    };
    let (RepetitionRange::Exactly(most)
    | RepetitionRange::AtLeast(most)
    | RepetitionRange::Bounded(_, most)) = range;
    if *most > REPEAT_MAX {
        return Err(format!("a repetition counts to at most {REPEAT_MAX}"));
    }
    Ok(())
}

/// What RE2 means by a Perl class.
const fn ascii(class: &ClassPerl) -> &'static str {
    match (&class.kind, class.negated) {
        (ClassPerlKind::Digit, false) => "[0-9]",
        (ClassPerlKind::Digit, true) => "[^0-9]",
        (ClassPerlKind::Space, false) => r"[\t\n\f\r ]",
        (ClassPerlKind::Space, true) => r"[^\t\n\f\r ]",
        (ClassPerlKind::Word, false) => "[0-9A-Za-z_]",
        (ClassPerlKind::Word, true) => "[^0-9A-Za-z_]",
    }
}

fn flags(flags: &Flags) -> Result<(), String> {
    let known = flags.items.iter().all(|item| match item.kind {
        FlagsItemKind::Negation
        | FlagsItemKind::Flag(
            Flag::CaseInsensitive | Flag::MultiLine | Flag::DotMatchesNewLine | Flag::SwapGreed,
        ) => true,
        FlagsItemKind::Flag(Flag::Unicode | Flag::CRLF | Flag::IgnoreWhitespace) => false,
    });
    if known {
        Ok(())
    } else {
        Err("of the flags, only `i`, `m`, `s` and `U` are known".to_owned())
    }
}

fn literal(literal: &Literal) -> Result<(), String> {
    match literal.kind {
        LiteralKind::HexFixed(HexLiteralKind::X)
        | LiteralKind::HexBrace(HexLiteralKind::X)
        | LiteralKind::Verbatim
        | LiteralKind::Meta
        | LiteralKind::Superfluous
        | LiteralKind::Octal
        | LiteralKind::Special(_) => Ok(()),
        LiteralKind::HexFixed(_) | LiteralKind::HexBrace(_) => {
            Err("write a code point as `\\x{20AC}`".to_owned())
        }
    }
}

fn unicode(class: &ClassUnicode) -> Result<(), String> {
    match class.kind {
        ClassUnicodeKind::OneLetter(_) | ClassUnicodeKind::Named(_) => Ok(()),
        ClassUnicodeKind::NamedValue { .. } => {
            Err("write the class alone, as in `\\p{Greek}` or `\\p{Lu}`".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Answers of ClickHouse 26.7's `match`.
    #[test]
    fn answers_are_those_of_clickhouse() {
        for (pattern, text, expected) in [
            ("a.b", "a\nb", true),
            ("(?-s)a.b", "a\nb", false),
            (r"^\w+$", "手机", false),
            (r"^\d$", "٣", false),
            (r"^\D$", "٣", true),
            (r"^[\d-]+$", "1-2", true),
            (r"^[^\W_]+$", "a1", true),
            (r"^[^\W_]+$", "ä", false),
            (r"\s", "\u{a0}", false),
            (r"\b", "手机", false),
            ("(?i)straße", "STRAßE", true),
            ("(?i)k", "\u{212a}", true),
            ("^[[:alpha:]]+$", "ab", true),
            (r"\p{Han}", "手机", true),
            ("", "", true),
            ("a$", "a\n", false),
            ("(?m)a$", "a\n", true),
            (r"\x{624b}", "手", true),
        ] {
            let matches = compile(pattern).unwrap().is_match(text);
            assert_eq!(matches, expected, "{pattern} {text:?}");
        }
    }

    #[test]
    fn what_reads_differently_elsewhere_is_refused() {
        for (pattern, reason) in [
            ("(", "unclosed group"),
            ("a)", "unopened group"),
            ("(?P<n>a", "unclosed group"),
            ("*", "missing expression"),
            ("[b-a]", "invalid character class range"),
            (r"\p{Nonsense}", "property not found"),
            ("(?=a)", "look-around"),
            (r"(a)\1", "backreferences"),
            ("[a&&b]", "doubled sign"),
            ("[a[b]]", "bracket inside"),
            ("(?x)a b", "flags"),
            ("(?u:a)", "flags"),
            (r"\B", "word boundaries"),
            (r"\<a", "word boundaries"),
            (r"\b{start}a", "word boundaries"),
            (r"\u{20AC}", "code point"),
            (r"[\u20AC]", "code point"),
            (r"\p{sc=Greek}", "class alone"),
            ("a**", "parentheses"),
            ("a{,3}", "repetition quantifier"),
            ("a{1001}", "at most 1000"),
            ("((a{1000}){1000}){1000}", "too large"),
            (&["(".repeat(51), ")".repeat(51)].concat(), "nest"),
            (&"a".repeat(1_001), "at most 1000 bytes"),
        ] {
            let error = compile(pattern).unwrap_err();
            assert!(error.contains(reason), "{pattern}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_pattern_is_compiled_or_refused(pattern in "[\\\\\\[\\](){}*+?|^$.&~<>:=!PpdwsbBux0-9a-c,-]{0,24}", text in ".{0,12}") {
            if let Ok(compiled) = compile(&pattern) {
                std::hint::black_box(compiled.is_match(&text));
            }
        }
    }
}
