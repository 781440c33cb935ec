//! From the text of a file to objects, with the line of every mistake.
//!
//! YAML comes from the outside and can be hostile: `serde-saphyr` has no unsafe code and bounds
//! nodes, depth and what aliases expand to.

use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_saphyr::{MessageFormatter, Options, Spanned, UserMessageFormatter};
use tracing::debug;

use super::object::{Kind, Located, Object, ObjectSeed};

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Any number of documents.
    Yaml,
    /// One document. YAML has JSON within it except for tabs; its own reader takes them all.
    Json,
}

/// What is wrong with a text, and where.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) line: Option<u64>,
    pub(super) message: String,
}

/// Reads every object that has a say in the configuration.
pub(super) fn read(text: &str, format: Format) -> Result<Vec<Located>, Fault> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut objects = Vec::new();
    match format {
        Format::Json => read_document(text, format, &mut objects)?,
        Format::Yaml => {
            for Document { line, text } in documents(text) {
                let before = objects.len();
                read_document(text, format, &mut objects).map_err(|fault| Fault {
                    line: fault.line.map(|at| at + line - 1),
                    ..fault
                })?;
                for located in objects.iter_mut().skip(before) {
                    located.line += line - 1;
                }
            }
        }
    }
    Ok(objects)
}

/// Reads one document: an object, a list of objects or nothing.
fn read_document(text: &str, format: Format, objects: &mut Vec<Located>) -> Result<(), Fault> {
    let Some(head) = format.read(text, Seed::<Option<Head>>::new())? else {
        return Ok(());
    };
    let line = first_line(text);
    let (Some(api_version), Some(kind)) = (head.api_version, head.kind) else {
        let message = "object has no `apiVersion` or no `kind`".to_owned();
        return Err(Fault {
            line: Some(line),
            message,
        });
    };
    if let Some(defaults) = ItemDefaults::of(&api_version, &kind) {
        let items = format.read_items(text, defaults)?;
        let (lines, kinds): (Vec<_>, Vec<_>) = items.into_iter().unzip();
        if kinds.iter().any(Option::is_some) {
            let items = format.read(text, ListSeed { kinds })?;
            for (line, object) in lines.into_iter().zip(items) {
                objects.extend(object.map(|object| named(line, object)).transpose()?);
            }
        }
        return Ok(());
    }
    let Some(kind) = Kind::of(&api_version, &kind) else {
        debug!(api_version, kind, "skipped: this kind has no say");
        return Ok(());
    };
    let object = format.read(text, ObjectSeed(Some(kind)))?;
    objects.extend(object.map(|object| named(line, object)).transpose()?);
    Ok(())
}

/// Every object needs a name; `generateName` is for the API server to fill.
fn named(line: u64, object: Object) -> Result<Located, Fault> {
    if object.reference().name.is_empty() {
        let message = "object has no `metadata.name`".to_owned();
        return Err(Fault {
            line: Some(line),
            message,
        });
    }
    Ok(Located { line, object })
}

impl Format {
    fn read<'de, S: DeserializeSeed<'de>>(
        self,
        text: &'de str,
        seed: S,
    ) -> Result<S::Value, Fault> {
        match self {
            Self::Json => {
                let mut deserializer = serde_json::Deserializer::from_str(text);
                let value = seed.deserialize(&mut deserializer).map_err(json_fault)?;
                deserializer.end().map_err(json_fault)?;
                Ok(value)
            }
            Self::Yaml => serde_saphyr::with_deserializer_from_str_with_options(
                text,
                yaml_options(),
                |deserializer| seed.deserialize(deserializer),
            )
            .map_err(|error| yaml_fault(&error)),
        }
    }

    /// The line and kind of every item of a list; lines are known in YAML only.
    fn read_items(
        self,
        text: &str,
        defaults: ItemDefaults<'_>,
    ) -> Result<Vec<(u64, Option<Kind>)>, Fault> {
        Ok(match self {
            Self::Json => {
                let items: Items<Head> = self.read(text, Seed::new())?;
                let items = items.items.unwrap_or_default();
                items
                    .into_iter()
                    .map(|head| (1, defaults.kind_of(&head)))
                    .collect()
            }
            Self::Yaml => {
                let items: Items<Spanned<Head>> = self.read(text, Seed::new())?;
                let items = items.items.unwrap_or_default().into_iter();
                items
                    .map(|head| (head.defined.line(), defaults.kind_of(&head.value)))
                    .collect()
            }
        })
    }
}

