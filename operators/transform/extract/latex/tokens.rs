//! LaTeX source as tokens: commands, groups, mathematics, text. Comments are gone.

/// Longer than any optional argument.
const OPTION_BYTES: usize = 10_000;

/// A part of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token<'s> {
    /// `\name`, without the backslash and the blanks after it.
    Command(&'s str),
    /// `{`
    Open,
    /// `}`
    Close,
    /// `$` or `$$`
    Dollar(&'s str),
    /// `#1` to `#9`, as it is and as a number from 0.
    Parameter(&'s str, usize),
    /// An empty line.
    Paragraph,
    /// Anything else; line ends in it are blanks.
    Text(&'s str),
}

/// A place in the source.
#[derive(Debug, Clone)]
pub(super) struct Tokens<'s> {
    rest: &'s str,
}

impl<'s> Tokens<'s> {
    pub(super) fn new(source: &'s str) -> Self {
        Self { rest: source }
    }

    /// The argument that comes next: a group without its braces, or one token.
    pub(super) fn argument(&mut self) -> &'s str {
        self.skip_blanks();
        if self.rest.starts_with('{') {
            return self.within('}', usize::MAX).unwrap_or_default();
        }
        let before = self.rest;
        match self.next() {
            // What is not a group is one character, or one command.
            Some(Token::Text(text)) => {
                let length = text.chars().next().map_or(0, char::len_utf8);
                let at = before.find(text).unwrap_or(0);
                self.rest = &before[at + length..];
                &text[..length]
            }
            Some(Token::Command(_) | Token::Parameter(..)) => {
                &before[..before.len() - self.rest.len()]
            }
            _ => {
                self.rest = before;
                ""
            }
        }
    }

    /// An argument in brackets, if one comes next.
    pub(super) fn option(&mut self) -> Option<&'s str> {
        let before = self.rest;
        self.skip_blanks();
        if self.rest.starts_with('[') {
            // What is so long, or never ends, is text in brackets.
            if let Some(option) = self.within(']', OPTION_BYTES) {
                return Some(option);
            }
        }
        self.rest = before;
        None
    }

    /// A star right after a command.
    pub(super) fn star(&mut self) {
        self.rest = self.rest.strip_prefix('*').unwrap_or(self.rest);
    }

    /// What comes before `end`, as it is, and goes past it.
    pub(super) fn until(&mut self, end: &str) -> &'s str {
        let (before, after) = self.rest.split_once(end).unwrap_or((self.rest, ""));
        self.rest = after;
        before
    }

    /// One character, as it is: the delimiter of `\verb`.
    pub(super) fn character(&mut self) -> Option<char> {
        let character = self.rest.chars().next()?;
        self.rest = &self.rest[character.len_utf8()..];
        Some(character)
    }

    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
        while self.rest.starts_with('%') {
            self.skip_comment();
            self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
        }
    }

    /// What stands between an opening character, which comes next, and `close`, if it
    /// is not longer than `most` bytes; braces nest. Without an end it goes on to the end
    /// of all, unless there is a limit.
    fn within(&mut self, close: char, most: usize) -> Option<&'s str> {
        let source = &self.rest[1..];
        let mut depth = 0_usize;
        let mut escaped = false;
        for (at, character) in source.char_indices().take_while(|(at, _)| *at < most) {
            match character {
                _ if escaped => {
                    escaped = false;
                    continue;
                }
                '\\' => escaped = true,
                _ if character == close && depth == 0 => {
                    self.rest = &source[at + 1..];
                    return Some(&source[..at]);
                }
                '{' => depth += 1,
                '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        if most < usize::MAX {
            return None;
        }
        self.rest = "";
        Some(source)
    }

    /// From `%` to the end of the line, with the blanks that begin the next.
    fn skip_comment(&mut self) {
        let end = self.rest.find('\n').map_or(self.rest.len(), |at| at + 1);
        self.rest = self.rest[end..].trim_start_matches([' ', '\t']);
    }

    fn parameter(&mut self) -> Token<'s> {
        let digit = self.rest.as_bytes().get(1).copied().unwrap_or_default();
        let length = match digit {
            b'1'..=b'9' => 2,
            _ => 1,
        };
        let (text, rest) = self.rest.split_at(length);
        self.rest = rest;
        match length {
            2 => Token::Parameter(text, usize::from(digit - b'1')),
            _ => Token::Text(text),
        }
    }

    fn command(&mut self) -> Token<'s> {
        let name = &self.rest[1..];
        let letters = name
            .find(|c: char| !c.is_ascii_alphabetic() && c != '@')
            .unwrap_or(name.len());
        let end = if letters > 0 {
            letters
        } else {
            name.chars().next().map_or(0, char::len_utf8)
        };
        self.rest = &name[end..];
        if letters > 0 {
            let trimmed = self.rest.trim_start_matches([' ', '\t']);
            let line = trimmed.strip_prefix('\n').unwrap_or(trimmed);
            // One line end goes with the command; an empty line stays.
            self.rest = if line.trim_start_matches([' ', '\t']).starts_with('\n') {
                trimmed
            } else {
                line
            };
        }
        Token::Command(&name[..end])
    }
}

impl<'s> Iterator for Tokens<'s> {
    type Item = Token<'s>;

    fn next(&mut self) -> Option<Token<'s>> {
        while self.rest.starts_with('%') {
            self.skip_comment();
        }
        let first = self.rest.chars().next()?;
        let one = |token, tokens: &mut Self| {
            tokens.rest = &tokens.rest[1..];
            token
        };
        Some(match first {
            '\\' => self.command(),
            '{' => one(Token::Open, self),
            '}' => one(Token::Close, self),
            '$' => {
                let (mark, rest) =
                    self.rest
                        .split_at(if self.rest.starts_with("$$") { 2 } else { 1 });
                self.rest = rest;
                Token::Dollar(mark)
            }
            '#' => self.parameter(),
            _ => {
                let end = self
                    .rest
                    .find(['\\', '{', '}', '$', '%', '#'])
                    .unwrap_or(self.rest.len());
                let text = &self.rest[..end];
                match empty_line(text) {
                    Some((0, after)) => {
                        self.rest = &self.rest[after..];
                        Token::Paragraph
                    }
                    Some((at, _)) => {
                        self.rest = &self.rest[at..];
                        Token::Text(&text[..at])
                    }
                    None => {
                        self.rest = &self.rest[end..];
                        Token::Text(text)
                    }
                }
            }
        })
    }
}

/// Where the first empty line of `text` begins and ends.
fn empty_line(text: &str) -> Option<(usize, usize)> {
    let mut from = 0;
    while let Some(at) = text[from..].find('\n').map(|at| from + at) {
        let after = &text[at + 1..];
        let blanks = after.len() - after.trim_start().len();
        if after[..blanks].contains('\n') {
            return Some((at, at + 1 + blanks));
        }
        from = at + 1;
    }
    None
}
