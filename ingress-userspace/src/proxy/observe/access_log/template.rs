//! What a line of the access log looks like: text and variables, by nginx's names.

use std::str::FromStr as _;

use http::HeaderName;
use thiserror::Error;

use super::block::PIECE_BYTES;
use crate::proxy::runtime::field::X_REQUEST_ID;

/// A parsed format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    pub(crate) segments: Vec<Segment>,
    pub(crate) escape: Escape,
    /// Request fields that have to be kept until the request ends.
    pub(crate) fields: Vec<HeaderName>,
    /// Of their names, and of that of a request's id.
    pub(crate) lengths: Lengths,
    /// Whether the port that the client connected to has to be kept as well.
    pub(crate) has_port: bool,
}

/// Lengths of names: most fields of a request differ from all that are kept by that alone. Those of
/// 63 bytes and more are taken for one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lengths(u64);

/// How values are made safe for where they stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escape {
    /// `"`, `\` and what is no printable ASCII as `\xHH`; `-` for nothing (nginx's default).
    Text,
    /// As in a JSON string; nothing for nothing.
    Json,
}

/// A text and a variable after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Only its beginning counts.
    pub(crate) text: [u8; PIECE_BYTES],
    pub(crate) length: u8,
    pub(crate) variable: Variable,
}

/// Something about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variable {
    RemoteAddr,
    RemoteUser(usize),
    TimeLocal,
    TimeIso8601,
    Msec,
    Request,
    RequestMethod,
    RequestUri,
    Uri,
    Args,
    ServerProtocol,
    ServerPort,
    Scheme,
    Host(usize),
    Status,
    BodyBytesSent,
    BytesSent,
    RequestLength,
    RequestTime,
    UpstreamName,
    UpstreamAddr,
    UpstreamStatus,
    UpstreamResponseLength,
    UpstreamResponseTime,
    UpstreamHeaderTime,
    UpstreamConnectTime,
    RequestId,
    TraceId(usize),
    Namespace,
    Ingress,
    Service,
    ServicePort,
    Path,
    /// A request field, by its place in `Template::fields`.
    Field(usize),
    /// ingress-nginx's canary, and after a text without a variable.
    Nothing,
}

/// Why a format cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TemplateError {
    /// A `$` without a name after it.
    #[error("`$` at byte {0} has no name after it")]
    NoName(usize),
    /// A `${` without its end.
    #[error("`${{` at byte {0} is not closed")]
    Unclosed(usize),
    /// A variable that we do not know.
    #[error("variable `${0}` is unknown")]
    Unknown(String),
    /// Longer than any line should be.
    #[error("format is {0} bytes long, at most {FORMAT_BYTES_MAX} are allowed")]
    TooLong(usize),
}

impl Template {
    /// ingress-nginx's default (`log-format-upstream`).
    pub fn nginx() -> Self {
        Self::known(NGINX, Escape::Text)
    }

    /// One JSON object a line.
    pub fn json() -> Self {
        Self::known(JSON, Escape::Json)
    }

    fn known(format: &str, escape: Escape) -> Self {
        let template = Self::parse(format, escape);
        debug_assert!(template.is_ok(), "{template:?}");
        template.unwrap_or(Self::empty(escape))
    }

    fn empty(escape: Escape) -> Self {
        Self {
            segments: Vec::new(),
            escape,
            fields: Vec::new(),
            lengths: Lengths::default().with(&X_REQUEST_ID),
            has_port: false,
        }
    }

    /// Reads a format with variables like `$status` or `${status}`.
    pub fn parse(format: &str, escape: Escape) -> Result<Self, TemplateError> {
        if format.len() > FORMAT_BYTES_MAX {
            return Err(TemplateError::TooLong(format.len()));
        }
        let mut template = Self::empty(escape);
        let (mut rest, mut text) = (format, String::new());
        while let Some(at) = rest.find('$') {
            let place = format.len() - rest.len() + at;
            let (name, after) = split_name(&rest[at + 1..], place)?;
            text.push_str(&rest[..at]);
            rest = after;
            // What is always empty joins the texts around it.
            let variable = template.variable(name)?;
            if variable != Variable::Nothing {
                template.push(&std::mem::take(&mut text), variable);
            }
        }
        text.push_str(rest);
        text.push('\n');
        template.push(&text, Variable::Nothing);
        Ok(template)
    }

