//! The names of LaTeX: which make headings, which are characters, which take
//! arguments that nobody reads.

/// The level of the heading that a command makes; 1 is the title's.
pub(super) fn heading(name: &str) -> Option<u8> {
    Some(match name {
        "part" | "chapter" => 1,
        "section" => 2,
        "subsection" => 3,
        "subsubsection" => 4,
        "paragraph" => 5,
        "subparagraph" => 6,
        _ => return None,
    })
}

/// How many arguments in braces of a command are no text.
pub(super) fn dropped_arguments(name: &str) -> Option<usize> {
    Some(match name {
        "label" | "ref" | "eqref" | "pageref" | "autoref" | "cref" | "Cref" | "nameref"
        | "vspace" | "hspace" | "bibliographystyle" | "bibliography" | "includegraphics"
        | "usepackage" | "RequirePackage" | "documentclass" | "documentstyle" | "pagestyle"
        | "thispagestyle" | "pagenumbering" | "nocite" | "color" | "bibitem" | "vskip"
        | "hskip" | "thanks" | "footnotemark" | "phantom" | "graphicspath" | "hypersetup"
        | "email" | "affiliation" | "address" | "institute" | "PACS" | "index" | "tikzset"
        | "lstset" | "captionsetup" | "theoremstyle" | "input@path" | "includeonly"
        | "enlargethispage" | "special" => 1,
        "setlength"
        | "addtolength"
        | "setcounter"
        | "addtocounter"
        | "textcolor@"
        | "newcounter"
        | "numberwithin"
        | "DeclareMathOperator"
        | "newtheorem"
        | "rule"
        | "fontsize" => 2,
        "definecolor" | "addcontentsline" | "newenvironment" | "renewenvironment" => 3,
        // All of \cite, \citep, \citet, \citeauthor, ...
        _ if name.starts_with("cite") || name.starts_with("Cite") => 1,
        _ => return None,
    })
}

/// Whether a command means something here, whatever a document makes of it.
pub(super) fn is_understood(name: &str) -> bool {
    heading(name).is_some()
        || accent(name).is_some()
        || dropped_arguments(name).is_some()
        || matches!(
            name,
            "begin"
                | "end"
                | "title"
                | "author"
                | "date"
                | "keywords"
                | "maketitle"
                | "footnote"
                | "caption"
                | "item"
                | "input"
                | "include"
                | "href"
        )
}

/// How many arguments come before the one that is text.
pub(super) fn arguments_before_text(name: &str) -> usize {
    match name {
        "href" | "textcolor" | "colorbox" | "multirow@" | "scalebox" | "parbox" | "hyperref" => 1,
        "multicolumn" | "multirow" | "resizebox" | "fcolorbox" => 2,
        _ => 0,
    }
}

/// Environments that are no text.
pub(super) fn is_dropped_environment(name: &str) -> bool {
    matches!(
        name.trim_end_matches('*'),
        "comment" | "tikzpicture" | "pgfpicture" | "picture" | "filecontents" | "CCSXML"
    )
}

/// Environments that are text as it is.
pub(super) fn is_verbatim(name: &str) -> bool {
    matches!(
        name.trim_end_matches('*'),
        "verbatim" | "Verbatim" | "lstlisting" | "minted" | "alltt"
    )
}

/// Environments of mathematics, which stays as it is.
pub(super) fn is_mathematics(name: &str) -> bool {
    matches!(
        name.trim_end_matches('*'),
        "equation"
            | "align"
            | "eqnarray"
            | "gather"
            | "multline"
            | "displaymath"
            | "math"
            | "flalign"
            | "alignat"
            | "dmath"
    )
}

/// Environments with arguments that are no text.
pub(super) fn environment_arguments(name: &str) -> usize {
    match name.trim_end_matches('*') {
        "tabular" | "array" | "thebibliography" | "longtable" | "multicols" | "wrapfigure@" => 1,
        "tabularx" | "tabulary" | "minipage@" | "wrapfigure" => 2,
        "minipage" => 1,
        _ => 0,
    }
}

/// What a command writes by itself.
pub(super) fn character(name: &str) -> Option<&'static str> {
    Some(match name {
        "&" => "&",
        "%" => "%",
        "$" | "textdollar" => "$",
        "#" => "#",
        "_" | "textunderscore" => "_",
        "{" => "{",
        "}" => "}",
        "textbackslash" => "\\",
        "textasciitilde" => "~",
        "textasciicircum" => "^",
        " " | "\n" | "," | ";" | ":" | "quad" | "qquad" | "space" | "enspace" | "thinspace" => " ",
        "ldots" | "dots" | "textellipsis" => "…",
        "ss" => "ß",
        "ae" => "æ",
        "AE" => "Æ",
        "oe" => "œ",
        "OE" => "Œ",
        "aa" => "å",
        "AA" => "Å",
        "o" => "ø",
        "O" => "Ø",
        "l" => "ł",
        "L" => "Ł",
        "i" => "ı",
        "j" => "ȷ",
        "S" => "§",
        "P" => "¶",
        "copyright" | "textcopyright" => "©",
        "textregistered" => "®",
        "texttrademark" => "™",
        "textdegree" => "°",
        "pounds" | "textsterling" => "£",
        "euro" | "texteuro" => "€",
        "textendash" => "–",
        "textemdash" => "—",
        "textbullet" => "•",
        "textquotesingle" => "'",
        "TeX" => "TeX",
        "LaTeX" => "LaTeX",
        "LaTeXe" => "LaTeX2e",
        "BibTeX" => "BibTeX",
        _ => return None,
    })
}

/// The combining character of an accent.
pub(super) fn accent(name: &str) -> Option<char> {
    Some(match name {
        "'" => '\u{301}',
        "`" => '\u{300}',
        "^" => '\u{302}',
        "\"" => '\u{308}',
        "~" => '\u{303}',
        "=" => '\u{304}',
        "." => '\u{307}',
        "u" => '\u{306}',
        "v" => '\u{30c}',
        "H" => '\u{30b}',
        "c" => '\u{327}',
        "k" => '\u{328}',
        "r" => '\u{30a}',
        "d" => '\u{323}',
        "b" => '\u{331}',
        _ => return None,
    })
}
