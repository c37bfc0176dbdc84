//! Aligned columns of text, narrow enough for a terminal.

/// To which side the cells of a column go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

/// Rows of cells under headings.
pub(super) struct Columns {
    sides: Vec<Side>,
    rows: Vec<Vec<String>>,
    indent: usize,
}

/// Between two columns.
const GAP: usize = 2;
/// No column is cut to less than this.
const LEAST: usize = 8;

impl Columns {
    /// Columns with headings.
    pub(super) fn new(headings: &[(&str, Side)]) -> Self {
        let (names, sides): (Vec<_>, Vec<_>) =
            headings.iter().map(|&(name, side)| (name.to_owned(), side)).unzip();
        Self { sides, rows: vec![names], indent: 0 }
    }

    /// The same, `spaces` to the right.
    pub(super) fn indented(mut self, spaces: usize) -> Self {
        self.indent = spaces;
        self
    }

    /// Adds a row.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The text, at most `width` columns wide: the widest columns of text are
    /// cut; numbers never are.
    pub(super) fn render(&self, width: usize) -> String {
        let widths = self.widths(width);
        let mut text = String::new();
        for row in &self.rows {
            let mut line = " ".repeat(self.indent);
            for ((cell, &width), side) in row.iter().zip(&widths).zip(&self.sides) {
                if width == 0 {
                    continue;
                }
                let cell = cut(cell, width);
                let space = " ".repeat(width - length(&cell).min(width));
                match side {
                    Side::Left => line += &format!("{cell}{space}"),
                    Side::Right => line += &format!("{space}{cell}"),
                }
                line += &" ".repeat(GAP);
            }
            text += line.trim_end();
            text.push('\n');
        }
        text
    }

    fn widths(&self, width: usize) -> Vec<usize> {
        let mut widths: Vec<usize> = (0..self.sides.len()).map(|at| self.natural_width(at)).collect();
        loop {
            let gaps = GAP * widths.iter().filter(|w| **w > 0).count().saturating_sub(1);
            let total = self.indent + gaps + widths.iter().sum::<usize>();
            let widest = widths
                .iter_mut()
                .zip(&self.sides)
                .filter(|(width, side)| **side == Side::Left && **width > LEAST)
                .map(|(width, _)| width)
                .max();
            match widest {
                Some(widest) if total > width => *widest -= 1,
                _ => return widths,
            }
        }
    }

    /// The widest cell of a column; zero where all cells below the heading are
    /// empty, so that it disappears.
    fn natural_width(&self, at: usize) -> usize {
        let cells = || self.rows.iter().filter_map(move |row| row.get(at));
        if cells().skip(1).all(String::is_empty) {
            return 0;
        }
        cells().map(|cell| length(cell)).max().unwrap_or_default()
    }
}

fn length(text: &str) -> usize {
    text.chars().count()
}

/// `text`, or its beginning and `…` where it is longer than `width`.
pub(super) fn cut(text: &str, width: usize) -> String {
    if length(text) <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{kept}…")
}

/// `text` on lines of at most `width` columns, further lines indented by
/// `indent`.
pub(super) fn wrap(text: &str, width: usize, indent: usize) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let is_first = lines.len() == 1;
        let room = width.saturating_sub(if is_first { 0 } else { indent });
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if length(line) + 1 + length(word) <= room => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.join(&format!("\n{}", " ".repeat(indent)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_aligned_and_empty_columns_disappear() {
        let mut columns =
            Columns::new(&[("name", Side::Left), ("note", Side::Left), ("rows", Side::Right)]);
        columns.row(["a".to_owned(), String::new(), "1".to_owned()]);
        columns.row(["orders".to_owned(), String::new(), "12,345".to_owned()]);
        assert_eq!(columns.render(80), "name      rows\na            1\norders  12,345\n");
    }

    #[test]
    fn wide_text_is_cut_to_fit() {
        let mut columns = Columns::new(&[("name", Side::Left), ("rows", Side::Right)]).indented(2);
        columns.row(["x".repeat(90), "123,456,789".to_owned()]);
        let text = columns.render(40);
        assert!(text.lines().all(|line| line.chars().count() <= 40), "{text}");
        assert!(text.contains("…  123,456,789"), "{text}");
    }

    #[test]
    fn long_lines_are_wrapped() {
        assert_eq!(wrap("one two three four", 9, 2), "one two\n  three\n  four");
    }
}
