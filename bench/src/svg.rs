//! A drawing of a table: one bar a subject up to its median, with a line from its minimum to its 99th percentile.

use crate::table::{Cell, Outcome, Row, Samples, Table};

const WIDTH: f64 = 900.0;
const NAMES: f64 = 150.0;
const BARS: f64 = 560.0;
const LINE: f64 = 20.0;
const COLOURS: [&str; 6] = [
    "#2a9d55", "#4477aa", "#cc7733", "#997799", "#bb9933", "#777777",
];

/// The drawing as a document of its own.
pub fn draw(table: &Table) -> String {
    let lines: usize = table.rows.iter().map(|row| row.cells.len() + 2).sum();
    let height = LINE * (2.0 + approximate(lines));
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    text(&mut out, 10.0, LINE, &table.title, "font-size=\"16\"");
    let mut y = 2.0 * LINE;
    for row in &table.rows {
        text(
            &mut out,
            10.0,
            y + LINE - 6.0,
            &format!("{} {}", row.label, row.unit.symbol()),
            "font-weight=\"bold\"",
        );
        y += LINE;
        let scale = BARS / widest(row);
        for (cell, colour) in row.cells.iter().zip(COLOURS.iter().cycle()) {
            draw_cell(&mut out, cell, y, scale, colour);
            y += LINE;
        }
        y += LINE;
    }
    out.push_str("</svg>\n");
    out
}

fn draw_cell(out: &mut String, cell: &Cell, y: f64, scale: f64, colour: &str) {
    text(out, 20.0, y + LINE - 6.0, &cell.subject, "");
    match &cell.outcome {
        Outcome::Missing(reason) => text(out, NAMES, y + LINE - 6.0, reason, "fill=\"#999999\""),
        Outcome::Measured(samples) => {
            let (bar, from, to) = (
                samples.p50() * scale,
                NAMES + samples.min() * scale,
                NAMES + samples.p99() * scale,
            );
            let middle = y + LINE / 2.0;
            out.push_str(&format!(
                "<rect x=\"{NAMES}\" y=\"{}\" width=\"{bar:.1}\" height=\"{}\" fill=\"{colour}\"/>\
                 <line x1=\"{from:.1}\" x2=\"{to:.1}\" y1=\"{middle}\" y2=\"{middle}\" stroke=\"black\"/>\n",
                y + 3.0,
                LINE - 6.0
            ));
            text(
                out,
                NAMES + BARS + 10.0,
                y + LINE - 6.0,
                &format!(
                    "{:.2} (min {:.2}, p99 {:.2})",
                    samples.p50(),
                    samples.min(),
                    samples.p99()
                ),
                "",
            );
        }
    }
}

/// The largest 99th percentile of a row, what the full width stands for.
fn widest(row: &Row) -> f64 {
    row.cells
        .iter()
        .filter_map(|cell| row.samples(&cell.subject))
        .map(Samples::p99)
        .fold(f64::MIN_POSITIVE, f64::max)
}

fn text(out: &mut String, x: f64, y: f64, content: &str, attributes: &str) {
    let content = content.replace('&', "&amp;").replace('<', "&lt;");
    out.push_str(&format!(
        "<text x=\"{x}\" y=\"{y}\" {attributes}>{content}</text>\n"
    ));
}

#[allow(clippy::cast_precision_loss, reason = "a count of lines")]
fn approximate(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Unit;

    #[test]
    fn reasons_and_figures_are_drawn_and_escaped() {
        let mut row = Row::new("run", "run", Unit::Milliseconds);
        row.measured("a", vec![1.0, 2.0]);
        row.missing("b", "<gone>");
        let table = Table {
            suite: "x",
            title: "x & y".to_owned(),
            notes: Vec::new(),
            rows: vec![row],
        };
        let drawing = draw(&table);
        assert!(
            drawing.contains("x &amp; y")
                && drawing.contains("&lt;gone>")
                && drawing.contains("width=\"280.0\"")
        );
    }
}
