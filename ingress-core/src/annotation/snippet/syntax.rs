//! The syntax of nginx's configuration: directives with arguments, and blocks.
//!
//! Source: nginx, `ngx_conf_read_token`.

/// A directive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Directive {
    pub(super) name: String,
    pub(super) arguments: Vec<String>,
    /// The directives of its block, if it has one.
    pub(super) block: Option<Vec<Directive>>,
}

/// Reads directives.
///
/// # Errors
///
/// In words, for text that is not a sequence of directives, is too long, or has blocks in too many
/// blocks.
pub(super) fn parse(text: &str) -> Result<Vec<Directive>, String> {
    if text.len() > SNIPPET_BYTES_MAX {
        return Err(format!("has more than {SNIPPET_BYTES_MAX} bytes"));
    }
    // The directives of each open block, and the words that it stands behind.
    let mut outer: Vec<(Vec<Directive>, Vec<String>)> = Vec::new();
    let mut directives = Vec::new();
    let mut words: Vec<String> = Vec::new();
    let mut tokens = Tokens(text);
    while let Some(token) = tokens.next()? {
        match token {
            Token::Word(word) => words.push(word),
            Token::End => directives.push(directive(std::mem::take(&mut words), None)?),
            Token::Open if outer.len() == DEPTH_MAX => {
                return Err(format!("has more than {DEPTH_MAX} blocks in each other"));
            }
            Token::Open => {
                outer.push((std::mem::take(&mut directives), std::mem::take(&mut words)));
            }
            Token::Close if !words.is_empty() => {
                return Err("has a `}` in the middle of a directive".to_owned());
            }
            Token::Close => {
                let (before, words) = outer.pop().ok_or("has a `}` without a `{`")?;
                let block = std::mem::replace(&mut directives, before);
                directives.push(directive(words, Some(block))?);
            }
        }
    }
    if !outer.is_empty() || !words.is_empty() {
        return Err("ends in the middle of a directive".to_owned());
    }
    Ok(directives)
}

fn directive(words: Vec<String>, block: Option<Vec<Directive>>) -> Result<Directive, String> {
    let mut words = words.into_iter();
    let name = words.next().ok_or("has a `;` or `{` without a directive")?;
    Ok(Directive {
        name,
        arguments: words.collect(),
        block,
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
                '\\' => match characters.next() {
                    Some((_, escaped)) => unescape(escaped, &mut word),
                    None => break,
                },
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
            if last == '\\' {
                // An escaped character does not end the word, and is no escape itself.
                last = ' ';
                continue;
            }
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
        let (text, rest) = self.0.split_at(end);
        self.0 = rest;
        let mut word = String::new();
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            match character {
                '\\' => match characters.next() {
                    Some(escaped) => unescape(escaped, &mut word),
                    None => word.push('\\'),
                },
                _ => word.push(character),
            }
        }
        Token::Word(word)
    }
}

/// Appends what a backslash and this character mean. Before most characters a backslash stays, so that
/// regular expressions need no second one.
fn unescape(escaped: char, word: &mut String) {
    match escaped {
        '"' | '\'' | '\\' => word.push(escaped),
        't' => word.push('\t'),
        'r' => word.push('\r'),
        'n' => word.push('\n'),
        _ => word.extend(['\\', escaped]),
    }
}

const SNIPPET_BYTES_MAX: usize = 64 << 10;
const DEPTH_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_read_with_what_is_in_them() {
        let found = parse("a b { c; d { e 'f g'; } } h;").unwrap();
        let plain = |words: &str| {
            let mut words = words.split('|').map(str::to_owned);
            Directive {
                name: words.next().unwrap(),
                arguments: words.collect(),
                block: None,
            }
        };
        let with = |directive: Directive, block: Vec<Directive>| Directive {
            block: Some(block),
            ..directive
        };
        let inner = with(plain("d"), vec![plain("e|f g")]);
        let outer = with(plain("a|b"), vec![plain("c"), inner]);
        assert_eq!(found, [outer, plain("h")]);
        for wrong in [
            "a {",
            "a }",
            "a { b }",
            "{ }",
            "a { b { c { d { e { } } } } }",
        ] {
            parse(wrong).unwrap_err();
        }
    }

    #[test]
    fn backslashes_stay_but_before_quotes_and_themselves() {
        let words = |text: &str| parse(text).unwrap()[0].arguments.clone();
        assert_eq!(words(r"a \.php$ b\;c;"), [r"\.php$", r"b\;c"]);
        assert_eq!(
            words(r#"a "\.php\"" 'x\\y' "\t";"#),
            [r#"\.php""#, r"x\y", "\t"]
        );
        assert_eq!(
            words(r#"a ($b ~* "(c|d)") ${e}f;"#),
            ["($b", "~*", "(c|d)", ")", "${e}f"]
        );
    }
}
