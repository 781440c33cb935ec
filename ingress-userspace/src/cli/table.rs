//! Tables of text for a terminal.

/// Columns of a terminal that nobody has widened.
pub(super) const COLUMNS: usize = 80;

/// Renders rows under their headings. Where a width is given, the widest columns are cut until the table
/// fits it.
pub(super) fn render(headings: &[&str], rows: &[Vec<String>], width: Option<usize>) -> String {
    let mut widths: Vec<usize> = headings.iter().map(|heading| length(heading)).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = length(cell).max(*width);
        }
    }
    if let Some(width) = width {
        shrink(&mut widths, headings, width);
    }
    let headings: Vec<String> = headings
        .iter()
        .map(|heading| (*heading).to_owned())
        .collect();
    let lines = std::iter::once(&headings)
        .chain(rows)
        .map(|row| line(row, &widths));
    lines.collect()
}

fn line(row: &[String], widths: &[usize]) -> String {
    let cells = row.iter().zip(widths).map(|(cell, width)| {
        let cell = cut(cell, *width);
        let padding = width.saturating_sub(length(&cell));
        cell + &" ".repeat(padding + GAP)
    });
    let line: String = cells.collect();
    line.trim_end().to_owned() + "\n"
}

/// Takes from the widest column, one by one, but never so much that a heading is cut.
fn shrink(widths: &mut [usize], headings: &[&str], width: usize) {
    let gaps = GAP * widths.len().saturating_sub(1);
    while widths.iter().sum::<usize>() + gaps > width {
        let shrinkable =
            (0..widths.len()).filter(|at| widths[*at] > length(headings[*at]).max(CELL_MIN));
        let Some(widest) = shrinkable.max_by_key(|at| widths[*at]) else {
            return;
        };
        widths[widest] -= 1;
    }
}

fn cut(cell: &str, width: usize) -> String {
    if length(cell) <= width {
        return cell.to_owned();
    }
    let kept: String = cell.chars().take(width.saturating_sub(1)).collect();
    kept + "…"
}

fn length(text: &str) -> usize {
    text.chars().count()
}

/// Spaces between columns.
const GAP: usize = 2;
/// Characters that a cell keeps.
const CELL_MIN: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(cells: &[&[&str]]) -> Vec<Vec<String>> {
        let row = |row: &&[&str]| row.iter().map(|cell| (*cell).to_owned()).collect();
        cells.iter().map(row).collect()
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let text = render(
            &["HOST", "TO"],
            &rows(&[&["a.test", "b"], &["c", "dd"]]),
            None,
        );
        assert_eq!(text, "HOST    TO\na.test  b\nc       dd\n");
    }

    #[test]
    fn a_table_fits_the_width_if_its_headings_do() {
        let long = "x".repeat(200);
        let rows = rows(&[&[&long, "short", &long], &["a", "b", "c"]]);
        let text = render(&["HOST", "PATH", "TO"], &rows, Some(80));
        assert!(text.lines().all(|line| length(line) <= 80), "{text}");
        assert!(text.contains("…  short"), "{text}");
    }
}
