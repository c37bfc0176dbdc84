//! Markdown (CommonMark with tables and footnotes); HTML within it is left out,
//! the text between its tags is not.

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use super::text::TextWriter;
use super::{Document, Format, Limits, front};

pub(super) fn read(text: &str, limits: &Limits) -> Document {
    let (front, body) = front::split(text.strip_prefix('\u{feff}').unwrap_or(text));
    let mut out = TextWriter::new(limits);
    let options =
        Options::ENABLE_TABLES | Options::ENABLE_FOOTNOTES | Options::ENABLE_STRIKETHROUGH;
    let mut in_code = false;
    for event in Parser::new_ext(body, options) {
        if out.is_full() {
            break;
        }
        match event {
            Event::Start(tag) => {
                in_code |= matches!(tag, Tag::CodeBlock(_));
                start(&mut out, &tag);
            }
            Event::End(tag) => {
                in_code &= tag != TagEnd::CodeBlock;
                end(&mut out, tag);
            }
            Event::Text(text) if in_code => out.lines(&text),
            Event::Text(text) | Event::Code(text) => out.flow(&text),
            Event::InlineMath(text) | Event::DisplayMath(text) => out.flow(&text),
            Event::SoftBreak => out.blank(),
            Event::HardBreak => out.line(),
            Event::Rule => out.paragraph(),
            Event::Html(_)
            | Event::InlineHtml(_)
            | Event::FootnoteReference(_)
            | Event::TaskListMarker(_) => {}
        }
    }
    let mut document = out.finish(Format::Markdown);
    if let Some(front) = front {
        front.tell(&mut document);
    }
    if document.title.is_none() {
        document.title = only_title(&document);
    }
    document
}

/// The heading of level 1, where there is but one.
fn only_title(document: &Document) -> Option<String> {
    let mut titles = document
        .headings
        .iter()
        .filter(|heading| heading.level == 1);
    let title = titles.next().filter(|_| titles.next().is_none())?;
    document
        .text
        .get(title.start_byte..title.end_byte)
        .map(str::to_owned)
}

fn start(out: &mut TextWriter, tag: &Tag<'_>) {
    match tag {
        Tag::Heading { level, .. } => out.begin_heading(*level as u8),
        Tag::Item | Tag::TableRow | Tag::TableHead => out.line(),
        Tag::TableCell => out.blank(),
        Tag::Paragraph
        | Tag::CodeBlock(_)
        | Tag::BlockQuote(_)
        | Tag::Table(_)
        | Tag::List(_)
        | Tag::FootnoteDefinition(_)
        | Tag::HtmlBlock => out.paragraph(),
        _ => {}
    }
}

fn end(out: &mut TextWriter, tag: TagEnd) {
    match tag {
        TagEnd::Heading(_) => out.end_heading(),
        TagEnd::Item | TagEnd::TableRow | TagEnd::TableHead => out.line(),
        TagEnd::TableCell => out.blank(),
        TagEnd::Paragraph
        | TagEnd::CodeBlock
        | TagEnd::BlockQuote(_)
        | TagEnd::Table
        | TagEnd::List(_)
        | TagEnd::FootnoteDefinition
        | TagEnd::HtmlBlock => out.paragraph(),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_headings_lists_and_code() {
        let document = read(
            "# A *title*\n\nOne\ntwo `x` [link](http://x) <b>bold</b>\n\n- a\n- b\n\n```\nlet  x;\n# no heading\n```\n\nSub\n---\n\n|a|b|\n|-|-|\n|1|2|\n",
            &Limits::default(),
        );
        assert_eq!(
            document.text,
            "A title\n\nOne two x link bold\n\na\nb\n\nlet x;\n# no heading\n\nSub\n\na b\n1 2"
        );
        let levels: Vec<u8> = document
            .headings
            .iter()
            .map(|heading| heading.level)
            .collect();
        assert_eq!(levels, [1, 2]);
        assert_eq!(document.title.as_deref(), Some("A title"));
    }

    #[test]
    fn front_matter_of_both_kinds() {
        let yaml = "---\ntitle: \"On: x\"\nauthors:\n  - A. One\n  - name: B. Two\ndate: 2020-01-02\ntags: [p, 'q']\n---\nBody";
        let toml = "+++\ntitle = \"On: x\"\nauthors = [\"A. One\", \"B. Two\"]\ndate = 2020-01-02\ntags = [\"p\", \"q\"]\n+++\nBody";
        for text in [yaml, toml] {
            let document = read(text, &Limits::default());
            assert_eq!(document.text, "Body");
            assert_eq!(document.title.as_deref(), Some("On: x"));
            assert_eq!(document.authors, ["A. One", "B. Two"]);
            assert_eq!(document.date.as_deref(), Some("2020-01-02"));
            assert_eq!(document.categories, ["p", "q"]);
        }
    }

    #[test]
    fn a_rule_at_the_start_is_no_front_matter() {
        assert_eq!(read("---\n\nBody: x", &Limits::default()).text, "Body: x");
    }
}
