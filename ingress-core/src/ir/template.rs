//! Text with variables of a request in it, parsed when the object is read.
//!
//! Invariant: a template is never rendered into text that something parses again as configuration.

/// Text with variables, as nginx writes them: `$host`, `${request_uri}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Template {
    /// Text and variables in turn; never two texts in a row.
    pub parts: Box<[Part]>,
}

/// A piece of a template.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// As it stands.
    Text(Box<str>),
    /// From the request.
    Variable(Variable),
}

/// A variable of a request, by nginx's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Variable {
    /// `$host`: the host in lower case, without a port.
    Host,
    /// `$http_host`: the authority as the client sent it.
    Authority,
    /// `$request_uri`: the request target as the client sent it.
    Target,
    /// `$escaped_request_uri` of ingress-nginx: the target, percent-encoded.
    EscapedTarget,
    /// `$uri`: the path after normalisation.
    Path,
    /// `$args`: the query, without its question mark.
    Query,
    /// `$scheme`: `http` or `https`.
    Scheme,
    /// `$request_method`.
    Method,
    /// `$remote_addr`: the client's address.
    Client,
    /// `$http_NAME`: a request field, by its name in lower case.
    Field(Box<str>),
    /// `$cookie_NAME`.
    Cookie(Box<str>),
    /// `$arg_NAME`: a parameter of the query.
    Parameter(Box<str>),
    /// `$1` to `$9`: what a group of a regular expression has matched, where one belongs to the template.
    Group(u8),
}

impl Template {
    /// A template that is one text.
    pub fn text(text: &str) -> Self {
        Self {
            parts: [Part::Text(text.into())].into(),
        }
    }

    /// The text of a template without variables.
    pub fn as_text(&self) -> Option<&str> {
        match &*self.parts {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The text that it begins with, up to its first variable.
    pub fn leading_text(&self) -> &str {
        match self.parts.first() {
            Some(Part::Text(text)) => text,
            Some(Part::Variable(_)) | None => "",
        }
    }

    /// Whether a variable stands in it.
    pub fn has(&self, variable: &Variable) -> bool {
        let is_it = |part: &Part| matches!(part, Part::Variable(found) if found == variable);
        self.parts.iter().any(is_it)
    }
}
