//! LaTeX source, without running TeX: commands that structure text are understood,
//! those that only set it are dropped and what they set is kept, mathematics stays
//! as it is written. `tokens` cuts the source up, `commands` knows the names, `macros` those that
//! the document defines, `writer` walks through it.

mod commands;
mod macros;
mod tokens;
mod writer;

use std::collections::BTreeMap;

use super::encoding::decode;
use super::format::begins_latex;
use super::{Document, Format, Limits, Reason};
use writer::Writer;

/// One file.
pub(super) fn read(source: &str, limits: &Limits) -> Document {
    Writer::new(&BTreeMap::new(), limits).read(source)
}

/// Sources of several files, by their paths: the main one and what it includes.
pub(super) fn read_sources(
    files: BTreeMap<String, Vec<u8>>,
    limits: &Limits,
) -> Result<Document, Reason> {
    let main = main_file(&files).ok_or_else(|| Reason::Malformed {
        format: Format::Latex,
        what: "no file of the archive has \\documentclass".to_owned(),
    })?;
    let texts: BTreeMap<String, String> = files
        .iter()
        .map(|(path, bytes)| (path.clone(), decode(bytes).into_owned()))
        .collect();
    let source = texts.get(main).map(String::as_str).unwrap_or_default();
    Ok(Writer::new(&texts, limits).read(source))
}

