//! What the HTTP protocol needs to know of a statement's text: is it an INSERT with data, and in what format.

/// A statement as the engine wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Statement {
    /// Anything without data of its own; `FORMAT` may be inside.
    Query(String),
    /// `INSERT INTO t (columns) [SETTINGS ...]`, the format, and data that came behind it in the text.
    Insert {
        /// The statement without its FORMAT clause.
        sql: String,
        /// Format of the data.
        format: String,
        /// Data from the statement's own text; more may follow in the body.
        inline: Vec<u8>,
    },
}

/// Takes a request's text apart. `default_format` applies to an INSERT that names none.
pub fn classify(text: &[u8], default_format: Option<&str>) -> Statement {
    let head = String::from_utf8_lossy(text);
    if !starts_with_word(strip_comments(&head), "INSERT") {
        return Statement::Query(trim_end(&head).to_owned());
    }
    match find_data_clause(text) {
        Some(Clause::Select) => Statement::Query(trim_end(&head).to_owned()),
        Some(Clause::Values { at, data }) => Statement::Insert {
            sql: text_until(text, at),
            format: "Values".to_owned(),
            inline: text.get(data..).unwrap_or_default().to_vec(),
        },
        Some(Clause::Format { at, name, data }) => Statement::Insert {
            sql: text_until(text, at),
            format: name,
            inline: text.get(data..).unwrap_or_default().to_vec(),
        },
        None => Statement::Insert {
            sql: trim_end(&head).to_owned(),
            format: default_format.unwrap_or("Values").to_owned(),
            inline: Vec::new(),
        },
    }
}

enum Clause {
    Select,
    Values {
        at: usize,
        data: usize,
    },
    Format {
        at: usize,
        name: String,
        data: usize,
    },
}

/// Finds the clause that introduces data, outside quotes and brackets.
fn find_data_clause(text: &[u8]) -> Option<Clause> {
    let mut at = 0;
    let mut depth = 0_i32;
    while let Some(byte) = text.get(at) {
        match byte {
            b'\'' | b'`' | b'"' => at = skip_quoted(text, at, *byte),
            b'(' => depth += 1,
            b')' => depth -= 1,
            _ if byte.is_ascii_alphabetic() && depth == 0 => {
                let word = word_at(text, at);
                let end = at + word.len();
                if word.eq_ignore_ascii_case(b"SELECT") || word.eq_ignore_ascii_case(b"WITH") {
                    return Some(Clause::Select);
                }
                if word.eq_ignore_ascii_case(b"VALUES") {
                    return Some(Clause::Values { at, data: end });
                }
                if word.eq_ignore_ascii_case(b"FORMAT") {
                    return Some(format_clause(text, at, end));
                }
                at = end - 1;
            }
            _ => {}
        }
        at += 1;
    }
    None
}

fn format_clause(text: &[u8], at: usize, after: usize) -> Clause {
    let blank = |from: usize| {
        text.get(from..)
            .unwrap_or_default()
            .iter()
            .take_while(|byte| byte.is_ascii_whitespace())
            .count()
    };
    let start = after + blank(after);
    let name = word_at(text, start);
    let mut data = start + name.len();
    // Blanks up to and including one line break separate the format from binary data.
    while let Some(byte) = text.get(data) {
        match byte {
            b' ' | b'\t' | b'\r' => data += 1,
            b'\n' => {
                data += 1;
                break;
            }
            _ => break,
        }
    }
    Clause::Format {
        at,
        name: String::from_utf8_lossy(name).into_owned(),
        data,
    }
}

/// Whether another statement follows a semicolon; only one is allowed per request.
pub(super) fn is_multiple(sql: &str) -> bool {
    let text = sql.as_bytes();
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        let rest = text.get(at..).unwrap_or_default();
        match byte {
            b'\'' | b'`' | b'"' => at = skip_quoted(text, at, *byte),
            b'-' if rest.starts_with(b"--") => {
                at += rest.iter().take_while(|byte| **byte != b'\n').count();
            }
            b'/' if rest.starts_with(b"/*") => {
                at += rest
                    .windows(2)
                    .position(|pair| pair == b"*/")
                    .unwrap_or(rest.len());
            }
            b';' => return true,
            _ => {}
        }
        at += 1;
    }
    false
}

fn word_at(text: &[u8], at: usize) -> &[u8] {
    let rest = text.get(at..).unwrap_or_default();
    let length = rest
        .iter()
        .take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_')
        .count();
    rest.get(..length).unwrap_or_default()
}

fn skip_quoted(text: &[u8], open: usize, quote: u8) -> usize {
    let mut at = open + 1;
    while let Some(byte) = text.get(at) {
        match byte {
            b'\\' => at += 1,
            _ if *byte == quote => return at,
            _ => {}
        }
        at += 1;
    }
    at
}

fn strip_comments(mut text: &str) -> &str {
    loop {
        text = text.trim_start();
        let rest = if let Some(rest) = text.strip_prefix("/*") {
            rest.split_once("*/").map(|(_, rest)| rest)
        } else if let Some(rest) = text.strip_prefix("--") {
            rest.split_once('\n').map(|(_, rest)| rest)
        } else {
            return text;
        };
        match rest {
            Some(rest) => text = rest,
            None => return "",
        }
    }
}

fn starts_with_word(text: &str, word: &str) -> bool {
    text.get(..word.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(word))
}

fn text_until(text: &[u8], at: usize) -> String {
    String::from_utf8_lossy(text.get(..at).unwrap_or_default())
        .trim_end()
        .to_owned()
}

fn trim_end(text: &str) -> &str {
    text.trim_end_matches(|letter: char| letter.is_whitespace() || letter == ';')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insert(sql: &str, format: &str, inline: &[u8]) -> Statement {
        Statement::Insert {
            sql: sql.to_owned(),
            format: format.to_owned(),
            inline: inline.to_vec(),
        }
    }

    #[test]
    fn data_never_stays_in_the_statement() {
        assert_eq!(
            classify(
                b"INSERT INTO t (a, `format`) FORMAT RowBinary\n\x01\n\n; DROP TABLE t",
                None
            ),
            insert(
                "INSERT INTO t (a, `format`)",
                "RowBinary",
                b"\x01\n\n; DROP TABLE t"
            )
        );
        assert_eq!(
            classify(b"insert into t values (1),(2)", None),
            insert("insert into t", "Values", b" (1),(2)")
        );
        assert_eq!(
            classify(b"INSERT INTO t", Some("JSONEachRow")),
            insert("INSERT INTO t", "JSONEachRow", b"")
        );
    }

    #[test]
    fn a_second_statement_is_noticed_but_not_a_quoted_semicolon() {
        assert!(is_multiple("SELECT 1; DROP TABLE t"));
        assert!(!is_multiple("SELECT ';' -- ; \n, 1 /* ; */"));
    }

    #[test]
    fn other_statements_pass_as_they_are() {
        assert_eq!(
            classify(b"SELECT 1 FORMAT JSON;\n", None),
            Statement::Query("SELECT 1 FORMAT JSON".to_owned())
        );
        let copy = "INSERT INTO t SELECT * FROM u";
        assert_eq!(
            classify(copy.as_bytes(), None),
            Statement::Query(copy.to_owned())
        );
        assert_eq!(
            classify(b"-- c\n/* d */ INSERT INTO t FORMAT TSV", None),
            insert("-- c\n/* d */ INSERT INTO t", "TSV", b"")
        );
    }
}
