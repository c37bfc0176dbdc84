//! HTML by its tokens alone: no tree is built, so that the depth of nesting costs
//! nothing. What is not read by people who read the page (scripts, styles, menus)
//! is left out.

use std::cell::RefCell;

use html5ever::tendril::StrTendril;
use html5ever::tokenizer::states::{Rawtext, Rcdata, ScriptData};
use html5ever::tokenizer::{
    BufferQueue, Tag, TagKind, Token, TokenSink, TokenSinkResult, Tokenizer, TokenizerOpts,
};

use super::text::{TextWriter, list, one_line};
use super::{Document, Format, Limits};

pub(super) fn read(html: &str, limits: &Limits) -> Document {
    let sink = Sink(RefCell::new(Page::new(limits)));
    let tokenizer = Tokenizer::new(sink, TokenizerOpts::default());
    let input = BufferQueue::default();
    input.push_back(StrTendril::from_slice(html));
    // A script "runs" by being left out: go on after each.
    while !matches!(tokenizer.feed(&input), html5ever::TokenizerResult::Done) {}
    tokenizer.end();
    let page = tokenizer.sink.0.into_inner();
    page.finish()
}

struct Sink(RefCell<Page>);

impl TokenSink for Sink {
    type Handle = ();

    fn process_token(&self, token: Token, _line: u64) -> TokenSinkResult<()> {
        let mut page = self.0.borrow_mut();
        match token {
            Token::TagToken(tag) if tag.kind == TagKind::StartTag => page.start(&tag),
            Token::TagToken(tag) => {
                page.end(&tag.name);
                TokenSinkResult::Continue
            }
            Token::CharacterTokens(text) => {
                page.characters(&text);
                TokenSinkResult::Continue
            }
            _ => TokenSinkResult::Continue,
        }
    }
}

/// What is known of the page so far.
struct Page {
    out: TextWriter,
    /// The element whose content is left out, and how often it is open.
    skipped: Option<(String, usize)>,
    /// Within `<title>`.
    in_title: bool,
    title_element: String,
    /// `<pre>` elements that are open.
    preformatted: usize,
    title: Option<String>,
    authors: Vec<String>,
    date: Option<String>,
    categories: Vec<String>,
}

impl Page {
    fn new(limits: &Limits) -> Self {
        Self {
            out: TextWriter::new(limits),
            skipped: None,
            in_title: false,
            title_element: String::new(),
            preformatted: 0,
            title: None,
            authors: Vec::new(),
            date: None,
            categories: Vec::new(),
        }
    }

    fn start(&mut self, tag: &Tag) -> TokenSinkResult<()> {
        let name: &str = &tag.name;
        if let Some((skipped, depth)) = &mut self.skipped {
            *depth += usize::from(skipped == name && !tag.self_closing);
            return raw(name);
        }
        match name {
            "title" => self.in_title = self.title_element.is_empty(),
            "meta" => self.meta(tag),
            "h1" | "h2" | "h3" | "h4" | "h5" | "h6" => {
                self.out.begin_heading(name.as_bytes()[1] - b'0')
            }
            "br" => self.out.line(),
            "pre" => {
                self.out.paragraph();
                self.preformatted += 1;
            }
            _ if is_left_out(name) && !tag.self_closing => {
                self.skipped = Some((name.to_owned(), 1))
            }
            _ => self.boundary(name),
        }
        raw(name)
    }

    fn end(&mut self, name: &str) {
        if let Some((skipped, depth)) = &mut self.skipped {
            *depth -= usize::from(skipped == name);
            if *depth == 0 {
                self.skipped = None;
            }
            return;
        }
        match name {
            "title" => self.in_title = false,
            "h1" | "h2" | "h3" | "h4" | "h5" | "h6" => self.out.end_heading(),
            "pre" => {
                self.preformatted = self.preformatted.saturating_sub(1);
                self.out.paragraph();
            }
            _ => self.boundary(name),
        }
    }

    /// What an element separates by beginning or ending.
    fn boundary(&mut self, name: &str) {
        match name {
            "li" | "tr" | "dt" | "dd" | "option" => self.out.line(),
            "td" | "th" => self.out.blank(),
            "p" | "div" | "section" | "article" | "main" | "header" | "footer" | "aside"
            | "body" | "blockquote" | "ul" | "ol" | "dl" | "table" | "thead" | "tbody"
            | "caption" | "hr" | "figure" | "figcaption" | "address" | "details" | "summary"
            | "fieldset" | "form" | "center" => self.out.paragraph(),
            _ => {}
        }
    }

