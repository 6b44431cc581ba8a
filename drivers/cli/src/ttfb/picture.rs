//! The distributions as a picture: one panel per round trip, one curve per row, in SVG.

#![allow(clippy::cast_precision_loss, reason = "positions on paper")]

use std::fmt::Write as _;

use super::cell::Cell;
use super::row::Row;

const PANEL_WIDTH: f64 = 440.0;
const PANEL_HEIGHT: f64 = 260.0;
const MARGIN: f64 = 50.0;
const LEGEND_HEIGHT: f64 = 60.0;
const COLUMNS: usize = 2;

/// Told apart by people who see few colours, too: after Okabe and Ito.
const fn colour(row: Row) -> &'static str {
    match row {
        Row::Plain => "#000000",
        Row::SingleAtClient => "#e69f00",
        Row::SingleHalfWay => "#56b4e9",
        Row::Pair => "#d55e00",
        Row::TfoUpgrade => "#009e73",
        Row::KernelTfo => "#0072b2",
        Row::SynProxy => "#cc79a7",
    }
}

/// Draws cumulative distributions: which share of connections had its first byte after so many milliseconds.
pub(super) fn draw(cells: &[Cell]) -> String {
    let mut rtts: Vec<u32> = cells.iter().map(|cell| cell.rtt).collect();
    rtts.dedup();
    let rows = rtts.len().div_ceil(COLUMNS);
    let (width, height) = (PANEL_WIDTH * COLUMNS as f64, PANEL_HEIGHT * rows as f64 + LEGEND_HEIGHT);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
         font-size=\"11\">\n<rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    for (nth, rtt) in rtts.iter().enumerate() {
        let (left, top) = (PANEL_WIDTH * (nth % COLUMNS) as f64, PANEL_HEIGHT * (nth / COLUMNS) as f64);
        let of_panel: Vec<&Cell> = cells.iter().filter(|cell| cell.rtt == *rtt).collect();
        let _ = writeln!(svg, "<g transform=\"translate({left} {top})\">");
        panel(&mut svg, *rtt, &of_panel);
        svg.push_str("</g>\n");
    }
    legend(&mut svg, PANEL_HEIGHT * rows as f64);
    svg.push_str("</svg>\n");
    svg
}

/// Writing into a `String` does not fail, so what `write!` says is not looked at here.
fn panel(svg: &mut String, rtt: u32, cells: &[&Cell]) {
    let longest = f64::from(rtt) * 2.6;
    let (plot_width, plot_height) = (PANEL_WIDTH - MARGIN * 1.5, PANEL_HEIGHT - MARGIN * 1.7);
    let x = |ms: f64| MARGIN + ms.min(longest) / longest * plot_width;
    let y = |share: f64| MARGIN * 0.7 + (1.0 - share) * plot_height;
    let (left, right, floor, ceiling) = (x(0.0), x(longest), y(0.0), y(1.0));
    let _ = writeln!(
        svg,
        "<text x=\"{left}\" y=\"20\" font-size=\"13\">round trip {rtt} ms: share of connections with their first byte\
         </text>\n<path d=\"M{left} {ceiling}V{floor}H{right}\" fill=\"none\" stroke=\"#888888\"/>"
    );
    for share in [0.0, 0.5, 1.0] {
        let (at, percent) = (y(share) + 4.0, share * 100.0);
        let _ = writeln!(svg, "<text x=\"{}\" y=\"{at}\" text-anchor=\"end\">{percent} %</text>", left - 6.0);
    }
    for trips in [0.0, 0.5, 1.0, 1.5, 2.0, 2.5] {
        let (at, ms) = (x(trips * f64::from(rtt)), trips * f64::from(rtt));
        let _ = writeln!(
            svg,
            "<path d=\"M{at} {ceiling}V{floor}\" stroke=\"#dddddd\"/>\n\
             <text x=\"{at}\" y=\"{}\" text-anchor=\"middle\">{ms} ms</text>",
            floor + 16.0
        );
    }
    for cell in cells {
        let (first, colour) = (cell.first(), colour(cell.row));
        let mut path = String::new();
        for (nth, ms) in first.iter().enumerate() {
            let share = (nth + 1) as f64 / first.len() as f64;
            let command = if nth == 0 { format!("M{:.1} {floor:.1}", x(*ms)) } else { String::new() };
            let _ = write!(path, "{command}H{:.1}V{:.1}", x(*ms), y(share));
        }
        let predicted = x(cell.predicted());
        let _ = writeln!(
            svg,
            "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>\n\
             <path d=\"M{predicted} {floor}l-4 7h8z\" fill=\"{colour}\"/>"
        );
    }
}

fn legend(svg: &mut String, top: f64) {
    for (nth, row) in Row::ALL.into_iter().enumerate() {
        let (left, line) = (20.0 + 215.0 * (nth % 4) as f64, top + 16.0 + 18.0 * (nth / 4) as f64);
        let _ = writeln!(
            svg,
            "<path d=\"M{left} {line}h20\" stroke=\"{}\" stroke-width=\"3\"/><text x=\"{}\" y=\"{}\">{}</text>",
            colour(row),
            left + 26.0,
            line + 4.0,
            row.name()
        );
    }
    let _ = writeln!(svg, "<text x=\"20\" y=\"{}\">Triangles are what theory predicts.</text>", top + 52.0);
}
