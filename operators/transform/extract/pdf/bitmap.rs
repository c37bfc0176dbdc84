//! Type 3 fonts, whose glyphs are drawings: TeX's fonts of bitmaps are such. They often
//! have no table of characters and no names for their glyphs, only TeX's codes; and some
//! writers count in pixels and set them in size 1.

use hayro_interpret::font::{Glyph, GlyphRun};
use hayro_interpret::hayro_cmap::BfString;
use hayro_interpret::hayro_syntax::Pdf;

/// Of a font's size, what letters take on average.
const LETTER_EMS: f64 = 0.5;
/// Averages that the size of a font allows; others say that it is none.
const PLAUSIBLE_EMS: std::ops::Range<f64> = 0.15..1.3;

/// TeX's encoding T1 ("Cork") where it is not ASCII, from 0x80 on; source: the table of
/// `ecrm1000`, "Extended TeX Font Encoding Scheme" (TUGboat 11, 1990, p. 514). Where it
/// has Ĺ, the fonts of symbols beside it have the bullet of every list.
const CORK: &str = "ĂĄĆČĎĚĘĞ•ĽŁŃŇŊŐŔŘŚŠŞŤŢŰŮŸŹŽŻĲİđ§\
                    ăąćčďěęğĺľłńňŋőŕřśšşťţűůÿźžżĳ¡¿£\
                    ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÐÑÒÓÔÕÖŒØÙÚÛÜÝÞẞ\
                    àáâãäåæçèéêëìíîïðñòóôõöœøùúûüýþß";
/// And below 0x20: accents, quotes and dashes, ligatures. From 0x0B to 0x0F stands what
/// the older encoding OT1 has there, its ligatures: what T1 has there is hardly used.
const CORK_LOW: &str = "`´ˆ˜¨˝˚ˇ˘¯˙\u{fb00}\u{fb01}\u{fb02}\u{fb03}\u{fb04}\
                        “”„«»–—\u{0}₀ıȷ\u{fb00}\u{fb01}\u{fb02}\u{fb03}\u{fb04}";

/// Whether TeX made the document: glyphs without names have TeX's codes.
pub(super) fn is_by_tex(pdf: &Pdf) -> bool {
    let info = pdf.metadata();
    let names = [&info.producer, &info.creator];
    names.into_iter().flatten().any(|name| {
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        ["tex", "dvips", "dvipdf"]
            .iter()
            .any(|program| name.contains(program))
    })
}

/// The character of a glyph without a name, by its code in TeX's fonts of letters.
pub(super) fn by_tex_code(glyph: &Glyph<'_>) -> Option<BfString> {
    match glyph {
        Glyph::Type3(_) => cork(glyph.char_code()).map(BfString::Char),
        Glyph::Outline(_) => None,
    }
}

fn cork(code: u32) -> Option<char> {
    let code = usize::try_from(code).ok()?;
    match code {
        0..0x20 => CORK_LOW.chars().nth(code).filter(|c| *c != '\0'),
        // A blank that is to be seen.
        0x20 => Some(' '),
        0x21..0x7f => char::from_u32(code as u32),
        0x7f => Some('-'),
        _ => CORK.chars().nth(code - 0x80),
    }
}

/// By how much what a run says is its size has to grow to be one: `None` where it can be
/// one, as that of all fonts of outlines.
///
/// Letters take about half of their size on average; source: `TextPage::updateFont` of
/// Xpdf, which guesses by the widths, too.
pub(super) fn growth(run: &GlyphRun<'_, '_>) -> Option<f64> {
    let (mut sum, mut count) = (0.0, 0.0);
    for glyph in run.glyphs() {
        let Glyph::Type3(drawn) = &**glyph else {
            return None;
        };
        let ems = f64::from(drawn.advance_width()?.abs()) / 1000.0;
        if ems > 0.0 {
            sum += ems;
            count += 1.0;
        }
    }
    let average = sum / count;
    (count > 0.0 && !PLAUSIBLE_EMS.contains(&average)).then_some(average / LETTER_EMS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_whole() {
        assert_eq!(CORK.chars().count(), 0x80);
        assert_eq!(CORK_LOW.chars().count(), 0x20);
    }

    #[test]
    fn codes_of_tex() {
        let text = |codes: &[u32]| -> String { codes.iter().filter_map(|c| cork(*c)).collect() };
        assert_eq!(text(&[0x10, 0x61, 0x11, 0x15, 0x7b]), "“a”–{");
        assert_eq!(text(&[0x1c, 0x0c, 0x8a, 0xe9, 0xff, 0x17]), "ﬁﬁŁéß");
        assert_eq!(cork(0x100), None);
    }
}
