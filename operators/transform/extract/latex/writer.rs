//! The walk through LaTeX source. What is entered (a group of text, a file, a
//! macro) is put on a stack, so that the depth of nesting is no depth of calls.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use unicode_normalization::char::compose;

use super::super::text::{TextWriter, one_line};
use super::super::{Document, Format, Limits};
use super::commands;
use super::macros::{Arguments, Macro};
use super::tokens::{Token, Tokens};

/// Files and macros within one another.
const MOST_NESTED: usize = 200;
/// Files and macros entered in all: what ends macros that only call each other.
const MOST_ENTERED: usize = 200_000;
/// Commands within a title or an author are read once more by themselves; within
/// those no more.
const MOST_INNER: usize = 1;

/// A part of the source that was entered.
struct Part<'s> {
    tokens: Tokens<'s>,
    after: After<'s>,
    /// What `#1` and so on stand for in it.
    arguments: Arguments<'s>,
}

/// What is done when a part of the source that was entered ends.
#[derive(Debug, Clone, Copy)]
enum After<'s> {
    Nothing,
    Heading,
    Parenthesis,
    /// A file, by its name: it is not entered once more before.
    File(&'s str),
}

pub(super) struct Writer<'s> {
    files: &'s BTreeMap<String, String>,
    macros: HashMap<&'s str, Macro<'s>>,
    stack: Vec<Part<'s>>,
    entered: usize,
    /// Whether a reference was just left out: no blank stands before a full stop.
    dropped: bool,
    out: TextWriter,
    limits: &'s Limits,
    /// How many writers this one is within.
    inner: usize,
    title: Option<String>,
    authors: Vec<String>,
    date: Option<String>,
    keywords: Vec<String>,
}

impl<'s> Writer<'s> {
    pub(super) fn new(files: &'s BTreeMap<String, String>, limits: &'s Limits) -> Self {
        Self {
            files,
            macros: HashMap::new(),
            stack: Vec::new(),
            entered: 0,
            dropped: false,
            out: TextWriter::new(limits),
            limits,
            inner: 0,
            title: None,
            authors: Vec::new(),
            date: None,
            keywords: Vec::new(),
        }
    }

    pub(super) fn read(mut self, source: &'s str) -> Document {
        // What precedes the document defines macros and names the paper.
        let body = source.find("\\begin{document}");
        if let Some(at) = body {
            let mut preamble = std::mem::replace(&mut self.out, TextWriter::new(self.limits));
            self.run(&source[..at], Arguments::default());
            std::mem::swap(&mut self.out, &mut preamble);
        }
        self.run(&source[body.unwrap_or(0)..], Arguments::default());
        let mut document = self.out.finish(Format::Latex);
        document.title = self.title;
        document.authors = self.authors;
        document.date = self.date;
        document.categories = self.keywords;
        document
    }

    fn run(&mut self, source: &'s str, arguments: Arguments<'s>) {
        self.stack.push(Part {
            tokens: Tokens::new(source),
            after: After::Nothing,
            arguments,
        });
        while let Some(part) = self.stack.last_mut() {
            if self.out.is_full() {
                self.stack.clear();
                return;
            }
            match part.tokens.next() {
                Some(token) => self.token(token),
                None => self.leave(),
            }
        }
    }

    /// Enters a piece of the part that is being read.
    fn enter(&mut self, source: &'s str, after: After<'s>) {
        let arguments = self.arguments();
        self.enter_with(source, after, arguments);
    }

    fn enter_with(&mut self, source: &'s str, after: After<'s>, arguments: Arguments<'s>) {
        self.entered += 1;
        if self.stack.len() < MOST_NESTED && self.entered < MOST_ENTERED {
            self.stack.push(Part {
                tokens: Tokens::new(source),
                after,
                arguments,
            });
        }
    }

    fn leave(&mut self) {
        match self.stack.pop().map(|part| part.after) {
            Some(After::Heading) => self.out.end_heading(),
            Some(After::Parenthesis) => self.out.flow(")"),
            _ => {}
        }
    }