/// What tells the type of an object.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    api_version: Option<String>,
    kind: Option<String>,
}

#[derive(Deserialize)]
struct Items<T> {
    items: Option<Vec<T>>,
}

/// What the items of a typed list (`IngressList`) are, when they do not say so themselves.
#[derive(Clone, Copy)]
struct ItemDefaults<'a> {
    api_version: &'a str,
    kind: &'a str,
}

impl<'a> ItemDefaults<'a> {
    /// `None` when a kind is no list that may hold what has a say.
    fn of(api_version: &'a str, list_kind: &'a str) -> Option<Self> {
        let kind = list_kind.strip_suffix("List")?;
        let is_list = (api_version, list_kind) == ("v1", "List");
        (is_list || Kind::of(api_version, kind).is_some()).then_some(Self { api_version, kind })
    }

    fn kind_of(self, head: &Head) -> Option<Kind> {
        let api_version = head.api_version.as_deref().unwrap_or(self.api_version);
        Kind::of(api_version, head.kind.as_deref().unwrap_or(self.kind))
    }
}

/// Reads a type that needs no seed.
struct Seed<T>(std::marker::PhantomData<T>);

impl<T> Seed<T> {
    fn new() -> Self {
        Self(std::marker::PhantomData)
    }
}

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for Seed<T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        T::deserialize(deserializer)
    }
}

/// Reads `items` of a list, each by the kind that an earlier pass found: a kind may be written
/// after the fields that it gives a meaning to.
struct ListSeed {
    kinds: Vec<Option<Kind>>,
}

impl<'de> DeserializeSeed<'de> for ListSeed {
    type Value = Vec<Option<Object>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ListSeed {
    type Value = Vec<Option<Object>>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a list of objects")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        let mut kinds = Some(self.kinds);
        while let Some(key) = map.next_key::<String>()? {
            match kinds.take_if(|_| key == "items") {
                Some(kinds) => items = map.next_value_seed(ItemsSeed { kinds })?,
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(items)
    }
}

struct ItemsSeed {
    kinds: Vec<Option<Kind>>,
}

impl<'de> DeserializeSeed<'de> for ItemsSeed {
    type Value = Vec<Option<Object>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for ItemsSeed {
    type Value = Vec<Option<Object>>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the objects of a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::with_capacity(self.kinds.len());
        for kind in self.kinds {
            let item = seq.next_element_seed(ObjectSeed(kind))?;
            items.push(item.ok_or_else(|| A::Error::custom("list became shorter"))?);
        }
        Ok(items)
    }
}

struct Document<'a> {
    /// Where it starts in the file, from 1.
    line: u64,
    text: &'a str,
}

/// Cuts a YAML stream at its document markers. They stand at the start of a line, where no
/// scalar can have them (YAML 1.2.2 sections 9.1.2 and 9.1.4), so the text need not be parsed.
fn documents(text: &str) -> Vec<Document<'_>> {
    let mut documents = Vec::new();
    let mut start = Document { line: 1, text };
    let mut has_content = false;
    let mut offset = 0;
    for (line, number) in text.split_inclusive('\n').zip(1..) {
        let is_start = is_marker(line, "---");
        // Directives and comments before a marker belong to the document after it.
        if is_start && has_content {
            let (before, after) = start.text.split_at(offset);
            documents.push(Document {
                line: start.line,
                text: before,
            });
            start = Document {
                line: number,
                text: after,
            };
            offset = 0;
        }
        offset += line.len();
        if is_marker(line, "...") {
            let (before, after) = start.text.split_at(offset);
            documents.push(Document {
                line: start.line,
                text: before,
            });
            start = Document {
                line: number + 1,
                text: after,
            };
            offset = 0;
            has_content = false;
        } else {
            has_content |=
                is_start || !matches!(line.trim_start().as_bytes(), [] | [b'#' | b'%', ..]);
        }
    }
    if !start.text.is_empty() {
        documents.push(start);
    }
    documents
}