/// The file with `\documentclass`; of several the one with a name that main files
/// have, else the longest, which a supplement or an answer to reviewers is not.
fn main_file(files: &BTreeMap<String, Vec<u8>>) -> Option<&str> {
    let rank = |path: &str, bytes: &[u8]| {
        let name = path.rsplit('/').next().unwrap_or(path);
        let stem = name.split('.').next().unwrap_or(name).to_ascii_lowercase();
        (
            matches!(stem.as_str(), "main" | "ms" | "paper" | "article" | "root"),
            bytes.len(),
        )
    };
    files
        .iter()
        .filter(|(_, bytes)| begins_latex(bytes))
        .max_by_key(|(path, bytes)| rank(path, bytes))
        .map(|(path, _)| path.as_str())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn text(source: &str) -> String {
        read(source, &Limits::default()).text
    }

    #[test]
    fn a_paper() {
        let document = read(
            r#"\documentclass[a4paper]{article} % comment
\usepackage[utf8]{inputenc}
\newcommand{\ours}{\textsc{Fast}Sort}
\title{On \emph{Sorting}\thanks{Funded.}}
\author{Ann One\thanks{X} \and Bob Two}
\date{May 2021}
\begin{document}
\maketitle
\begin{abstract}
We sort.
\end{abstract}
\section{Introduction}\label{sec:intro}
Sorting is old~\cite{knuth}. \ours{} is ``new'' --- na\"{\i}ve \& Erd\H{o}s, stra{\ss}e, M\"uller.
It takes $O(n \log n)$ time:
\begin{equation}
x = y^2
\end{equation}
\subsection*{Details} % not \subsection{this}
\begin{itemize}
\item one
\item[two] deux
\end{itemize}
\begin{verbatim}
a % b \c
\end{verbatim}
See \href{http://x}{here}\footnote{A note.}.
\bibliographystyle{plain}
\end{document}
ignored"#,
            &Limits::default(),
        );
        assert_eq!(document.title.as_deref(), Some("On Sorting"));
        assert_eq!(document.authors, ["Ann One", "Bob Two"]);
        assert_eq!(document.date.as_deref(), Some("May 2021"));
        let headings: Vec<_> = document
            .headings
            .iter()
            .map(|heading| {
                (
                    &document.text[heading.start_byte..heading.end_byte],
                    heading.level,
                )
            })
            .collect();
        assert_eq!(
            headings,
            [
                ("On Sorting", 1),
                ("Abstract", 2),
                ("Introduction", 2),
                ("Details", 3)
            ]
        );
        assert!(
            document
                .text
                .contains("Sorting is old. FastSort is “new” — naïve & Erdős, straße, "),
            "{}",
            document.text
        );
        assert!(
            document
                .text
                .contains("It takes O(n \\log n) time:\n\nx = y^2\n\n"),
            "{}",
            document.text
        );
        assert!(
            document
                .text
                .contains("one\ntwo deux\n\na % b \\c\n\nSee here (A note.)."),
            "{}",
            document.text
        );
        assert!(!document.text.contains("ignored"));
    }

    #[test]
    fn accents_of_all_kinds() {
        assert_eq!(
            text(r#"\'e\"{o}\^\i \c{c}\v s \~n \aa\o \L{}x"#),
            "éöîçš ñ åøŁx"
        );
    }

    #[test]
    fn sources_of_several_files() {
        let files = [
            (
                "sup.tex",
                "\\documentclass{article}\\begin{document}no\\end{document}",
            ),
            (
                "main.tex",
                "\\documentclass{article}\\begin{document}a \\input{sec/one} \\include{two}\\input{../../etc/passwd}\\end{document}",
            ),
            ("sec/one.tex", "one \\input{main}"),
            ("two.tex", "two"),
        ];
        let files = files
            .map(|(path, text)| (path.to_owned(), text.as_bytes().to_vec()))
            .into();
        let document = read_sources(files, &Limits::default()).unwrap();
        assert!(document.text.starts_with("a one\n\na"), "{}", document.text);
        assert!(document.text.ends_with("two"), "{}", document.text);
    }

    #[test]
    fn macros_that_laugh_end() {
        let mut source = String::from("\\def\\a{lol}");
        for (name, of) in ('b'..='z').zip('a'..='y') {
            source += &format!("\\def\\{name}{{{}}}", format!("\\{of} ").repeat(10));
        }
        source += "\\begin{document}\\z\\end{document}";
        let document = read(&source, &Limits::default());
        assert!(document.text.len() < 1_000_001);
    }

    #[test]
    fn macros_with_arguments() {
        let define = "\\newcommand{\\pair}[2]{(#1 and \\emph{#2})}\
                      \\newcommand*\\call[2][nobody]{#1 calls #2}\
                      \\def\\vect#1{$\\mathbf{#1}$}\\def\\to#1:{#1}\
                      \\newcommand{\\part@}[1]{\\section{On #1}}\
                      \\newcommand{\\swap}[2]{\\pair{#2}{#1}}";
        let read = |body: &str| {
            text(&format!(
                "{define}\\begin{{document}}{body}\\end{{document}}"
            ))
        };
        assert_eq!(read("\\pair{a}b."), "(a and b).");
        assert_eq!(
            read("\\call{Ann}. \\call[Bo]{Ann}."),
            "nobody calls Ann. Bo calls Ann."
        );
        assert_eq!(
            read("A \\vect{x} of \\vect y."),
            "A \\mathbf{x} of \\mathbf{y}."
        );
        assert_eq!(read("\\swap{a}{\\call{b}}"), "(nobody calls b and a)");
        assert_eq!(
            read("\\part@{rivers} They flow."),
            "On rivers\n\nThey flow."
        );
        // What is delimited otherwise is read as its arguments, a number sign as one.
        assert_eq!(read("\\to{a}: \\#1 #1 # x"), "a: #1 #1 # x");
        // Our own meaning of a command stays.
        let own = "\\renewcommand{\\section}[1]{#1}\\section{S} t";
        assert_eq!(read(own), "S\n\nt");
    }

    #[test]
    fn arguments_that_laugh_end() {
        let mut source = String::from("\\def\\a#1{$#1#1$ #1#1}");
        for (name, of) in ('b'..='z').zip('a'..='y') {
            source += &format!("\\def\\{name}#1{{\\{of}{{#1#1}}\\{of}{{$#1#1$}}}}");
        }
        source += "\\begin{document}\\z{lol}\\end{document}";
        assert!(text(&source).len() < 1_000_001);
    }

    #[test]
    fn depth_costs_nothing() {
        let deep = "{".repeat(300_000) + "x" + &"\\footnote{".repeat(100_000);
        assert!(text(&deep).starts_with('x'));
        assert_eq!(text(&"\\begin{a}".repeat(100_000)), "");
    }
}
