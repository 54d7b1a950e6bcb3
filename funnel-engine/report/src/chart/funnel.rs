//! The funnel: one bar per step with what is lost beside it.

use super::{INK, KEPT, LOST, draw, length, rectangle, style, text};
use crate::{Report, ReportError, grouped};
use funnel_engine::percent;

const ROW_HEIGHT: i32 = 64;
/// Of many steps; all 64 fit on a page.
const ROW_HEIGHT_MIN: i32 = 16;
/// Height that rows share before they shrink.
const HEIGHT: i32 = 640;
const LABEL_WIDTH: i32 = 160;
/// Leaves room for the figures beside the longest bar.
const BAR_WIDTH_MAX: i32 = 390;
/// Widths of a Latin letter that fit beside the bar; letters of the East are two wide.
const LABEL_LETTERS: usize = 16;

pub(crate) fn funnel_svg(report: &Report) -> Result<String, ReportError> {
    let rows = i32::try_from(report.rows.len()).unwrap_or(i32::MAX);
    let row_height = (HEIGHT / rows.max(1)).clamp(ROW_HEIGHT_MIN, ROW_HEIGHT);
    let bar_height = row_height * 11 / 16;
    let letter = (bar_height - 2).min(17);
    let style = style(letter, &INK);
    // The capitals' middle is that of the bar.
    let down = (bar_height - letter) / 2;
    let tops = (8..).step_by(usize::try_from(row_height).unwrap_or(1));
    draw(rows.saturating_mul(row_height).saturating_add(8), |area| {
        let first = report.rows.first().map_or(0, |row| row.count);
        let mut previous = first;
        for (row, top) in report.rows.iter().zip(tops) {
            let bar = |count: u64| {
                let right = LABEL_WIDTH + length(count, first, BAR_WIDTH_MAX);
                [(LABEL_WIDTH, top), (right, top + bar_height)]
            };
            rectangle(area, bar(previous), LOST)?;
            rectangle(area, bar(row.count), KEPT)?;
            text(area, &fitted(&row.name), (4, top + down), &style)?;
            let figures = format!("{} · {}", grouped(row.count), percent(row.from_previous));
            let at = LABEL_WIDTH + length(previous, first, BAR_WIDTH_MAX) + 10;
            text(area, &figures, (at, top + down), &style)?;
            if !row.optional {
                previous = row.count;
            }
        }
        Ok(())
    })
}

/// As much of a name as stands beside its bar; the table has all of it. What no picture can hold is left out.
fn fitted(name: &str) -> String {
    let name: String = name.chars().filter(|letter| !letter.is_control()).collect();
    let width = |letter: char| if letter < '\u{1100}' { 1 } else { 2 };
    if name.chars().map(width).sum::<usize>() <= LABEL_LETTERS {
        return name;
    }
    let mut used = 1;
    let kept = name.chars().take_while(|letter| {
        used += width(*letter);
        used <= LABEL_LETTERS
    });
    kept.chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::fitted;

    #[test]
    fn names_fit_beside_their_bar() {
        assert_eq!(fitted("Add to the cart!"), "Add to the cart!");
        assert_eq!(fitted("Add to the basket"), "Add to the bask…");
        assert_eq!(fitted("加入购物车和付款页"), "加入购物车和付…");
        assert_eq!(fitted("a\u{1}b"), "ab");
    }
}
