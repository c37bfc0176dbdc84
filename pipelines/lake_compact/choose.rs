//! Chooses which files are worth rewriting: the cost should be that of what has to
//! be done. Files that a compaction left in the wanted order carry it in the log;
//! where they are large enough and no newer file reaches into them, they stay.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use highwater::ledger::LoggedFile;
use serde_json::Value;

use super::layout::Layout;

/// Partition column to value, in Delta's serialised form.
pub(super) type Partition = BTreeMap<String, Option<String>>;

/// Files whose rows are put in order together.
#[derive(Debug, Clone)]
pub(super) struct Section {
    /// The partition that they are in.
    pub(super) partition: Partition,
    /// The files.
    pub(super) files: Vec<LoggedFile>,
}

impl Section {
    /// Bytes of its files.
    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

/// What is rewritten.
#[derive(Debug, Clone, Default)]
pub(super) struct Choice {
    /// In the order in which they come out.
    pub(super) sections: Vec<Section>,
    /// How many files may hold one value of the leading column, at the worst.
    pub(super) overlap: u64,
}

/// Chooses among the files of a table.
pub(super) fn choose(files: &[LoggedFile], layout: &Layout) -> Choice {
    let mut partitions: BTreeMap<Partition, Vec<LoggedFile>> = BTreeMap::new();
    for file in files {
        let partition = match layout.partition_by {
            // All partitions become one, or others.
            Some(_) => Partition::new(),
            None => file.partition.clone(),
        };
        partitions.entry(partition).or_default().push(file.clone());
    }
    let mut choice = Choice::default();
    for (partition, files) in partitions {
        choice.overlap = choice.overlap.max(overlap(&files, layout));
        for files in groups(files, layout) {
            choice.sections.push(Section {
                partition: partition.clone(),
                files,
            });
        }
    }
    choice
}

fn groups(files: Vec<LoggedFile>, layout: &Layout) -> Vec<Vec<LoggedFile>> {
    if layout.joins() {
        return join(files, layout);
    }
    if layout.partition_by.is_some() {
        return vec![files];
    }
    match layout.lead() {
        Some(lead) => stretches(files, &lead.name, layout),
        None => z_ordered(files, layout),
    }
}

/// Small files, as many together as make one of the wanted size.
fn join(files: Vec<LoggedFile>, layout: &Layout) -> Vec<Vec<LoggedFile>> {
    let anew = layout.partition_by.is_some();
    let mut groups = vec![Vec::new()];
    let mut bytes = 0;
    for file in files {
        if file.bytes >= layout.small_bytes && !anew {
            continue;
        }
        if bytes >= layout.target_bytes {
            groups.push(Vec::new());
            bytes = 0;
        }
        bytes += file.bytes;
        if let Some(group) = groups.last_mut() {
            group.push(file);
        }
    }
    groups.retain(|group| group.len() > 1 || (anew && !group.is_empty()));
    groups
}

/// What is not in the order yet, and what is small. Where the newest rows are
/// wanted, an older row may be anywhere.
fn z_ordered(files: Vec<LoggedFile>, layout: &Layout) -> Vec<Vec<LoggedFile>> {
    let wanted = layout.text();
    let fine = |file: &LoggedFile| Ordered::of(file, &wanted).is_some();
    let new = files.iter().any(|file| !fine(file));
    let all = new && layout.order.newest.is_some();
    let small = |file: &LoggedFile| file.bytes < layout.small_bytes;
    let group: Vec<LoggedFile> = files
        .into_iter()
        .filter(|file| all || !fine(file) || small(file))
        .collect();
    let gains = new || fewer(&group, layout);
    if gains { vec![group] } else { Vec::new() }
}

/// Whether files of the wanted size would be fewer. What one compaction left small,
/// one file for each of its workers, the next one would leave again; so it must be
/// many times fewer, unless the files are of several.
fn fewer(files: &[LoggedFile], layout: &Layout) -> bool {
    let bytes: u64 = files.iter().map(|file| file.bytes).sum();
    let (now, after) = (
        files.len() as u64,
        bytes.div_ceil(layout.target_bytes.max(1)),
    );
    let wanted = layout.text();
    let mut runs = files
        .iter()
        .map(|file| Ordered::of(file, &wanted).map(|ordered| ordered.run));
    let first = runs.next();
    let of_one = runs.all(|run| Some(run) == first);
    now > if of_one { after * MANY_TIMES } else { after }
}

/// See [`fewer`].
const MANY_TIMES: u64 = 4;

/// A file's place in the order that it was left in.
struct Ordered<'a> {
    /// The compaction: what one wrote does not overlap.
    run: &'a str,
}

