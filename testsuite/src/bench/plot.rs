//! The figures as a picture: for each workload, how many times as long as the bare processor calque and QEMU take.

use super::results::{BARE, CALQUE, Results, Row};
use std::fmt::Write;

const ROW: f64 = 17.0;
const LEFT: f64 = 150.0;
const WIDTH: f64 = 900.0;
const TOP: f64 = 58.0;
/// Right end of the axis.
const MOST: f64 = 200.0;
/// Left end.
const LEAST: f64 = 0.5;

fn x(ratio: f64) -> f64 {
    let share = (ratio.clamp(LEAST, MOST) / LEAST).ln() / (MOST / LEAST).ln();
    LEFT + share * (WIDTH - LEFT - 70.0)
}

/// An SVG with a dot for each machine and a line between the dots, on a logarithmic axis.
pub fn svg(results: &Results) -> String {
    let machines: Vec<&str> =
        std::iter::once(CALQUE).chain(results.qemus.iter().map(String::as_str)).collect();
    let colours = ["#c0392b", "#2c6fbb", "#7f8c8d", "#8e6bb0"];
    let rows: Vec<&Row> = results.rows.iter().filter(|r| r.has(BARE) && r.has(CALQUE)).collect();
    let height = TOP + rows.len() as f64 * ROW + 30.0;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>\n\
         <text x=\"10\" y=\"20\" font-size=\"14\">Time as a multiple of the bare processor's (logarithmic; left is better)</text>\n"
    );
    for (n, (machine, colour)) in machines.iter().zip(colours).enumerate() {
        let at = LEFT + n as f64 * 110.0;
        let _ = writeln!(
            text,
            "<circle cx=\"{at}\" cy=\"34\" r=\"4.5\" fill=\"{colour}\"/><text x=\"{}\" y=\"38\">{machine}</text>",
            at + 9.0
        );
    }
    for tick in [0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0] {
        let (at, colour) = (x(tick), if tick == 1.0 { "#444" } else { "#ddd" });
        let _ = writeln!(
            text,
            "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{}\" y2=\"{:.0}\" stroke=\"{colour}\"/><text x=\"{at:.1}\" y=\"{:.0}\" text-anchor=\"middle\" fill=\"#666\">{tick}</text>",
            TOP - 8.0,
            height - 22.0,
            height - 8.0
        );
    }
    for (n, row) in rows.iter().enumerate() {
        let y = TOP + n as f64 * ROW + 4.0;
        let _ = writeln!(
            text,
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 8.0,
            y + 4.0,
            row.name
        );
        let places: Vec<_> = machines.iter().map(|m| row.ratio(m, BARE)).collect();
        let known = places.iter().flatten().copied();
        let (low, high) = known.fold((f64::MAX, 0.0f64), |(a, b), r| (a.min(r), b.max(r)));
        let _ = writeln!(
            text,
            "<line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#bbb\" stroke-width=\"2\"/>",
            x(low),
            x(high)
        );
        // calque last, on top.
        for (place, colour) in places.iter().zip(colours).rev() {
            if let Some(ratio) = place {
                let _ = writeln!(
                    text,
                    "<circle cx=\"{:.1}\" cy=\"{y:.1}\" r=\"4.5\" fill=\"{colour}\"><title>{ratio:.2}</title></circle>",
                    x(*ratio)
                );
            }
        }
    }
    text.push_str("</svg>\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::workloads::Kind;

    #[test]
    fn a_row_with_figures_is_drawn() {
        let mut row = Row::new("sieve", Kind::Integer);
        row.seconds.insert(BARE.into(), vec![1.0]);
        row.seconds.insert(CALQUE.into(), vec![2.0]);
        let results = Results { rows: vec![row, Row::new("missing", Kind::Integer)], ..Results::default() };
        let text = svg(&results);
        assert!(text.contains("sieve") && text.contains("<title>2.00</title>") && !text.contains("missing"));
        assert!(text.ends_with("</svg>\n"));
    }
}
