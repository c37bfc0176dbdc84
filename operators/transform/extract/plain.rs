//! Plain text: lines as they are, form feeds as pages.

use super::text::TextWriter;
use super::{Document, Format, Limits};

pub(super) fn read(text: &str, limits: &Limits) -> Document {
    let mut out = TextWriter::new(limits);
    let paged = text.contains('\u{c}');
    for page in text.split('\u{c}') {
        if paged {
            out.page();
        }
        out.lines(page);
        out.paragraph();
    }
    out.finish(Format::Plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_sign_makes_no_heading() {
        let document = read("# not a heading\nnext\n\n\nother", &Limits::default());
        assert_eq!(document.text, "# not a heading\nnext\n\nother");
        assert!(document.headings.is_empty() && document.pages.is_empty());
    }

    #[test]
    fn form_feeds_begin_pages() {
        let document = read("one\n\u{c}two\n\u{c}", &Limits::default());
        assert_eq!(
            (document.text.as_str(), document.pages),
            ("one\n\ntwo", vec![0, 5, 8])
        );
    }

    #[test]
    fn long_text_is_cut_at_a_character_and_says_so() {
        let limits = Limits {
            text_characters: 3,
            ..Limits::default()
        };
        let document = read("éééé", &limits);
        assert_eq!((document.text.as_str(), document.truncated), ("ééé", true));
        assert!(!read("ééé\n", &limits).truncated);
    }
}