    /// What parameters stand for in the part that is being read.
    fn arguments(&self) -> Arguments<'s> {
        let part = self.stack.last();
        part.map(|part| part.arguments.clone()).unwrap_or_default()
    }

    fn token(&mut self, token: Token<'s>) {
        match token {
            Token::Text(text) => {
                if std::mem::take(&mut self.dropped) && text.starts_with(['.', ',', ';', ':', ')'])
                {
                    self.out.no_blank();
                }
                self.text(text);
            }
            Token::Paragraph => self.out.paragraph(),
            Token::Parameter(text, number) => match self.arguments().get(number) {
                Some((source, arguments)) => self.enter_with(source, After::Nothing, arguments),
                None => self.out.flow(text),
            },
            Token::Dollar("$") => self.mathematics("$"),
            Token::Dollar(mark) => self.display(mark),
            Token::Command(name) => self.command(name),
            Token::Open | Token::Close => {}
        }
    }

    /// Does something at the place that is being read.
    fn here<T: Default>(&mut self, what: impl FnOnce(&mut Tokens<'s>) -> T) -> T {
        self.stack
            .last_mut()
            .map(|part| what(&mut part.tokens))
            .unwrap_or_default()
    }

    /// Text, with the characters that TeX makes of others.
    fn text(&mut self, text: &str) {
        if !text.contains(['~', '-', '`', '\'', '&']) {
            return self.out.flow(text);
        }
        let text = text
            .replace("---", "—")
            .replace("--", "–")
            .replace("``", "“")
            .replace("''", "”")
            .replace('`', "‘")
            .replace(['~', '&'], " ");
        self.out.flow(&text);
    }

    fn command(&mut self, name: &'s str) {
        if let Some(found) = self.macros.get(name).copied() {
            // `\name{}` ends the name only.
            let given = self.here(|tokens| found.read_arguments(tokens));
            let arguments = Arguments::of(given, self.arguments());
            return self.enter_with(found.body, After::Nothing, arguments);
        }
        if let Some(level) = commands::heading(name) {
            return self.heading(level);
        }
        if let Some(accent) = commands::accent(name) {
            return self.accent(accent);
        }
        if let Some(text) = commands::character(name) {
            return self.out.flow(text);
        }
        if let Some(count) = commands::dropped_arguments(name) {
            self.dropped = true;
            return self.here(|tokens| {
                tokens.star();
                while tokens.option().is_some() {}
                for _ in 0..count {
                    tokens.argument();
                }
                while tokens.option().is_some() {}
            });
        }
        self.other(name);
    }

    fn other(&mut self, name: &'s str) {
        match name {
            "begin" => self.begin(),
            "end" => self.end(),
            "title" | "author" | "date" | "keywords" => self.front(name),
            "maketitle" => self.make_title(),
            "def" | "newcommand" | "renewcommand" | "providecommand" => self.define(name),
            "input" | "include" | "subfile" => self.include(),
            "footnote" | "footnotetext" => {
                let note = self.here(|tokens| {
                    tokens.option();
                    tokens.argument()
                });
                self.out.blank();
                self.out.flow("(");
                self.enter(note, After::Parenthesis);
            }
            "\\" | "newline" | "linebreak" | "cr" => {
                self.here(|tokens| {
                    tokens.star();
                    tokens.option();
                });
                self.out.line();
            }
            "item" => {
                self.out.line();
                if let Some(label) = self.here(Tokens::option) {
                    self.enter(label, After::Nothing);
                    self.out.blank();
                }
            }
            "par" | "newpage" | "clearpage" | "bigskip" | "medskip" | "smallskip" | "caption" => {
                self.out.paragraph();
                self.here(Tokens::option);
            }
            "verb" => {
                self.here(Tokens::star);
                let text = self.here(|tokens| {
                    let mut buffer = [0; 4];
                    let delimiter = tokens.character()?;
                    Some(tokens.until(delimiter.encode_utf8(&mut buffer)))
                });
                self.out.flow(text.unwrap_or_default());
            }
            "(" => self.mathematics("\\)"),
            "[" => self.display("\\]"),
            "appendix" | "noindent" | "centering" => {}
            _ => self.here(|tokens| {
                tokens.star();
                tokens.option();
                for _ in 0..commands::arguments_before_text(name) {
                    tokens.argument();
                }
            }),
        }
    }

    fn heading(&mut self, level: u8) {
        let text = self.here(|tokens| {
            tokens.star();
            tokens.option();
            tokens.argument()
        });
        self.out.begin_heading(level);
        self.enter(text, After::Heading);
        let after = self.stack.last().map(|part| part.after);
        if !matches!(after, Some(After::Heading)) {
            self.out.end_heading();
        }
    }

    fn accent(&mut self, accent: char) {
        let argument = self.here(Tokens::argument).trim();
        let argument = self.arguments().substituted(argument);
        let letters = match argument.as_ref() {
            "\\i" => "i",
            "\\j" => "j",
            letters => letters,
        };
        let mut rest = letters.chars();
        let Some(letter) = rest.next() else { return };
        let whole = compose(letter, accent);
        let mut text = String::from(whole.unwrap_or(letter));
        if whole.is_none() {
            text.push(accent);
        }
        text.push_str(rest.as_str());
        self.out.flow(&text);
    }

    fn begin(&mut self) {
        let name = self.here(Tokens::argument);
        let end = |name: &str| format!("\\end{{{name}}}");
        if commands::is_dropped_environment(name) {
            self.here(|tokens| tokens.until(&end(name)));
        } else if commands::is_verbatim(name) {
            self.here(Tokens::option);
            let text = self.here(|tokens| tokens.until(&end(name)));
            self.out.paragraph();
            self.out.lines(text);
            self.out.paragraph();
        } else if commands::is_mathematics(name) {
            self.display(&end(name));
        } else {
            self.here(|tokens| {
                tokens.option();
                for _ in 0..commands::environment_arguments(name) {
                    tokens.argument();
                }
            });
            self.out.paragraph();
            let heading = match name {
                "abstract" => "Abstract",
                "thebibliography" => "References",
                "acknowledgments" | "acknowledgements" | "acks" => "Acknowledgments",
                _ => return,
            };
            self.out.begin_heading(2);
            self.out.flow(heading);
            self.out.end_heading();
        }
    }

    fn end(&mut self) {
        self.out.paragraph();
        if self.here(Tokens::argument) == "document" {
            // Of the file that is being read: one that includes it goes on.
            self.leave();
        }
    }

    fn mathematics(&mut self, end: &str) {
        let text = self.here(|tokens| tokens.until(end));
        let text: Cow<'s, str> = self.arguments().substituted(text);
        self.out.flow(&text);
    }

    fn display(&mut self, end: &str) {
        self.out.paragraph();
        self.mathematics(end);
        self.out.paragraph();
    }

    /// What names the paper.
    fn front(&mut self, name: &str) {
        let source = self.here(|tokens| {
            tokens.option();
            tokens.argument()
        });
        if self.inner >= MOST_INNER {
            return;
        }
        match name {
            "title" => self.title = self.inner_text(source),
            "date" => self.date = self.inner_text(source),
            "keywords" => self.keywords = super::super::text::list(source),
            _ => {
                let authors = source
                    .split("\\and")
                    .flat_map(|author| author.split("\\\\").take(1));
                let authors: Vec<String> = authors
                    .filter_map(|author| self.inner_text(author))
                    .collect();
                self.authors.extend(authors);
            }
        }
    }

    /// The text of a piece of source by itself, on one line.
    fn inner_text(&self, source: &'s str) -> Option<String> {
        let mut writer = Writer::new(self.files, self.limits);
        writer.inner = self.inner + 1;
        writer.macros = self.macros.clone();
        writer.entered = self.entered;
        writer.run(source, self.arguments());
        one_line(&writer.out.finish(Format::Latex).text)
    }

    fn make_title(&mut self) {
        if let Some(title) = self.title.clone() {
            self.out.begin_heading(1);
            self.out.flow(&title);
            self.out.end_heading();
        }
        if !self.authors.is_empty() {
            self.out.flow(&self.authors.join(", "));
            self.out.paragraph();
        }
    }

    fn define(&mut self, how: &str) {
        let defined = self.here(|tokens| match how {
            "def" => Macro::of_tex(tokens),
            _ => Macro::of_latex(tokens),
        });
        if let Some((name, found)) = defined {
            self.macros.insert(name, found);
        }
    }

    /// A file of the archive: nothing outside of it is ever looked at.
    fn include(&mut self) {
        let name = self.here(Tokens::argument).trim().trim_start_matches("./");
        let files = self.files;
        let found = files
            .get_key_value(name)
            .or_else(|| files.get_key_value(&format!("{name}.tex")));
        let Some((path, text)) = found else { return };
        let is_open = |part: &Part<'s>| matches!(part.after, After::File(open) if open == path);
        if !self.stack.iter().any(is_open) {
            let from = text.find("\\begin{document}").unwrap_or(0);
            self.enter(&text[from..], After::File(path));
        }
    }
}
