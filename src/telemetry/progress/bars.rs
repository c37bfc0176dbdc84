//! Progress as bars: one for each table that is being read, and a total below.

use std::collections::BTreeMap;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle as Style};

use super::estimate::Estimate;
use super::lines::pace;
use super::{Snapshot, TableView};
use crate::telemetry::units;

/// More bars than this would push everything else off the screen.
const MOST_BARS: usize = 8;
/// Columns for a table's name.
const NAME_WIDTH: usize = 22;
/// Bars count in thousandths, so that sizes never overflow them.
const STEPS: u64 = 1_000;

pub(super) struct Bars {
    screen: MultiProgress,
    total: Option<ProgressBar>,
    tables: BTreeMap<usize, ProgressBar>,
}

impl Bars {
    pub(super) fn new(screen: MultiProgress) -> Self {
        Self {
            screen,
            total: None,
            tables: BTreeMap::new(),
        }
    }

    pub(super) fn draw(&mut self, now: &Snapshot, estimate: &Estimate) {
        let active: Vec<(usize, &TableView)> = now
            .tables
            .iter()
            .enumerate()
            .filter(|(_, table)| !table.done && (table.rows > 0 || !table.state.is_empty()))
            .take(MOST_BARS)
            .collect();
        self.remove_all_but(&active);
        self.draw_total(now, estimate);
        for (position, table) in active {
            self.draw_table(position, table);
        }
    }

    pub(super) fn clear(&mut self) {
        self.remove_all_but(&[]);
        if let Some(total) = self.total.take() {
            total.finish_and_clear();
            self.screen.remove(&total);
        }
    }

    fn remove_all_but(&mut self, active: &[(usize, &TableView)]) {
        let screen = &self.screen;
        self.tables.retain(|position, bar| {
            let keep = active.iter().any(|(active, _)| active == position);
            if !keep {
                bar.finish_and_clear();
                screen.remove(bar);
            }
            keep
        });
    }

    fn draw_table(&mut self, position: usize, table: &TableView) {
        let total = self.total.as_ref();
        let screen = &self.screen;
        let bar = self.tables.entry(position).or_insert_with(|| {
            let bar = ProgressBar::new(STEPS);
            match total {
                Some(total) => screen.insert_before(total, bar),
                None => screen.add(bar),
            }
        });
        let share =
            (table.estimated_bytes > 0).then(|| table.read as f64 / table.estimated_bytes as f64);
        show(
            bar,
            &shortened(&table.name, NAME_WIDTH),
            share,
            table_text(table),
        );
    }

    fn draw_total(&mut self, now: &Snapshot, estimate: &Estimate) {
        if now.tables.is_empty() && now.told.is_none() {
            return;
        }
        let screen = &self.screen;
        let bar = self
            .total
            .get_or_insert_with(|| screen.add(ProgressBar::new(STEPS)));
        if let Some(told) = &now.told {
            return show(bar, "", None, told.text.clone());
        }
        let name = format!(
            "{} of {}",
            now.done(),
            units::counted(now.tables.len() as u64, "table")
        );
        show(
            bar,
            &shortened(&name, NAME_WIDTH),
            estimate.share(),
            total_text(now, estimate),
        );
    }
}

fn show(bar: &ProgressBar, name: &str, share: Option<f64>, text: String) {
    // A bar without an end would be a lie; its place stays empty.
    let template = match share {
        Some(_) => "{prefix:22} {bar:20.cyan/dim} {wide_msg}",
        None => "{prefix:22} {spinner:20.cyan} {wide_msg}",
    };
    if let Ok(style) = Style::with_template(template) {
        bar.set_style(
            style
                .progress_chars("━━─")
                .tick_strings(&["·", "··", "···", "··", "·", " "]),
        );
    }
    bar.set_prefix(name.to_owned());
    match share {
        Some(share) => bar.set_position(units::whole(share * STEPS as f64).min(STEPS - 1)),
        None => bar.tick(),
    }
    bar.set_message(text);
}

fn table_text(table: &TableView) -> String {
    let numbers = format!(
        "{} · {} → {}",
        units::counted(table.rows, "row"),
        units::bytes(table.read),
        units::bytes(table.written)
    );
    if table.state.is_empty() {
        numbers
    } else {
        format!("{numbers} · {}", table.state)
    }
}

fn total_text(now: &Snapshot, estimate: &Estimate) -> String {
    let mut parts = vec![
        units::counted(now.sum(|table| table.rows), "row"),
        format!(
            "{} → {}",
            units::bytes(now.sum(|table| table.read)),
            units::bytes(now.sum(|table| table.written))
        ),
    ];
    parts.extend(pace(estimate));
    parts.join(" · ")
}

/// A name cut in its middle, so that schema and end stay readable.
fn shortened(name: &str, width: usize) -> String {
    let letters: Vec<char> = name.chars().collect();
    if letters.len() <= width {
        return name.to_owned();
    }
    let head = (width - 1) / 2;
    let tail = width - 1 - head;
    let start: String = letters.iter().take(head).collect();
    let end: String = letters.iter().skip(letters.len() - tail).collect();
    format!("{start}…{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_short_enough_for_a_terminal() {
        let table = TableView {
            rows: 123_456_789,
            read: 999 << 30,
            written: 500 << 30,
            state: "committing".to_owned(),
            ..Default::default()
        };
        let text = table_text(&table);
        assert_eq!(text, "123,456,789 rows · 999 GiB → 500 GiB · committing");
        assert!(NAME_WIDTH + 1 + 20 + 1 + text.chars().count() <= 100);
    }

    #[test]
    fn long_names_keep_both_ends() {
        assert_eq!(shortened("orders", 22), "orders");
        let short = shortened("warehouse.order_lines_of_last_year", 22);
        assert_eq!(short, "warehouse.…f_last_year");
        assert_eq!(short.chars().count(), 22);
    }
}
