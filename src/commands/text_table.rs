//! Tables for a terminal: aligned, not too wide, and without characters that a terminal would obey.

use std::io::IsTerminal;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Columns of an ordinary terminal.
pub const WIDTH: usize = 80;
/// A column that is too wide for the table is not made narrower than this.
const NARROW: usize = 12;
/// Between two columns.
const SPACE: usize = 2;

/// How wide a table on standard output may be: as the terminal is, and without one as wide as it needs.
pub fn width() -> usize {
    let out = std::io::stdout();
    match terminal_size::terminal_size_of(&out) {
        Some((width, _)) => usize::from(width.0),
        // Some terminals do not know.
        None if out.is_terminal() => WIDTH,
        None => usize::MAX,
    }
}

/// A column of a table.
#[derive(Clone, Debug)]
pub struct Column {
    /// What stands above it.
    pub name: String,
    /// True if it is aligned to the right.
    pub right: bool,
    /// True if it may be cut to make the table fit.
    pub cut: bool,
}

/// Text in which control characters, and those that change the direction of the text, are written as escapes.
pub fn visible(text: &str) -> String {
    text.chars().map(|c| if is_obeyed(c) { c.escape_default().to_string() } else { c.to_string() }).collect()
}

/// The same of text that has lines and tabs of its own.
pub fn visible_lines(text: &str) -> String {
    let lines = text.split('\n').map(|line| {
        let (line, end) = line.strip_suffix('\r').map_or((line, ""), |line| (line, "\r"));
        line.split('\t').map(visible).collect::<Vec<_>>().join("\t") + end
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// True for what a terminal would obey instead of showing it: control characters, and those that change the direction of
/// the text.
pub fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// A table not wider than `width`, if need be with cells cut; with how many columns at the end were left out altogether.
pub fn table(columns: &[Column], rows: &[Vec<String>], width: usize) -> (String, usize) {
    let cells: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| visible(cell)).collect()).collect();
    let natural = columns.iter().enumerate().map(|(i, column)| {
        let longest = cells.iter().filter_map(|row| row.get(i)).map(|cell| cell.width()).max();
        longest.unwrap_or_default().max(column.name.width())
    });
    let mut widths: Vec<usize> = natural.collect();
    let total = |widths: &[usize]| widths.iter().sum::<usize>() + SPACE * widths.len().saturating_sub(1);
    while total(&widths) > width {
        let cuttable = (0..widths.len()).filter(|&i| columns[i].cut && widths[i] > NARROW);
        match cuttable.max_by_key(|&i| widths[i]) {
            Some(widest) => widths[widest] -= 1,
            None if widths.len() > 1 => _ = widths.pop(),
            None => break,
        }
    }
    let mut out = String::new();
    let names: Vec<String> = columns.iter().map(|c| c.name.clone()).collect();
    for row in std::iter::once(&names).chain(&cells) {
        let line = row.iter().zip(&widths).zip(columns).map(|((cell, &width), column)| {
            let cell = fitted(cell, width);
            let space = " ".repeat(width - cell.width());
            if column.right { space + &cell } else { cell + &space }
        });
        out.push_str(line.collect::<Vec<_>>().join(&" ".repeat(SPACE)).trim_end());
        out.push('\n');
    }
    (out, columns.len() - widths.len())
}

/// The text, cut to a width if it is wider.
fn fitted(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut left = width - 1;
    let fits = |c: &char| {
        let rest = left.checked_sub(c.width().unwrap_or_default());
        left = rest.unwrap_or(0);
        rest.is_some()
    };
    text.chars().take_while(fits).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, cut: bool) -> Column {
        Column { name: name.into(), right: !cut, cut }
    }

    #[test]
    fn a_wide_table_is_cut_to_fit_and_says_what_it_left_out() {
        let columns = ["a", "b", "c", "d", "e", "f", "g", "h", "i"].map(|name| column(name, true));
        let rows = vec![vec!["x".repeat(50); 9]];
        let (text, left_out) = table(&columns, &rows, WIDTH);
        assert_eq!(left_out, 4);
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
    }

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        let rows = vec![vec!["\u{1b}[31mred\r\n".into(), "1".into()], vec!["a\u{202e}é…".into(), "200".into()]];
        let (text, _) = table(&[column("text", true), column("n", false)], &rows, WIDTH);
        insta::assert_snapshot!(text);
    }

    #[test]
    fn wide_characters_take_two_columns_and_combining_ones_none() {
        let rows = ["日本語のとても長い名前", "ábc", "abc"].map(|text| vec![text.to_owned(), "1".to_owned()]);
        let (text, _) = table(&[column("text", true), column("n", false)], &rows, 16);
        let widths: Vec<usize> = text.lines().map(UnicodeWidthStr::width).collect();
        assert_eq!(widths, [16; 4], "{text}");
        assert!(text.contains("日本語のとて…"), "{text}");
    }

    #[test]
    fn lines_and_tabs_stay() {
        for (text, expected) in [
            ("a\tb\r\nc\n", "a\tb\r\nc\n"),
            ("safe\rbad", "safe\\rbad"),
            ("\u{1b}]0;x\u{7}\u{9b}31m\u{202e}", "\\u{1b}]0;x\\u{7}\\u{9b}31m\\u{202e}"),
        ] {
            assert_eq!(visible_lines(text), expected);
        }
    }
}
