//! PDF. `hayro` interprets the pages and says where each glyph stands and which
//! characters it means; pictures are never decoded. `glyphs` makes lines of them,
//! `bitmap` finds characters and sizes where a font does not say them,
//! `layout` makes paragraphs and headings of lines, `info` is what the document
//! says of itself. Lines stay in the order in which they are drawn, which is the
//! order of reading in nearly everything that typesets text.

mod bitmap;
mod glyphs;
mod info;
mod layout;

use hayro_interpret::hayro_syntax::{DecryptionError, LoadPdfError, Pdf};

use super::{Document, Format, Limits, Reason};

pub(super) fn read(contents: &[u8], limits: &Limits) -> Result<Document, Reason> {
    let pdf = Pdf::new(contents.to_vec()).map_err(refused)?;
    let lines = glyphs::lines(&pdf, limits.text_characters);
    if lines.is_empty() && !pdf.pages().is_empty() {
        return Err(Reason::NoText {
            pages: pdf.pages().len(),
        });
    }
    let mut document = layout::write(&lines, pdf.pages().len(), limits).finish(Format::Pdf);
    info::tell(&pdf, &mut document);
    Ok(document)
}

fn refused(error: LoadPdfError) -> Reason {
    let what = match error {
        LoadPdfError::Decryption(DecryptionError::PasswordProtected) => return Reason::Encrypted,
        LoadPdfError::Decryption(DecryptionError::UnsupportedAlgorithm) => "unknown encryption",
        LoadPdfError::Decryption(_) => "damaged encryption",
        LoadPdfError::Invalid => "no pages are found in it",
    };
    Reason::Malformed {
        format: Format::Pdf,
        what: what.to_owned(),
    }
}