fn is_marker(line: &str, marker: &str) -> bool {
    line.strip_prefix(marker)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

/// The line of the first content in a document.
fn first_line(text: &str) -> u64 {
    let is_content = |line: &str| {
        !is_marker(line, "---") && !matches!(line.trim_start().as_bytes(), [] | [b'#' | b'%', ..])
    };
    let found = text.lines().zip(1..).find(|(line, _)| is_content(line));
    found.map_or(1, |(_, number)| number)
}

fn yaml_options() -> Options {
    serde_saphyr::options! {
        with_snippet: false,
        budget: serde_saphyr::budget! {
            max_nodes: NODES_MAX,
            max_events: 4 * NODES_MAX,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: REPLAYED_MAX,
        },
    }
}

fn yaml_fault(error: &serde_saphyr::Error) -> Fault {
    let line = error
        .location()
        .map(|location| location.line())
        .filter(|line| *line > 0);
    Fault {
        line,
        message: printable(&UserMessageFormatter.format_message(error)),
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the shape that `map_err` wants"
)]
fn json_fault(error: serde_json::Error) -> Fault {
    let (line, column) = (error.line(), error.column());
    let text = error.to_string();
    let place = format!(" at line {line} column {column}");
    let message = printable(text.strip_suffix(&place).unwrap_or(&text));
    Fault {
        line: u64::try_from(line).ok().filter(|line| *line > 0),
        message,
    }
}

/// A message quotes the file: control characters in it must not reach a terminal.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// Bound of the nodes of one document: a list of 50,000 Ingresses fits.
const NODES_MAX: usize = 4_000_000;
/// Bound of what the aliases of one document expand to.
const REPLAYED_MAX: usize = 100_000;

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::{Index, select};

    use super::*;

    const MANIFEST: &str = "# head\n---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: \
         &meta {name: a}\nspec:\n  rules:\n  - host: \"*.test\"\n    http:\n      paths:\n      - \
         path: /\n        backend: {service: {name: web, port: {number: 80}}}\n--- # next\n\
         apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Secret, metadata: *meta, \
         data: {k: dg==}}\n...\n";

    proptest! {
        #[test]
        fn nothing_panics_on_any_text(text in any::<String>()) {
            let _ = read(&text, Format::Yaml);
            let _ = read(&text, Format::Json);
        }

        #[test]
        fn nothing_panics_on_a_damaged_manifest(
            damage in vec((any::<Index>(), select(vec!["", "\n", "{", "[", "*", "&a", "|", "- ", "---", ": ", "\t", "\"", "é"])), 1..6),
        ) {
            let mut text: Vec<char> = MANIFEST.chars().collect();
            for (place, piece) in damage {
                let place = place.index(text.len());
                text.splice(place..=place, piece.chars());
            }
            let _ = read(&text.into_iter().collect::<String>(), Format::Yaml);
        }

        #[test]
        fn cutting_loses_nothing_and_knows_its_lines(
            lines in vec(select(vec!["---", "--- a", "...", "# c", "", "a: 1", " ---", "----", "%D"]), 0..12),
        ) {
            let text = lines.join("\n");
            let documents = documents(&text);
            let joined: String = documents.iter().map(|document| document.text).collect();
            prop_assert_eq!(&joined, &text);
            let mut before = String::new();
            for document in documents {
                prop_assert_eq!(before.matches('\n').count() as u64 + 1, document.line);
                before += document.text;
            }
        }
    }

    #[test]
    fn the_sound_manifest_of_these_tests_is_read() {
        assert_eq!(
            read(MANIFEST, Format::Yaml)
                .map(|objects| objects.len())
                .unwrap_err()
                .line,
            Some(17)
        );
        let sound = MANIFEST.replace("*meta", "{name: b}");
        assert_eq!(read(&sound, Format::Yaml).unwrap().len(), 2);
    }
}
