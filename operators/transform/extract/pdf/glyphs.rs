//! Glyphs to lines: what stands on one baseline, with blanks where there is room
//! for one.

use hayro_interpret::font::{Glyph, GlyphRun};
use hayro_interpret::hayro_cmap::BfString;
use hayro_interpret::hayro_syntax::Pdf;
use hayro_interpret::kurbo::{Affine, BezPath, Point, Rect};
use hayro_interpret::{
    BlendMode, ClipPath, Context, Device, DrawMode, DrawProps, Image, ImageDrawProps,
    InterpreterCache, InterpreterSettings, RenderContent, SoftMask, TransformExt, interpret_page,
};
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::compose;

use super::bitmap;

/// A gap of this many ems is a blank between words.
const BLANK_EMS: f64 = 0.15;
/// Within this many ems of the baseline a glyph belongs to the line: an index does,
/// the next line does not.
const BASELINE_EMS: f64 = 0.55;
/// A step back of this many ems begins a line.
const BACK_EMS: f64 = 1.5;
/// The size of lines of which it is only guessed, until all guesses are known.
const UNKNOWN: f64 = 0.0;

/// One line, in points from the top left of its page.
#[derive(Debug, Clone, Default)]
pub(super) struct Line {
    /// Counted from 0.
    pub(super) page: usize,
    pub(super) text: String,
    /// Characters that are no blanks.
    pub(super) weight: usize,
    /// Where it begins and ends.
    pub(super) left: f64,
    pub(super) right: f64,
    /// Its baseline, downwards.
    pub(super) baseline: f64,
    /// The size of most of its glyphs.
    pub(super) size: f64,
    /// Whether it runs in another direction than to the right.
    pub(super) turned: bool,
}

/// The lines of all pages in the order in which they are drawn; a little more than
/// `characters` of them at most.
pub(super) fn lines(pdf: &Pdf, characters: usize) -> Vec<Line> {
    let settings = InterpreterSettings {
        render_content: RenderContent::PAGE,
        ..InterpreterSettings::default()
    };
    let cache = InterpreterCache::new();
    let mut collector = Collector {
        left: characters.saturating_add(1),
        is_by_tex: bitmap::is_by_tex(pdf),
        ..Collector::default()
    };
    for (number, page) in pdf.pages().iter().enumerate() {
        if collector.left == 0 {
            break;
        }
        collector.page = number;
        let transform = page.initial_transform(true).to_kurbo();
        let everything = Rect::new(-1e6, -1e6, 1e6, 1e6);
        let mut context = Context::new(transform, everything, &cache, pdf.xref(), settings.clone());
        interpret_page(page, &mut context, &mut collector);
        collector.end_line();
    }
    collector.set_unknown_sizes();
    collector.lines
}

#[derive(Default)]
struct Collector {
    lines: Vec<Line>,
    page: usize,
    /// Characters that are still wanted.
    left: usize,
    line: Option<Line>,
    pen: Pen,
    /// Weight by size, of the line.
    sizes: Vec<(f64, usize)>,
    is_by_tex: bool,
    /// The sum and the number of sizes that are only guessed.
    guessed: (f64, f64),
}

/// Where the last glyph stood.
#[derive(Default, Clone, Copy)]
struct Pen {
    start: Point,
    end: Point,
    size: f64,
}

/// A glyph as it is drawn.
struct Placed {
    /// Its origin, and where the next one would stand.
    start: Point,
    end: Point,
    size: f64,
    /// Whether the size is a guess by the widths of the letters around it.
    is_guess: bool,
    /// The direction in which it runs, of length 1.
    along: (f64, f64),
    text: BfString,
}

impl Collector {
    fn add(&mut self, glyph: Placed) {
        if self.left == 0 {
            return;
        }
        let (along, across) = self.offset(&glyph);
        let size = self.pen.size.max(glyph.size);
        let turned = glyph.along.0 < 0.9;
        let begins = match &self.line {
            None => true,
            Some(line) => {
                across.abs() > BASELINE_EMS * size
                    || along < -BACK_EMS * size
                    || line.turned != turned
            }
        };
        if begins {
            self.end_line();
            self.line = Some(Line {
                page: self.page,
                left: glyph.start.x,
                right: glyph.start.x,
                baseline: glyph.start.y,
                turned,
                ..Line::default()
            });
        } else if along > BLANK_EMS * size {
            self.blank();
        }
        match &glyph.text {
            BfString::Char(character) => self.put(*character, &glyph),
            BfString::String(text) => text
                .chars()
                .for_each(|character| self.put(character, &glyph)),
        }
        self.pen = Pen {
            start: glyph.start,
            end: glyph.end,
            size: glyph.size,
        };
        if let Some(line) = &mut self.line {
            line.right = line.right.max(glyph.end.x);
            line.left = line.left.min(glyph.start.x);
        }
    }

    /// How far the glyph stands from where the one before ends: along the direction
    /// of writing and across it.
    fn offset(&self, glyph: &Placed) -> (f64, f64) {
        let step = glyph.start - self.pen.end;
        let (x, y) = glyph.along;
        (step.x * x + step.y * y, step.y * x - step.x * y)
    }

    fn blank(&mut self) {
        if let Some(line) = &mut self.line
            && !line.text.is_empty()
            && !line.text.ends_with(' ')
        {
            line.text.push(' ');
        }
    }

