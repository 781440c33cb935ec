//! The syntax of nginx's configuration: directives with arguments, and blocks.
//!
//! Source: nginx, `ngx_conf_read_token`.

/// A directive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Directive {
    pub(super) name: String,
    pub(super) arguments: Vec<String>,
    /// Whether it has a block, whose contents are left out.
    pub(super) has_block: bool,
}

/// Reads directives.
///
/// # Errors
///
/// In words, for text that is not a sequence of directives, or is too long.
pub(super) fn parse(text: &str) -> Result<Vec<Directive>, String> {
    if text.len() > SNIPPET_BYTES_MAX {
        return Err(format!("has more than {SNIPPET_BYTES_MAX} bytes"));
    }
    let mut directives = Vec::new();
    let mut words: Vec<String> = Vec::new();
    let mut depth = 0_usize;
    let mut tokens = Tokens(text);
    while let Some(token) = tokens.next()? {
        match token {
            Token::Word(word) if depth == 0 => words.push(word),
            Token::End if depth == 0 => directives.push(directive(&mut words, false)?),
            Token::Word(_) | Token::End => {}
            Token::Open => {
                if depth == 0 {
                    directives.push(directive(&mut words, true)?);
                }
                depth += 1;
            }
            Token::Close => {
                depth = depth.checked_sub(1).ok_or("has a `}` without a `{`")?;
            }
        }
    }
    if depth > 0 || !words.is_empty() {
        return Err("ends in the middle of a directive".to_owned());
    }
    Ok(directives)
}

fn directive(words: &mut Vec<String>, has_block: bool) -> Result<Directive, String> {
    let mut words = std::mem::take(words).into_iter();
    let name = words.next().ok_or("has a `;` or `{` without a directive")?;
    Ok(Directive {
        name,
        arguments: words.collect(),
        has_block,
    })
}

enum Token {
    Word(String),
    End,
    Open,
    Close,
}

struct Tokens<'a>(&'a str);

impl Tokens<'_> {
    fn next(&mut self) -> Result<Option<Token>, String> {
        loop {
            self.0 = self.0.trim_start();
            match self.0.strip_prefix('#') {
                Some(comment) => {
                    let end = comment.find('\n').unwrap_or(comment.len());
                    self.0 = &comment[end..];
                }
                None => break,
            }
        }
        let Some(first) = self.0.chars().next() else {
            return Ok(None);
        };
        let rest = &self.0[first.len_utf8()..];
        let token = match first {
            ';' => Token::End,
            '{' => Token::Open,
            '}' => Token::Close,
            '"' | '\'' => return self.quoted(first, rest).map(Some),
            _ => return Ok(Some(self.word())),
        };
        self.0 = rest;
        Ok(Some(token))
    }

    fn quoted(&mut self, quote: char, text: &str) -> Result<Token, String> {
        let mut word = String::new();
        let mut characters = text.char_indices();
        while let Some((at, character)) = characters.next() {
            match character {
                '\\' => {
                    if let Some((_, escaped)) = characters.next() {
                        word.push(escaped);
                    }
                }
                _ if character == quote => {
                    let from = self.0.len() - text.len() + at + quote.len_utf8();
                    self.0 = &self.0[from..];
                    return Ok(Token::Word(word));
                }
                _ => word.push(character),
            }
        }
        Err("has a quote that does not end".to_owned())
    }

    fn word(&mut self) -> Token {
        // `${name}` is part of a word.
        let mut is_braced = false;
        let mut last = ' ';
        let mut end = self.0.len();
        for (at, character) in self.0.char_indices() {
            let opens = character == '{' && last == '$';
            let ends =
                !is_braced && (character.is_whitespace() || matches!(character, ';' | '{' | '}'));
            if ends && !opens {
                end = at;
                break;
            }
            is_braced = (is_braced || opens) && character != '}';
            last = character;
        }
        let (word, rest) = self.0.split_at(end);
        self.0 = rest;
        Token::Word(word.to_owned())
    }
}

const SNIPPET_BYTES_MAX: usize = 64 << 10;
