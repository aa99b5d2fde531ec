//! The neutral picture of the API that every emitter reads: operations, types and error kinds, without Rust in it.

use dunnage::catalog::{Bytes, Target};
use serde_json::Value;

/// All of the API.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    /// The version of the library, such as `0.1.0`.
    pub(crate) version: String,
    /// The operations, in the catalogue's order.
    pub(crate) operations: Vec<Operation>,
    /// Every struct and enum that an operation, the configuration or an event needs, ordered by name.
    pub(crate) types: Vec<TypeDef>,
    /// The error kinds, in the order of their numbers.
    pub(crate) errors: Vec<ErrorDef>,
}

/// One operation.
#[derive(Debug, Clone)]
pub(crate) struct Operation {
    /// `noun.verb`.
    pub(crate) name: String,
    /// What stands before the dot.
    pub(crate) noun: String,
    /// What stands after it.
    pub(crate) verb: String,
    /// What it is called on.
    pub(crate) target: Target,
    /// One sentence or more.
    pub(crate) summary: String,
    /// Fields of the options that languages with positional arguments take first, in order.
    pub(crate) arguments: Vec<String>,
    /// Whether it is a multi-step write with events.
    pub(crate) events: bool,
    /// Which bytes travel beside its JSON; such operations are written by hand in each binding.
    pub(crate) bytes: Bytes,
    /// The name of its options' type.
    pub(crate) options: String,
    /// The name of its result's type; none when it has no result.
    pub(crate) result: Option<String>,
    /// The name of its items' type, for an operation that yields items instead of a result.
    pub(crate) item: Option<String>,
}

impl Operation {
    /// Whether it moves no bytes, so that its face can be generated.
    pub(crate) fn is_json(&self) -> bool {
        self.bytes == Bytes::None
    }
}

/// A struct or an enum.
#[derive(Debug, Clone)]
pub(crate) struct TypeDef {
    /// Its name, in CamelCase.
    pub(crate) name: String,
    /// Paragraphs, each on one line, parted by an empty line.
    pub(crate) docs: String,
    /// Whether a caller writes it: it is, or is part of, options or the configuration.
    pub(crate) input: bool,
    /// Whether the library writes it: it is, or is part of, a result or an event.
    pub(crate) output: bool,
    /// What it is made of.
    pub(crate) shape: Shape,
    /// The JSON Schema it was read from; references to others are `#/$defs/<name>`.
    pub(crate) schema: Value,
}

/// What a type is made of.
#[derive(Debug, Clone)]
pub(crate) enum Shape {
    /// An object with these fields.
    Struct(Vec<Field>),
    /// One of these strings.
    Enum(Vec<Variant>),
}

/// A field of a struct.
#[derive(Debug, Clone)]
pub(crate) struct Field {
    /// Its name in JSON.
    pub(crate) name: String,
    /// Paragraphs, each on one line, parted by an empty line.
    pub(crate) docs: String,
    /// What it holds.
    pub(crate) ty: Type,
    /// Whether it may be absent or null, with a meaning of its own.
    pub(crate) nullable: bool,
    /// As input: whether the caller must give it.
    pub(crate) must_give: bool,
    /// As output: whether it is always there.
    pub(crate) always_present: bool,
    /// As input: what it is when absent; none for fields that are nullable or must be given.
    pub(crate) default: Option<Value>,
}

/// A string of an enum.
#[derive(Debug, Clone)]
pub(crate) struct Variant {
    /// The string in JSON.
    pub(crate) value: String,
    /// What it means.
    pub(crate) docs: String,
}

/// What a field holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Type {
    /// Text.
    String,
    /// True or false.
    Bool,
    /// A whole number.
    Int {
        /// How many bits hold it: 8, 16, 32 or 64.
        bits: u8,
        /// Whether it may be negative.
        signed: bool,
    },
    /// A number.
    Float,
    /// A list of these.
    List(Box<Type>),
    /// An object with any keys and these values.
    Map(Box<Type>),
    /// The struct or enum of this name.
    Named(String),
    /// Any value of JSON.
    Any,
}

impl Type {
    /// The struct or enum that it is, or is a list or map of.
    pub(crate) fn named(&self) -> Option<&str> {
        match self {
            Self::Named(name) => Some(name),
            Self::List(inner) | Self::Map(inner) => inner.named(),
            _ => None,
        }
    }
}

/// One kind of error.
#[derive(Debug, Clone)]
pub(crate) struct ErrorDef {
    /// The stable name, such as `NOT_FOUND`.
    pub(crate) name: String,
    /// The stable number, never 0.
    pub(crate) number: i32,
    /// What it means and what to do about it; one paragraph.
    pub(crate) meaning: String,
}

impl Api {
    /// The nouns in the catalogue's order.
    pub(crate) fn nouns(&self) -> Vec<&str> {
        let mut nouns: Vec<&str> = Vec::new();
        for operation in &self.operations {
            if !nouns.contains(&operation.noun.as_str()) {
                nouns.push(&operation.noun);
            }
        }
        nouns
    }

    /// The type of this name.
    pub(crate) fn type_named(&self, name: &str) -> Option<&TypeDef> {
        self.types.iter().find(|t| t.name == name)
    }
}
