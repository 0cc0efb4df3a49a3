//! Boxes: a centred header in capitals, right-aligned rows, no rules between them.

use super::{Out, Printed};

/// Draws a box.
pub(crate) fn draw(out: Out<'_>, header: &[&str], rows: &[Vec<String>]) -> Printed {
    let header: Vec<_> = header
        .iter()
        .map(|name| name.replace('_', " ").to_uppercase())
        .collect();
    let rows: Vec<Vec<&str>> = rows
        .iter()
        .map(|row| row.iter().map(|cell| cell.trim()).collect())
        .collect();
    let width_of = |text: &str| text.chars().count();
    let widths: Vec<usize> = (0..header.len())
        .map(|column| {
            let cells = rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| width_of(cell));
            cells
                .max()
                .unwrap_or_default()
                .max(width_of(&header[column]))
        })
        .collect();
    let rule = |left: &str, middle: &str, right: &str| {
        let lines: Vec<_> = widths.iter().map(|width| "─".repeat(width + 2)).collect();
        format!("{left}{}{right}", lines.join(middle))
    };
    let titles: Vec<_> = header
        .iter()
        .zip(&widths)
        .map(|(name, width)| format!(" {name:^width$} "))
        .collect();
    writeln!(out, "{}", rule("┌", "┬", "┐"))?;
    writeln!(out, "│{}│", titles.join("│"))?;
    if !rows.is_empty() {
        writeln!(out, "{}", rule("├", "┼", "┤"))?;
    }
    for row in &rows {
        let cells: Vec<_> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!(" {cell:>width$} "))
            .collect();
        writeln!(out, "│{}│", cells.join("│"))?;
    }
    Ok(writeln!(out, "{}", rule("└", "┴", "┘"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(rows: &[Vec<String>]) -> String {
        let mut out = Vec::new();
        assert!(draw(&mut out, &["id", "is_learner"], rows).is_ok());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn boxes_are_etcds() {
        assert_eq!(
            drawn(&[vec!["8e9e".into(), "false ".into()]]),
            "┌──────┬────────────┐\n\
             │  ID  │ IS LEARNER │\n\
             ├──────┼────────────┤\n\
             │ 8e9e │      false │\n\
             └──────┴────────────┘\n"
        );
    }

    #[test]
    fn a_box_without_rows_has_no_inner_rule() {
        assert_eq!(
            drawn(&[]),
            "┌────┬────────────┐\n│ ID │ IS LEARNER │\n└────┴────────────┘\n"
        );
    }
}