    fn push(&mut self, text: &str, variable: Variable) {
        self.has_port |= variable == Variable::ServerPort;
        let mut rest = text.as_bytes();
        while let Some((text, after)) = rest.split_first_chunk() {
            self.segments.push(Segment {
                text: *text,
                length: u8::try_from(text.len()).unwrap_or(0),
                variable: Variable::Nothing,
            });
            rest = after;
        }
        let mut text = [0; PIECE_BYTES];
        text[..rest.len()].copy_from_slice(rest);
        self.segments.push(Segment {
            text,
            length: u8::try_from(rest.len()).unwrap_or(0),
            variable,
        });
    }

    fn variable(&mut self, name: &str) -> Result<Variable, TemplateError> {
        let unknown = || TemplateError::Unknown(name.to_owned());
        Ok(match name {
            "remote_user" => Variable::RemoteUser(self.field("authorization")),
            "host" | "server_name" => Variable::Host(self.field("host")),
            "trace_id" | "opentelemetry_trace_id" => Variable::TraceId(self.field("traceparent")),
            _ => match (name.strip_prefix("http_"), variable(name)) {
                (Some(field), _) => {
                    let field = field.replace('_', "-");
                    HeaderName::from_str(&field).map_err(|_| unknown())?;
                    Variable::Field(self.field(&field))
                }
                (None, Some(variable)) => variable,
                (None, None) => return Err(unknown()),
            },
        })
    }

    /// The place of a field that is kept.
    fn field(&mut self, name: &str) -> usize {
        let known = self.fields.iter().position(|field| field == name);
        known.unwrap_or_else(|| {
            if let Ok(name) = HeaderName::from_str(name) {
                self.lengths = self.lengths.with(&name);
                self.fields.push(name);
            }
            self.fields.len() - 1
        })
    }
}

impl Lengths {
    fn with(self, name: &HeaderName) -> Self {
        Self(self.0 | Self::bit(name))
    }

    /// Whether a name is as long as one of them.
    #[inline]
    pub(crate) fn has(self, name: &HeaderName) -> bool {
        self.0 & Self::bit(name) != 0
    }

    fn bit(name: &HeaderName) -> u64 {
        1 << name.as_str().len().min(63)
    }
}

/// The name at the start of a text, and what comes after it.
fn split_name(text: &str, place: usize) -> Result<(&str, &str), TemplateError> {
    if let Some(braced) = text.strip_prefix('{') {
        return braced.split_once('}').ok_or(TemplateError::Unclosed(place));
    }
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let end = text.find(|c| !is_name(c)).unwrap_or(text.len());
    if end == 0 {
        return Err(TemplateError::NoName(place));
    }
    Ok(text.split_at(end))
}

fn variable(name: &str) -> Option<Variable> {
    Some(match name {
        "remote_addr" | "the_real_ip" | "realip_remote_addr" => Variable::RemoteAddr,
        "time_local" => Variable::TimeLocal,
        "time_iso8601" => Variable::TimeIso8601,
        "msec" => Variable::Msec,
        "request" => Variable::Request,
        "request_method" => Variable::RequestMethod,
        "request_uri" => Variable::RequestUri,
        "uri" => Variable::Uri,
        "args" | "query_string" => Variable::Args,
        "server_protocol" => Variable::ServerProtocol,
        "server_port" => Variable::ServerPort,
        "scheme" => Variable::Scheme,
        "status" => Variable::Status,
        "body_bytes_sent" => Variable::BodyBytesSent,
        "bytes_sent" => Variable::BytesSent,
        "request_length" => Variable::RequestLength,
        "request_time" => Variable::RequestTime,
        "proxy_upstream_name" => Variable::UpstreamName,
        "proxy_alternative_upstream_name" => Variable::Nothing,
        "upstream_addr" => Variable::UpstreamAddr,
        "upstream_status" => Variable::UpstreamStatus,
        "upstream_response_length" | "upstream_bytes_received" => Variable::UpstreamResponseLength,
        "upstream_response_time" => Variable::UpstreamResponseTime,
        "upstream_header_time" => Variable::UpstreamHeaderTime,
        "upstream_connect_time" => Variable::UpstreamConnectTime,
        "req_id" | "request_id" => Variable::RequestId,
        "namespace" => Variable::Namespace,
        "ingress_name" => Variable::Ingress,
        "service_name" => Variable::Service,
        "service_port" => Variable::ServicePort,
        "location_path" => Variable::Path,
        _ => return None,
    })
}

