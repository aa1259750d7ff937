//! Columns as podman prints them: two spaces between, and no column but the last
//! narrower than twelve (Go's tabwriter with minwidth 12, padding 2).

use crate::text::escape;

const MIN_WIDTH: usize = 12;
const PADDING: usize = 2;

/// Rows of cells; the first is usually the heading. Cells are escaped for a terminal.
#[derive(Default)]
pub struct Table {
    /// All cells, one after the other: a table may have many.
    text: String,
    /// Where in the text each cell ends.
    cells: Vec<usize>,
    /// How many cells there are with those of each row.
    rows: Vec<usize>,
}

impl Table {
    /// A table that begins with a heading.
    pub fn with_heading<C: AsRef<str>>(cells: impl IntoIterator<Item = C>) -> Table {
        let mut table = Table::default();
        table.row(cells);
        table
    }

    /// Adds a row; rows may be shorter than others.
    pub fn row<C: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = C>) {
        for cell in cells {
            self.text.push_str(&escape::line(cell.as_ref()));
            self.cells.push(self.text.len());
        }
        self.rows.push(self.cells.len());
    }

    /// The table as text, each row with its newline; nothing for no rows.
    pub fn render(&self) -> String {
        let mut widths: Vec<usize> = Vec::new();
        for row in self.rows() {
            let last = row.len().saturating_sub(1);
            widths.resize(widths.len().max(last), MIN_WIDTH);
            // The last cell of a row has nothing behind it and widens no column.
            for (cell, widest) in row.zip(&mut widths).take(last) {
                *widest = (*widest).max(width(cell) + PADDING);
            }
        }
        let mut text = String::new();
        for row in self.rows() {
            let last = row.len().saturating_sub(1);
            for (index, cell) in row.enumerate() {
                text.push_str(cell);
                if index < last {
                    let spaces = widths[index] - width(cell);
                    text.extend(std::iter::repeat_n(' ', spaces));
                }
            }
            text.push('\n');
        }
        text
    }

    fn rows(&self) -> impl Iterator<Item = impl ExactSizeIterator<Item = &str>> {
        let starts = [0].into_iter().chain(self.rows.iter().copied());
        starts.zip(&self.rows).map(|(from, to)| {
            (from..*to).map(|index| {
                let start = index.checked_sub(1).map_or(0, |before| self.cells[before]);
                &self.text[start..self.cells[index]]
            })
        })
    }
}

/// How many columns of a terminal a text takes.
pub fn width(text: &str) -> usize {
    if text.is_ascii() {
        return text.len();
    }
    text.chars().map(char_width).sum()
}

/// Combining marks take none, East Asian wide characters and emoji two: the blocks
/// of Unicode that matter in names, not the whole table of UAX #11.
fn char_width(c: char) -> usize {
    match u32::from(c) {
        0x300..0x370
        | 0x483..0x48a
        | 0x591..0x5be
        | 0x200b..0x2010
        | 0x20d0..0x2100
        | 0xfe00..0xfe10
        | 0xfe20..0xfe30 => 0,
        0x1100..0x1160
        | 0x2e80..0x303f
        | 0x3041..0xa4d0
        | 0xac00..0xd7a4
        | 0xf900..0xfb00
        | 0xfe30..0xfe70
        | 0xff00..0xff61
        | 0xffe0..0xffe7
        | 0x1f300..0x1f650
        | 0x1f680..0x1f700
        | 0x1f900..0x1fa00
        | 0x2_0000..0x3_fffe => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_podmans() {
        let mut table = Table::with_heading(["CONTAINER ID", "IMAGE", "COMMAND", "NAMES"]);
        table.row([
            "3f2a91c0d7be",
            "docker.io/library/busybox:latest",
            "sh",
            "web",
        ]);
        table.row(["0123456789ab", "a", "", "db"]);
        assert_eq!(
            table.render(),
            "CONTAINER ID  IMAGE                             COMMAND     NAMES\n\
             3f2a91c0d7be  docker.io/library/busybox:latest  sh          web\n\
             0123456789ab  a                                             db\n"
        );
    }

    #[test]
    fn wide_and_hostile_cells_do_not_move_the_columns() {
        let mut table = Table::default();
        table.row(["日本語", "x"]);
        table.row(["e\u{301}te\u{301}", "x"]);
        table.row(["a\x1b[31m\nb long", "x"]);
        assert_eq!(
            table.render(),
            "日本語             x\ne\u{301}te\u{301}                x\na\\x1b[31m\\nb long  x\n"
        );
    }

    #[test]
    fn a_long_last_cell_widens_nothing() {
        let mut table = Table::default();
        table.row(["a", "b", "c"]);
        table.row(["a", "a very long last cell"]);
        assert_eq!(
            table.render(),
            "a           b           c\na           a very long last cell\n"
        );
        assert_eq!(Table::default().render(), "");
    }
}
