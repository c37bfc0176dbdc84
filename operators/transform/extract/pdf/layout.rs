//! Lines to paragraphs and headings: by their distances, indents and sizes against
//! what most of the document is set in.

use super::super::Limits;
use super::super::text::TextWriter;
use super::glyphs::Line;

/// Larger than most of the text by this factor is a heading.
const HEADING_FACTOR: f64 = 1.09;
/// Longer ones are text that happens to be large.
const HEADING_CHARACTERS: usize = 200;
/// An indent of this many ems begins a paragraph.
const INDENT_EMS: f64 = 0.8;
/// Farther apart than usual by this factor begins a paragraph.
const DISTANCE_FACTOR: f64 = 1.25;

/// Writes `lines`, of a document of so many `pages`.
pub(super) fn write(lines: &[Line], pages: usize, limits: &Limits) -> TextWriter {
    let mut out = TextWriter::new(limits);
    let style = Style::of(lines);
    let mut page = 0;
    let mut at = 0;
    while let Some(line) = lines.get(at) {
        while page <= line.page {
            out.page();
            page += 1;
        }
        let (level, end) = match style.heading(lines, at) {
            Some((level, end)) => (Some(level), end),
            None => (None, style.paragraph_end(lines, at)),
        };
        match level {
            Some(level) => out.begin_heading(level),
            None => out.paragraph(),
        }
        write_joined(&mut out, &lines[at..end], &mut page);
        out.end_heading();
        at = end;
    }
    while page < pages {
        out.page();
        page += 1;
    }
    out
}

/// One paragraph: words that are divided at line ends become whole.
fn write_joined(out: &mut TextWriter, lines: &[Line], page: &mut usize) {
    for (at, line) in lines.iter().enumerate() {
        while *page <= line.page {
            out.page();
            *page += 1;
        }
        let next = lines.get(at + 1).map(|next| next.text.as_str());
        match next.and_then(|next| divided(&line.text, next)) {
            Some(start) => out.flow(start),
            None => {
                out.flow(&line.text);
                out.blank();
            }
        }
    }
}

/// The line without its hyphen, if a word goes on in the next.
fn divided<'l>(line: &'l str, next: &str) -> Option<&'l str> {
    let start = line.strip_suffix(['-', '\u{2010}', '\u{ad}'])?;
    let goes_on = start.chars().next_back()?.is_alphabetic() && next.chars().next()?.is_lowercase();
    goes_on.then_some(start)
}

/// What most of the document looks like.
struct Style {
    /// The size of the text, in points.
    body: f64,
    /// From baseline to baseline, in sizes.
    leading: f64,
    /// Sizes of headings, the largest first.
    headings: Vec<f64>,
}

impl Style {
    fn of(lines: &[Line]) -> Self {
        let body = most(lines.iter().map(|line| (line.size, line.weight)), 0.25).unwrap_or(10.0);
        let steps = lines.windows(2).filter_map(|pair| {
            let [above, below] = pair else { return None };
            let step = (below.baseline - above.baseline) / below.size.max(1.0);
            let beside = above.page == below.page && step > 0.7 && step < 3.0;
            (beside && same_size(above, below)).then_some((step, 1))
        });
        let leading = most(steps, 0.05).unwrap_or(1.2);
        let mut headings: Vec<f64> = Vec::new();
        for line in lines
            .iter()
            .filter(|line| is_large(line, body) && has_word(line))
        {
            if !headings.iter().any(|size| (size - line.size).abs() < 0.3) {
                headings.push(line.size);
            }
        }
        headings.sort_by(|a, b| b.total_cmp(a));
        Self {
            body,
            leading,
            headings,
        }
    }

    /// The level of the heading that begins at `at`, and the line after it.
    fn heading(&self, lines: &[Line], at: usize) -> Option<(u8, usize)> {
        let first = lines.get(at).filter(|line| is_large(line, self.body))?;
        let same = |pair: &&[Line]| match pair {
            [above, below] => {
                above.page == below.page
                    && same_size(above, below)
                    && !self.apart(above, below, 1.6)
            }
            _ => false,
        };
        let end = at + 1 + lines[at..].windows(2).take_while(same).count();
        let characters: usize = lines[at..end].iter().map(|line| line.weight).sum();
        if characters > HEADING_CHARACTERS || !lines[at..end].iter().any(has_word) {
            return None;
        }
        let rank = self
            .headings
            .iter()
            .position(|size| (size - first.size).abs() < 0.3)?;
        Some((u8::try_from(rank + 1).unwrap_or(6).min(6), end))
    }