impl<'a> Ordered<'a> {
    fn of(file: &'a LoggedFile, wanted: &str) -> Option<Self> {
        let (order, run) = file.order.as_deref()?.rsplit_once(" #")?;
        (order == wanted).then_some(Self { run })
    }
}

/// Files that reach into each other, and small ones beside them.
fn stretches(files: Vec<LoggedFile>, lead: &str, layout: &Layout) -> Vec<Vec<LoggedFile>> {
    let wanted = layout.text();
    let mut spans: Vec<(Span, LoggedFile)> = files
        .into_iter()
        .map(|file| (Span::of(&file, lead), file))
        .collect();
    spans.sort_by(|(a, _), (b, _)| a.from.compare(&b.from));
    let mut knots: Vec<Knot> = Vec::new();
    for (span, file) in spans {
        let run = Ordered::of(&file, &wanted).map(|ordered| ordered.run.to_owned());
        let mut knot = Knot {
            needs: run.is_none(),
            ends: vec![(run, span.to.clone())],
            files: vec![file],
        };
        while let Some(before) = knots.pop_if(|before| before.reaches(&knot, &span, layout)) {
            knot = before.tied(knot);
        }
        knots.push(knot);
    }
    let mut groups = Vec::new();
    let mut open: Vec<Knot> = Vec::new();
    for knot in knots {
        if knot.needs || knot.bytes() < layout.small_bytes {
            open.push(knot);
        } else {
            groups.extend(gain(std::mem::take(&mut open), layout));
        }
    }
    groups.extend(gain(open, layout));
    groups
}

/// The files of neighbours, if rewriting them gains anything.
fn gain(knots: Vec<Knot>, layout: &Layout) -> Option<Vec<LoggedFile>> {
    let needs = knots.iter().any(|knot| knot.needs);
    let files: Vec<LoggedFile> = knots.into_iter().flat_map(|knot| knot.files).collect();
    (needs || fewer(&files, layout))
        .then_some(files)
        .filter(|files| !files.is_empty())
}

/// Files that overlap.
struct Knot {
    files: Vec<LoggedFile>,
    /// Whether they are not in order yet.
    needs: bool,
    /// Where each of them ends, with the compaction that wrote it.
    ends: Vec<(Option<String>, End)>,
}

impl Knot {
    fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Whether a file of this one ends after `later`, which begins with `span`.
    fn reaches(&self, later: &Self, span: &Span, layout: &Layout) -> bool {
        self.ends.iter().any(|(run, end)| {
            let same = run.is_some() && later.ends.iter().all(|(other, _)| other == run);
            // Of rows with the same key one may go: they must meet.
            let meets = layout.order.newest.is_some();
            match end.compare(&span.from) {
                Ordering::Greater => !same,
                Ordering::Equal => meets && !same,
                Ordering::Less => false,
            }
        })
    }

    fn tied(mut self, later: Self) -> Self {
        self.files.extend(later.files);
        self.ends.extend(later.ends);
        self.needs = true;
        self
    }
}

/// An end of a file's span of values. NULL counts as greater than all values.
#[derive(Debug, Clone)]
enum End {
    Least,
    At(Value),
    Greatest,
}

impl End {
    fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Least, Self::Least) | (Self::Greatest, Self::Greatest) => Ordering::Equal,
            (Self::Least, _) | (_, Self::Greatest) => Ordering::Less,
            (_, Self::Least) | (Self::Greatest, _) => Ordering::Greater,
            (Self::At(one), Self::At(two)) => match (one, two) {
                (Value::String(one), Value::String(two)) => one.cmp(two),
                _ => match (one.as_i64(), two.as_i64()) {
                    (Some(one), Some(two)) => one.cmp(&two),
                    _ => {
                        let number = |value: &Value| value.as_f64().unwrap_or_default();
                        number(one).total_cmp(&number(two))
                    }
                },
            },
        }
    }
}

/// The values of the leading column in one file, as far as the log tells.
struct Span {
    from: End,
    to: End,
}

impl Span {
    fn of(file: &LoggedFile, lead: &str) -> Self {
        let stats = file.stats.as_ref();
        let of = |bounds: &str| {
            let value = stats.and_then(|stats| stats.get(bounds)?.get(lead));
            value
                .filter(|value| value.is_string() || value.is_number())
                .cloned()
        };
        let nulls = of("nullCount").and_then(|count| count.as_u64());
        let from = of("minValues").map_or(End::Least, End::At);
        let to = match nulls {
            Some(0) => of("maxValues").map_or(End::Greatest, End::At),
            _ => End::Greatest,
        };
        Self { from, to }
    }
}

