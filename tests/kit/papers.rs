//! Documents, a lake of their chunks, and `paper-index`.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::lake::Running;
use super::objects::Side;
use super::oracle::ask;
use super::outcome::Outcome;
use super::place::Place;
use super::{Random, scratch};

/// The model's files, as `scripts/test` has put them there.
pub(crate) fn model_dir() -> PathBuf {
    match std::env::var_os("HIGHWATER_MODEL_DIR") {
        Some(folder) => folder.into(),
        None => super::root().join("target/models/all-MiniLM-L6-v2"),
    }
}

/// A folder with documents and a lake of their chunks.
pub(crate) struct Papers {
    home: tempfile::TempDir,
    source: Option<String>,
    settings: String,
    papers: String,
    instance: String,
    place: Option<Place>,
}

impl Papers {
    /// Without documents.
    pub(crate) fn new() -> Self {
        let home = scratch();
        std::fs::create_dir_all(home.path().join("docs")).unwrap();
        Self {
            home,
            source: None,
            settings: String::new(),
            papers: String::new(),
            instance: String::new(),
            place: None,
        }
    }

    /// With more lines at the top of the configuration.
    pub(crate) fn with(mut self, setting: &str) -> Self {
        self.settings += &format!("{setting}\n");
        self
    }

    /// With more lines for all instances.
    pub(crate) fn of_papers(mut self, setting: &str) -> Self {
        self.papers += &format!("{setting}\n");
        self
    }

    /// With a lake elsewhere than in its folder.
    pub(crate) fn into_lake(mut self, place: Place) -> Self {
        for (name, value) in place.options() {
            self.settings += &format!("store.{name} = {value:?}\n");
        }
        self.place = Some(place);
        self
    }

    /// With another source than the folder.
    pub(crate) fn from(mut self, source: &str) -> Self {
        self.source = Some(source.to_owned());
        self
    }

    /// With more lines for the instance.
    pub(crate) fn of_instance(mut self, setting: &str) -> Self {
        self.instance += &format!("{setting}\n");
        self
    }

    /// The folder of everything.
    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// The documents.
    pub(crate) fn docs(&self) -> Side {
        Side::Folder(self.home.path().join("docs"))
    }

    /// The table of the instance.
    pub(crate) fn table(&self) -> PathBuf {
        self.home.path().join("lake/docs")
    }

    /// The configuration, written.
    pub(crate) fn config(&self) -> PathBuf {
        self.config_into("lake")
    }

    /// The same with another lake.
    pub(crate) fn config_into(&self, lake: &str) -> PathBuf {
        let home = self.home.path().display();
        let folder = format!("file:{home}/docs");
        let source = self.source.as_ref().unwrap_or(&folder);
        let url = match &self.place {
            Some(place) => place.url(),
            None => format!("file:{home}/{lake}"),
        };
        let text = format!(
            "lake = \"{url}\"\nworkers = 2\n{}\n[papers]\nmodel_dir = \"{}\"\n\
             chunk_tokens = 64\noverlap_tokens = 8\n{}[instances.docs]\nsource = \"{source}\"\n{}",
            self.settings,
            model_dir().display(),
            self.papers,
            self.instance,
        );
        let file = self.home.path().join(format!("{lake}.toml"));
        std::fs::write(&file, text).unwrap();
        file
    }

    /// Starts a run.
    pub(crate) fn start(&self) -> Running {
        start("run", &self.config(), &[])
    }

    /// Runs to the end.
    #[track_caller]
    pub(crate) fn run(&self) -> Outcome {
        self.start().wait().cleanly()
    }

    /// What a reader of others finds in the table; fails the test if it is wrong.
    #[track_caller]
    pub(crate) fn holds(&self) -> Value {
        self.holds_as(&json!({}))
    }

    /// The same, compared with `other` tables or with a collection.
    #[track_caller]
    pub(crate) fn holds_as(&self, more: &Value) -> Value {
        let mut question = json!({"table": self.table()});
        for (name, value) in more.as_object().into_iter().flatten() {
            question[name] = value.clone();
        }
        let (ok, found) = ask("papers.py", &question);
        assert!(ok, "{:#}", found["wrong"]);
        found
    }
}

/// Starts a verb with a configuration.
pub(crate) fn start(verb: &str, config: &Path, more: &[&str]) -> Running {
    let mut command = Command::new(env!("CARGO_BIN_EXE_paper-index"));
    command.arg(verb).arg(config).args(["--json"]);
    if verb == "run" {
        command.args(["--progress", "never"]);
    }
    Running::spawn(command.args(more))
}

/// A number of the first instance of the report.
#[track_caller]
pub(crate) fn number(outcome: &Outcome, name: &str) -> u64 {
    let report = outcome.report();
    let found = report["documents"][0][name].as_u64();
    found.unwrap_or_else(|| panic!("no number {name:?} in {report:#}"))
}

const WORDS: [&str; 48] = [
    "water",
    "frontier",
    "epoch",
    "commit",
    "reads",
    "writes",
    "lake",
    "river",
    "measured",
    "slowly",
    "quickly",
    "vector",
    "document",
    "paragraph",
    "mountain",
    "harbour",
    "engine",
    "signal",
    "paper",
    "garden",
    "silver",
    "morning",
    "answer",
    "question",
    "the",
    "a",
    "of",
    "with",
    "under",
    "between",
    "carries",
    "follows",
    "breaks",
    "holds",
    "returns",
    "never",
    "always",
    "after",
    "before",
    "small",
    "large",
    "seventh",
    "window",
    "bridge",
    "copper",
    "winter",
    "station",
    "language",
];

/// A paragraph of sentences that is never twice the same.
pub(crate) fn paragraph(random: &mut Random) -> String {
    let sentence = |random: &mut Random| {
        let words = 6 + random.below(8);
        let words: Vec<&str> = (0..words)
            .map(|_| WORDS[random.below(WORDS.len() as u64) as usize])
            .collect();
        format!("{} {}.", words.join(" "), random.below(1_000_000))
    };
    let sentences = 2 + random.below(3);
    (0..sentences)
        .map(|_| sentence(random))
        .collect::<Vec<_>>()
        .join(" ")
}

/// A document in Markdown: sections of paragraphs.
pub(crate) fn document(random: &mut Random, paragraphs: u64) -> String {
    let mut text = format!("# Report {}\n\n", random.below(1_000_000));
    for number in 0..paragraphs {
        if number > 0 && number % 3 == 0 {
            text += &format!("## Section {number}\n\n");
        }
        text += &paragraph(random);
        text += "\n\n";
    }
    text
}
