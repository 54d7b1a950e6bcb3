//! Tests of the matchers as a whole: each rule by hand, and against a slow truth of their own.

mod agreement;
mod oracle;
mod others;
mod rules;

use super::{Matcher, Wants};
use crate::definition::{Count, Order};
use crate::shape::{Kind, Mark, Shape, Verdict};

fn shape(order: Order, count: Count, steps: usize, window_ns: i64) -> Shape {
    Shape {
        steps,
        order,
        count,
        modes: vec![],
        window_ns,
        optional: 0,
        within_ns: vec![i64::MAX; steps],
        not_before_ns: vec![0; steps],
        exclusions: vec![],
    }
}

/// `"1@0 23@5 x@7 2x@9"`: digits are steps that the event can fill, x, y and z the exclusions that it matches.
fn marks(text: &str) -> Vec<Mark> {
    let mark = |word: &str| {
        let (kind, at) = word.split_once('@').unwrap();
        let mut mark = Mark {
            at_ns: at.parse().unwrap(),
            kind: Kind::default(),
        };
        for sign in kind.chars() {
            match sign {
                '1'..='9' => mark.kind.fills |= 1 << (sign as u32 - '1' as u32),
                'x'..='z' => mark.kind.excludes |= 1 << (sign as u32 - 'x' as u32),
                _ => assert_eq!(sign, '-'),
            }
        }
        mark
    };
    text.split_whitespace().map(mark).collect()
}

fn judged(shape: &Shape, marks: &[Mark], attempts: bool) -> Verdict {
    let mut verdict = Verdict::default();
    Matcher::new(shape, Wants { attempts }).judge(marks, &mut verdict);
    verdict
}