/// How many files may hold one value of the leading column, at the worst.
fn overlap(files: &[LoggedFile], layout: &Layout) -> u64 {
    let Some(lead) = layout.lead() else {
        return files.len() as u64;
    };
    let mut ends: Vec<(End, bool)> = Vec::new();
    for file in files {
        let Span { from, to } = Span::of(file, &lead.name);
        ends.extend([(from, false), (to, true)]);
    }
    // Beginnings first: a value that two files share is in both.
    ends.sort_by(|(a, a_ends), (b, b_ends)| a.compare(b).then(a_ends.cmp(b_ends)));
    let (mut now, mut most) = (0_u64, 0);
    for (_, ends) in ends {
        now = if ends { now.saturating_sub(1) } else { now + 1 };
        most = most.max(now);
    }
    most
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use highwater::run::config::CompactConfig;
    use serde_json::json;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn layout(sort: &[&str]) -> Layout {
        let config = CompactConfig {
            sort_by: sort.iter().map(|&column| column.to_owned()).collect(),
            ..CompactConfig::default()
        };
        Layout::new(&config, &[]).unwrap()
    }

    fn file(name: &str, mib: u64, from: i64, to: i64, run: Option<&str>) -> LoggedFile {
        LoggedFile {
            path: name.to_owned(),
            bytes: mib * MIB,
            sha256: None,
            stats: Some(json!({
                "minValues": { "id": from }, "maxValues": { "id": to }, "nullCount": { "id": 0 },
            })),
            partition: Partition::new(),
            order: run.map(|run| format!("sorted by id #{run}")),
            deleted_rows: 0,
        }
    }

    fn chosen(files: &[LoggedFile], layout: &Layout) -> Vec<Vec<String>> {
        let sections = choose(files, layout).sections.into_iter();
        let names = |section: Section| section.files.into_iter().map(|file| file.path).collect();
        sections.map(names).collect()
    }

    #[test]
    fn files_in_order_are_left_alone() {
        let done = [
            file("a", 128, 0, 100, Some("r")),
            file("b", 30, 101, 120, Some("r")),
            file("c", 128, 120, 200, Some("r")),
        ];
        assert!(chosen(&done, &layout(&["id"])).is_empty());
        assert_eq!(chosen(&done, &layout(&["id desc"])).len(), 1);
    }

    #[test]
    fn a_new_file_takes_only_those_that_it_reaches_into() {
        let files = [
            file("a", 128, 0, 100, Some("r")),
            file("b", 128, 101, 200, Some("r")),
            file("c", 128, 201, 300, Some("r")),
            file("new", 1, 150, 160, None),
            file("last", 1, 400, 410, None),
        ];
        assert_eq!(
            chosen(&files, &layout(&["id"])),
            [vec!["b", "new"], vec!["last"]]
        );
    }

    #[test]
    fn small_neighbours_are_joined() {
        let files = [
            file("a", 20, 0, 100, Some("r")),
            file("b", 20, 101, 200, Some("s")),
        ];
        assert_eq!(chosen(&files, &layout(&["id"])), [["a", "b"]]);
        let files = [files[0].clone(), file("c", 128, 101, 200, Some("s"))];
        assert!(chosen(&files, &layout(&["id"])).is_empty());
    }

    #[test]
    fn without_statistics_a_file_may_hold_anything() {
        let mut unknown = file("x", 1, 0, 0, None);
        unknown.stats = None;
        let files = [
            file("a", 128, 0, 100, Some("r")),
            file("b", 128, 101, 200, Some("r")),
            unknown,
        ];
        let chosen = chosen(&files, &layout(&["id"]));
        assert_eq!(chosen.iter().map(Vec::len).collect::<Vec<_>>(), [3]);
    }

    #[test]
    fn joining_takes_small_files_of_each_partition() {
        let mut files: Vec<_> = (0..5)
            .map(|n| file(&n.to_string(), 40, 0, 1, None))
            .collect();
        files.push(file("large", 100, 0, 1, None));
        let mut other = file("other", 1, 0, 1, None);
        other.partition.insert("p".to_owned(), Some("1".to_owned()));
        files.push(other);
        assert_eq!(chosen(&files, &layout(&[])), [vec!["0", "1", "2", "3"]]);
        assert_eq!(choose(&files, &layout(&["id"])).overlap, 6);
    }
}