    fn put(&mut self, character: char, glyph: &Placed) {
        if character.is_whitespace() || character == '\0' {
            return self.blank();
        }
        let Some(line) = &mut self.line else { return };
        match character {
            // Ligatures are how it is printed, not what is written.
            '\u{fb00}'..='\u{fb4f}' => line.text.extend(std::iter::once(character).nfkc()),
            _ => match accented(&line.text, character, self.pen, glyph) {
                Some(whole) => {
                    line.text.pop();
                    line.text.push(whole);
                }
                None => line.text.push(character),
            },
        }
        line.weight += 1;
        self.left = self.left.saturating_sub(1);
        let known = if glyph.is_guess {
            self.guessed.0 += glyph.size;
            self.guessed.1 += 1.0;
            UNKNOWN
        } else {
            glyph.size
        };
        match self
            .sizes
            .iter_mut()
            .find(|(size, _)| (size - known).abs() < 0.25)
        {
            Some((_, weight)) => *weight += 1,
            None => self.sizes.push((known, 1)),
        }
    }

    fn end_line(&mut self) {
        let Some(mut line) = self.line.take() else {
            return;
        };
        let sizes = std::mem::take(&mut self.sizes);
        line.size = sizes
            .into_iter()
            .max_by_key(|(_, weight)| *weight)
            .map_or(0.0, |(size, _)| size);
        line.text.truncate(line.text.trim_end().len());
        if !line.text.is_empty() {
            self.lines.push(line);
        }
    }

    /// Guesses differ from line to line: all such lines get their average, so that none
    /// looks like a heading by chance.
    fn set_unknown_sizes(&mut self) {
        let average = self.guessed.0 / self.guessed.1;
        for line in self.lines.iter_mut().filter(|line| line.size == UNKNOWN) {
            line.size = average;
        }
    }
}

/// An accent and the letter under it, which old fonts draw one after the other: the
/// last character of `text` and `character` as one, if they stand on each other.
fn accented(text: &str, character: char, pen: Pen, glyph: &Placed) -> Option<char> {
    let combining = |character| {
        Some(match character {
            '\u{b4}' | '\u{2ca}' => '\u{301}',
            '`' | '\u{2cb}' => '\u{300}',
            '\u{a8}' => '\u{308}',
            '\u{2c6}' | '^' => '\u{302}',
            '\u{2dc}' | '~' => '\u{303}',
            '\u{b8}' => '\u{327}',
            '\u{2c7}' => '\u{30c}',
            '\u{2da}' => '\u{30a}',
            '\u{af}' => '\u{304}',
            '\u{2d8}' => '\u{306}',
            '\u{2d9}' => '\u{307}',
            _ => return None,
        })
    };
    let last = text.chars().next_back()?;
    let over = (glyph.start - pen.start).hypot() < 0.4 * glyph.size
        && glyph.start.x < pen.end.x - 0.1 * glyph.size;
    if !over {
        return None;
    }
    match (combining(last), combining(character)) {
        (Some(accent), None) => compose(
            if character == '\u{131}' {
                'i'
            } else {
                character
            },
            accent,
        ),
        (None, Some(accent)) => compose(last, accent),
        _ => None,
    }
}

impl Device<'_> for Collector {
    fn draw_glyph_run(&mut self, run: &GlyphRun<'_, '_>, props: DrawProps<'_>, _: &DrawMode) {
        let growth = bitmap::growth(run);
        for glyph in run.glyphs() {
            let by_code = || bitmap::by_tex_code(glyph).filter(|_| self.is_by_tex);
            let Some(text) = glyph.as_unicode().or_else(by_code) else {
                continue;
            };
            let transform = props.transform * glyph.transform();
            if let Some(placed) = place(glyph, text, transform, growth) {
                self.add(placed);
            }
        }
    }

    fn draw_path(&mut self, _: &BezPath, _: DrawProps<'_>, _: &DrawMode) {}
    fn push_clip_path(&mut self, _: &ClipPath) {}
    fn push_transparency_group(&mut self, _: f32, _: Option<SoftMask<'_>>, _: BlendMode) {}
    fn draw_image(&mut self, _: Image<'_, '_>, _: ImageDrawProps<'_>) {}
    fn pop_clip(&mut self) {}
    fn pop_transparency_group(&mut self) {}
}

/// Where a glyph stands, by `transform` from thousandths of its size to points; what
/// counts as its size has to grow by `growth`.
fn place(
    glyph: &Glyph<'_>,
    text: BfString,
    transform: Affine,
    growth: Option<f64>,
) -> Option<Placed> {
    let advance = match glyph {
        Glyph::Outline(outline) => outline.advance_width(),
        Glyph::Type3(drawn) => drawn.advance_width(),
    };
    let start = transform * Point::ZERO;
    let em = transform * Point::new(1000.0, 0.0) - start;
    let up = transform * Point::new(0.0, 1000.0) - start;
    // Its height: its width may be stretched to fit where a font was substituted.
    let unit = em.cross(up).abs() / em.hypot();
    let along = em / em.hypot();
    let end = start + along * (unit * f64::from(advance.unwrap_or(500.0)) / 1000.0);
    let size = unit * growth.unwrap_or(1.0);
    let usable = size.is_finite() && size > 0.1 && start.is_finite() && end.is_finite();
    usable.then_some(Placed {
        start,
        end,
        size,
        is_guess: growth.is_some(),
        along: (along.x, along.y),
        text,
    })
}