    /// The line after the paragraph that begins at `at`.
    fn paragraph_end(&self, lines: &[Line], at: usize) -> usize {
        let mut end = at + 1;
        while let (Some(above), Some(below)) = (lines.get(end - 1), lines.get(end)) {
            if self.heading(lines, end).is_some() || self.divides(above, below) {
                break;
            }
            end += 1;
        }
        end
    }

    /// Whether a paragraph ends with `above` and another begins with `below`.
    fn divides(&self, above: &Line, below: &Line) -> bool {
        if above.turned != below.turned || !same_size(above, below) {
            return true;
        }
        let on_one_baseline = (above.baseline - below.baseline).abs() < 0.3 * below.size;
        if above.page == below.page && below.baseline > above.baseline && !on_one_baseline {
            let indented = below.left - above.left > INDENT_EMS * below.size
                && below.left - above.left < 6.0 * below.size;
            return indented || self.apart(above, below, DISTANCE_FACTOR);
        }
        // A column or a page ends here: the paragraph goes on unless a sentence ends.
        on_one_baseline || !goes_on(&above.text, &below.text)
    }

    fn apart(&self, above: &Line, below: &Line, factor: f64) -> bool {
        let step = below.baseline - above.baseline;
        step < 0.0 || step > factor * self.leading * below.size.max(above.size)
    }
}

fn goes_on(above: &str, below: &str) -> bool {
    let ends = above.ends_with(['.', '!', '?', ':', ';', '"', '”', ')']);
    !ends && below.chars().next().is_some_and(char::is_lowercase)
}

fn same_size(a: &Line, b: &Line) -> bool {
    (a.size - b.size).abs() < 0.1 * a.size.max(b.size)
}

/// Whether there is more to read in it than a number or a sign.
fn has_word(line: &Line) -> bool {
    line.text
        .chars()
        .filter(|character| character.is_alphabetic())
        .count()
        > 1
}

fn is_large(line: &Line, body: f64) -> bool {
    line.size > HEADING_FACTOR * body && !line.turned
}

/// The value that has the most weight, by bins of `width`.
fn most(values: impl Iterator<Item = (f64, usize)>, width: f64) -> Option<f64> {
    let mut bins = std::collections::BTreeMap::<i64, (f64, usize)>::new();
    for (value, weight) in values {
        let bin = bins.entry((value / width).round() as i64).or_default();
        bin.0 += value * weight as f64;
        bin.1 += weight;
    }
    let (sum, weight) = bins.into_values().max_by_key(|(_, weight)| *weight)?;
    (weight > 0).then(|| sum / weight as f64)
}

#[cfg(test)]
mod tests {
    use super::super::super::Format;
    use super::*;

    fn line(text: &str, left: f64, baseline: f64, size: f64) -> Line {
        Line {
            text: text.to_owned(),
            weight: text.chars().filter(|c| !c.is_whitespace()).count(),
            left,
            right: left + 100.0,
            baseline,
            size,
            ..Line::default()
        }
    }

    #[test]
    fn paragraphs_headings_and_divided_words() {
        let mut lines = vec![
            line("A Title", 50.0, 40.0, 18.0),
            line("Of two lines", 50.0, 60.0, 18.0),
            line("The first para-", 50.0, 100.0, 10.0),
            line("graph has a well-", 50.0, 112.0, 10.0),
            line("Known word.", 50.0, 124.0, 10.0),
            line("The second is indented", 65.0, 136.0, 10.0),
            line("and goes on", 50.0, 148.0, 10.0),
        ];
        let mut over = line("over the page.", 50.0, 20.0, 10.0);
        over.page = 1;
        lines.push(over);
        let document = write(&lines, 3, &Limits::default()).finish(Format::Pdf);
        assert_eq!(
            document.text,
            "A Title Of two lines\n\nThe first paragraph has a well- Known word.\n\n\
             The second is indented and goes on over the page."
        );
        assert_eq!(document.headings.len(), 1);
        assert_eq!(document.pages.len(), 3);
        assert!(document.text[document.pages[1]..].starts_with("over"));
    }
}