    fn characters(&mut self, text: &str) {
        if self.in_title {
            self.title_element.push_str(text);
        } else if self.skipped.is_none() && self.preformatted > 0 {
            self.out.lines(text);
        } else if self.skipped.is_none() {
            self.out.flow(text);
        }
    }

    /// Highwire's `citation_*` (what Google Scholar asks for), Dublin Core, and the
    /// standard names.
    fn meta(&mut self, tag: &Tag) {
        let value = |name: &str| {
            tag.attrs
                .iter()
                .find(|a| &*a.name.local == name)
                .map(|a| &*a.value)
        };
        let Some(name) = value("name").or_else(|| value("property")) else {
            return;
        };
        let Some(content) = value("content") else {
            return;
        };
        match name.to_ascii_lowercase().as_str() {
            "citation_title" | "dc.title" | "dcterms.title" | "og:title" => {
                self.title = self.title.take().or_else(|| one_line(content));
            }
            "citation_author" | "dc.creator" | "dcterms.creator" => {
                self.authors.extend(one_line(content))
            }
            "author" | "citation_authors" if self.authors.is_empty() => {
                self.authors = list(content)
            }
            "citation_date"
            | "citation_publication_date"
            | "dc.date"
            | "dcterms.date"
            | "date"
            | "article:published_time" => {
                self.date = self.date.take().or_else(|| one_line(content))
            }
            "keywords" | "citation_keywords" => self.categories.extend(list(content)),
            "dc.subject" | "article:tag" => self.categories.extend(one_line(content)),
            _ => {}
        }
    }

    fn finish(self) -> Document {
        let mut document = self.out.finish(Format::Html);
        document.title = self.title.or_else(|| one_line(&self.title_element));
        document.authors = unique(self.authors);
        document.date = self.date;
        document.categories = unique(self.categories);
        document
    }
}

/// Each once, in the order in which they first appear.
fn unique(mut items: Vec<String>) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    items.retain(|item| seen.insert(item.clone()));
    items
}

/// Elements whose content is markup or text of another language, which the
/// tokenizer must be told of.
fn raw(name: &str) -> TokenSinkResult<()> {
    match name {
        "title" | "textarea" => TokenSinkResult::RawData(Rcdata),
        "script" => TokenSinkResult::RawData(ScriptData),
        "style" | "xmp" | "iframe" | "noembed" | "noframes" => TokenSinkResult::RawData(Rawtext),
        _ => TokenSinkResult::Continue,
    }
}

fn is_left_out(name: &str) -> bool {
    matches!(
        name,
        "script"
            | "style"
            | "template"
            | "iframe"
            | "noembed"
            | "noframes"
            | "object"
            | "svg"
            | "nav"
            | "button"
            | "select"
            | "textarea"
            | "audio"
            | "video"
            | "canvas"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(html: &str) -> Document {
        read(html, &Limits::default())
    }

    #[test]
    fn text_headings_and_lists() {
        let document = page(
            "<html><head><title>A &amp; B</title><style>p{}</style></head><body><nav>menu<nav>x</nav></nav>\
             <h1>One\n <b>two</b></h1><p>Some <i>te</i>xt&nbsp;here.<p>More<br>lines<script>if (a<b) 1</script>\
             <ul><li>first<li>second</ul><pre>a  b\n  c</pre><table><tr><td>1<td>2</table>",
        );
        assert_eq!(
            document.text,
            "One two\n\nSome text here.\n\nMore\nlines\n\nfirst\nsecond\n\na b\nc\n\n1 2"
        );
        assert_eq!(document.title.as_deref(), Some("A & B"));
        let heading = document.headings[0];
        assert_eq!(
            &document.text[heading.start_byte..heading.end_byte],
            "One two"
        );
        assert_eq!(heading.level, 1);
    }

    #[test]
    fn what_a_page_says_of_itself() {
        let document = page(
            "<meta name=citation_title content='The Title'><meta name=citation_author content='Doe, J.'>\
             <meta name=citation_author content='Roe, R.'><meta name='DC.Date' content='2021-05-06'>\
             <meta name=keywords content='a, b ,a'><title>other</title><p>x",
        );
        assert_eq!(document.title.as_deref(), Some("The Title"));
        assert_eq!(document.authors, ["Doe, J.", "Roe, R."]);
        assert_eq!(document.date.as_deref(), Some("2021-05-06"));
        assert_eq!(document.categories, ["a", "b"]);
    }

    #[test]
    fn depth_costs_nothing() {
        let deep = "<div>".repeat(200_000) + "bottom";
        assert_eq!(page(&deep).text, "bottom");
    }
}
