//! Macros that a document defines, and what stands for their parameters. Nothing is
//! copied: where a parameter stands, the argument is entered, and in it those parameters
//! hold that held where it was given.

use std::borrow::Cow;
use std::rc::Rc;

use super::commands;
use super::tokens::{Token, Tokens};

/// Of mathematics with parameters no more than this is written, in bytes and in pieces:
/// arguments that hold each other twice would have no end.
const MOST_SUBSTITUTED: usize = 100_000;

/// A macro as it was defined.
#[derive(Debug, Clone, Copy)]
pub(super) struct Macro<'s> {
    pub(super) body: &'s str,
    parameters: usize,
    /// What the first stands for where it is not given in brackets.
    default: Option<&'s str>,
}

impl<'s> Macro<'s> {
    /// What comes after `\newcommand`, with the name that it defines; `None` for what
    /// is not to be expanded.
    pub(super) fn of_latex(tokens: &mut Tokens<'s>) -> Option<(&'s str, Self)> {
        tokens.star();
        let name = tokens.argument();
        let parameters = tokens.option();
        let default = tokens.option();
        let found = Self {
            body: tokens.argument(),
            parameters: match parameters {
                Some(count) => count.trim().parse().ok()?,
                None => 0,
            },
            default,
        };
        found.named(name)
    }

    /// What comes after `\def`.
    pub(super) fn of_tex(tokens: &mut Tokens<'s>) -> Option<(&'s str, Self)> {
        let name = tokens.argument();
        let (mut parameters, mut is_plain) = (0, true);
        while !matches!(tokens.clone().next(), None | Some(Token::Open)) {
            is_plain &= matches!(tokens.next(), Some(Token::Parameter(_, at)) if at == parameters);
            parameters += 1;
        }
        let body = tokens.argument();
        let found = Self {
            body,
            parameters,
            default: None,
        };
        // What is delimited by other things is read as its arguments.
        is_plain.then(|| found.named(name)).flatten()
    }

    fn named(self, name: &'s str) -> Option<(&'s str, Self)> {
        let name = name.trim().strip_prefix('\\')?.trim_end();
        let is_kept = match self.parameters {
            0 => !self.body.trim().is_empty(),
            _ => !commands::is_understood(name),
        };
        (is_kept && !name.is_empty() && self.parameters <= 9).then_some((name, self))
    }

    /// The arguments that come next.
    pub(super) fn read_arguments(&self, tokens: &mut Tokens<'s>) -> Vec<&'s str> {
        let mut given = Vec::with_capacity(self.parameters);
        if let Some(default) = self.default.filter(|_| self.parameters > 0) {
            given.push(tokens.option().unwrap_or(default));
        }
        while given.len() < self.parameters {
            given.push(tokens.argument());
        }
        given
    }
}

/// What the parameters of a part of the source stand for.
#[derive(Debug, Clone, Default)]
pub(super) struct Arguments<'s>(Option<Rc<Given<'s>>>);

#[derive(Debug)]
struct Given<'s> {
    each: Vec<&'s str>,
    /// What parameters in these stand for.
    outer: Arguments<'s>,
}

impl<'s> Arguments<'s> {
    /// Those of a macro, which were given where `outer` holds.
    pub(super) fn of(each: Vec<&'s str>, outer: Self) -> Self {
        match each.is_empty() {
            true => Self::default(),
            false => Self(Some(Rc::new(Given { each, outer }))),
        }
    }

    /// An argument by its number from 0, with what holds in it.
    pub(super) fn get(&self, number: usize) -> Option<(&'s str, Self)> {
        let given = self.0.as_ref()?;
        let source = given.each.get(number)?;
        Some((source, given.outer.clone()))
    }

    /// A text that is not read any further, with arguments in place of parameters.
    pub(super) fn substituted(&self, text: &'s str) -> Cow<'s, str> {
        if self.0.is_none() || !text.contains('#') {
            return Cow::Borrowed(text);
        }
        let mut out = String::new();
        // Pieces that are still to be written, the next one last.
        let mut pieces = vec![(text, self.clone())];
        for _ in 0..MOST_SUBSTITUTED {
            let Some((text, arguments)) = pieces.pop() else {
                break;
            };
            if out.len() + text.len() > MOST_SUBSTITUTED {
                break;
            }
            let Some(at) = text.find('#').filter(|_| arguments.0.is_some()) else {
                out.push_str(text);
                continue;
            };
            let (before, rest) = text.split_at(at);
            out.push_str(before);
            match Tokens::new(rest).next() {
                Some(Token::Parameter(parameter, number)) if !before.ends_with('\\') => {
                    let found = arguments.get(number);
                    pieces.push((&rest[parameter.len()..], arguments));
                    pieces.push(found.unwrap_or((parameter, Self::default())));
                }
                _ => {
                    out.push('#');
                    pieces.push((&rest[1..], arguments));
                }
            }
        }
        Cow::Owned(out)
    }
}