/// `log-format-upstream` of ingress-nginx.
const NGINX: &str = concat!(
    r#"$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "#,
    r#""$http_referer" "$http_user_agent" $request_length $request_time "#,
    "[$proxy_upstream_name] [$proxy_alternative_upstream_name] $upstream_addr ",
    "$upstream_response_length $upstream_response_time $upstream_status $req_id",
);

const JSON: &str = concat!(
    r#"{"time":"$time_iso8601","remote_addr":"$remote_addr","remote_user":"$remote_user","#,
    r#""request_id":"$req_id","trace_id":"$trace_id","method":"$request_method","#,
    r#""scheme":"$scheme","host":"$host","uri":"$request_uri","protocol":"$server_protocol","#,
    r#""status":$status,"request_length":$request_length,"bytes_sent":$bytes_sent,"#,
    r#""body_bytes_sent":$body_bytes_sent,"request_time":$request_time,"#,
    r#""referer":"$http_referer","user_agent":"$http_user_agent","namespace":"$namespace","#,
    r#""ingress":"$ingress_name","service":"$service_name","path":"$location_path","#,
    r#""upstream_addr":"$upstream_addr","upstream_status":"$upstream_status","#,
    r#""upstream_response_length":"$upstream_response_length","#,
    r#""upstream_response_time":"$upstream_response_time"}"#,
);

/// Bytes of a format.
const FORMAT_BYTES_MAX: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_variables_are_told_apart() {
        let parsed = Template::parse("a ${status}b$uri", Escape::Text).unwrap();
        let expected = [
            ("a ", Variable::Status),
            ("b", Variable::Uri),
            ("\n", Variable::Nothing),
        ];
        assert_eq!(pairs(&parsed), expected);
    }

    #[test]
    fn a_long_text_stands_in_several_pieces() {
        let text = "0123456789".repeat(7);
        let parsed = Template::parse(&format!("{text}$status"), Escape::Text).unwrap();
        let expected = [
            (&text[..32], Variable::Nothing),
            (&text[32..64], Variable::Nothing),
            (&text[64..], Variable::Status),
            ("\n", Variable::Nothing),
        ];
        assert_eq!(pairs(&parsed), expected);
    }

    fn pairs(template: &Template) -> Vec<(&str, Variable)> {
        let mut pairs = Vec::new();
        for Segment {
            text,
            length,
            variable,
        } in &template.segments
        {
            pairs.push((
                str::from_utf8(&text[..usize::from(*length)]).unwrap(),
                *variable,
            ));
        }
        pairs
    }

    #[test]
    fn a_field_is_kept_once() {
        let format = "$http_x_a $http_x_a $host $http_host $remote_user";
        let parsed = Template::parse(format, Escape::Text).unwrap();
        assert_eq!(parsed.fields, ["x-a", "host", "authorization"]);
    }

    #[test]
    fn no_field_that_is_kept_is_passed_over() {
        let long = "a_".repeat(40);
        let parsed = Template::parse(&format!("$http_{long}x $host"), Escape::Text).unwrap();
        for name in parsed.fields.iter().chain([&X_REQUEST_ID]) {
            assert!(parsed.lengths.has(name), "{name}");
        }
        assert!(!parsed.lengths.has(&http::header::ACCEPT));
    }

    #[test]
    fn invalid_formats_are_reported() {
        for (format, error) in [
            ("a $", TemplateError::NoName(2)),
            ("$$status", TemplateError::NoName(0)),
            ("ab${status", TemplateError::Unclosed(2)),
            ("$nothing", TemplateError::Unknown("nothing".to_owned())),
            ("${}", TemplateError::Unknown(String::new())),
            ("$http_", TemplateError::Unknown("http_".to_owned())),
        ] {
            assert_eq!(
                Template::parse(format, Escape::Text),
                Err(error),
                "{format}"
            );
        }
        let long = "x".repeat(FORMAT_BYTES_MAX + 1);
        assert!(Template::parse(&long, Escape::Text).is_err());
    }

    #[test]
    fn formats_of_our_own_are_good() {
        assert_eq!(Template::nginx().fields.len(), 3);
        assert!(Template::json().segments.len() > 20);
    }
}
