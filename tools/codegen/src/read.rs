//! Reads the API from the catalogue: walks its rows and the JSON Schemas of their types.

use crate::ir::{Api, ErrorDef, Field, Operation, Shape, Type, TypeDef, Variant};
use crate::text::unwrap_docs;
use dunnage::catalog::{self, OperationSpec};
use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

type Result<T> = std::result::Result<T, String>;

const DEFS: &str = "#/$defs/";

/// Reads all of it.
///
/// # Errors
/// When a type of the catalogue has a shape that the neutral picture has no word for; the message names it.
pub(crate) fn api() -> Result<Api> {
    // A type that goes in has other required fields than the same type going out: two generators.
    let mut inward = SchemaSettings::draft2020_12().into_generator();
    let mut outward = SchemaSettings::draft2020_12().for_serialize().into_generator();
    inward.subschema_for::<dunnage::Config>();
    outward.subschema_for::<dunnage::types::Event>();

    let operations = catalog::operations()
        .iter()
        .map(|spec| operation(spec, &mut inward, &mut outward))
        .collect::<Result<Vec<_>>>()?;
    let input = definitions(inward.take_definitions(true), true)?;
    let output = definitions(outward.take_definitions(true), false)?;
    let mut types = merge(input, output)?;
    for operation in &operations {
        require_arguments(operation, &mut types)?;
    }
    let errors = dunnage::ErrorKind::ALL
        .iter()
        .map(|kind| ErrorDef {
            name: kind.as_str().to_owned(),
            number: kind.number(),
            meaning: unwrap_docs(kind.meaning()),
        })
        .collect();
    let api = Api {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        operations,
        types: types.into_values().collect(),
        errors,
    };
    check_references(&api)?;
    Ok(api)
}

fn operation(
    spec: &OperationSpec,
    inward: &mut SchemaGenerator,
    outward: &mut SchemaGenerator,
) -> Result<Operation> {
    let (noun, verb) = spec
        .name
        .split_once('.')
        .ok_or_else(|| format!("{}: an operation is called noun.verb", spec.name))?;
    let options = (spec.options)(inward);
    let result = (spec.result)(outward);
    let item = spec.item.map(|item| item(outward));
    let named = |value: &Value| value.get("$ref")?.as_str()?.strip_prefix(DEFS).map(str::to_owned);
    let unit = result.as_value().get("type") == Some(&Value::from("null"));
    let result = match named(result.as_value()) {
        Some(name) => Some(name),
        None if unit => None,
        None => return Err(format!("{}: its result is neither a struct nor nothing", spec.name)),
    };
    let item = match item {
        Some(item) => {
            Some(named(item.as_value()).ok_or_else(|| format!("{}: its items are no struct", spec.name))?)
        }
        None => None,
    };
    Ok(Operation {
        name: spec.name.to_owned(),
        noun: noun.to_owned(),
        verb: verb.to_owned(),
        target: spec.target,
        summary: unwrap_docs(spec.summary),
        arguments: spec.arguments.iter().map(|a| (*a).to_owned()).collect(),
        events: spec.events,
        bytes: spec.bytes,
        options: named(options.as_value())
            .ok_or_else(|| format!("{}: its options are no struct", spec.name))?,
        result,
        item,
    })
}

fn definitions(map: Map<String, Value>, input: bool) -> Result<BTreeMap<String, TypeDef>> {
    map.into_iter()
        .map(|(name, schema)| {
            let def = definition(&name, schema, input).map_err(|e| format!("{name}: {e}"))?;
            Ok((name, def))
        })
        .collect()
}

fn definition(name: &str, mut schema: Value, input: bool) -> Result<TypeDef> {
    let docs = docs_of(&schema);
    // The schema files carry the same text as the types of every language, not Rust's line breaks.
    normalise_docs(&mut schema);
    let shape = match variants(&schema) {
        Some(variants) => Shape::Enum(variants),
        None => Shape::Struct(fields(&schema, input)?),
    };
    Ok(TypeDef { name: name.to_owned(), docs, input, output: !input, shape, schema })
}

fn variants(schema: &Value) -> Option<Vec<Variant>> {
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        return values
            .iter()
            .map(|v| Some(Variant { value: v.as_str()?.to_owned(), docs: String::new() }))
            .collect();
    }
    schema
        .get("oneOf")?
        .as_array()?
        .iter()
        .map(|one| Some(Variant { value: one.get("const")?.as_str()?.to_owned(), docs: docs_of(one) }))
        .collect()
}

fn fields(schema: &Value, input: bool) -> Result<Vec<Field>> {
    if schema.get("type") != Some(&Value::from("object")) {
        return Err("it is neither a struct nor an enum of strings".to_owned());
    }
    let required: BTreeSet<&str> = schema
        .get("required")
        .and_then(Value::as_array)
        .map(|names| names.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        return Ok(Vec::new());
    };
    properties
        .iter()
        .map(|(name, property)| {
            let (ty, nullable) = type_of(property).map_err(|e| format!("field {name}: {e}"))?;
            let required = required.contains(name.as_str());
            Ok(Field {
                name: name.clone(),
                docs: docs_of(property),
                ty,
                nullable,
                must_give: input && required,
                always_present: !input && required,
                default: property.get("default").filter(|d| input && !d.is_null()).cloned(),
            })
        })
        .collect()
}

/// The type, and whether null is one of its values.
fn type_of(schema: &Value) -> Result<(Type, bool)> {
    // A schema that takes everything, as in `additionalProperties`.
    if schema == &Value::Bool(true) {
        return Ok((Type::Any, false));
    }
    if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
        let name = name.strip_prefix(DEFS).ok_or_else(|| format!("a reference to {name}"))?;
        return Ok((Type::Named(name.to_owned()), false));
    }
    if let Some(any) = schema.get("anyOf").and_then(Value::as_array) {
        let (nulls, others): (Vec<_>, Vec<_>) =
            any.iter().partition(|one| one.get("type") == Some(&Value::from("null")));
        return match (nulls.len(), others.as_slice()) {
            (1, [one]) => Ok((type_of(one)?.0, true)),
            _ => Err("a union".to_owned()),
        };
    }
    let (word, nullable) = match schema.get("type") {
        Some(Value::String(word)) => (word.as_str(), false),
        Some(Value::Array(words)) => match words.as_slice() {
            [Value::String(word), Value::String(null)] if null == "null" => (word.as_str(), true),
            _ => return Err("a union".to_owned()),
        },
        _ => return Err("a value of any shape".to_owned()),
    };
    let ty = match word {
        "string" => Type::String,
        "boolean" => Type::Bool,
        "number" => Type::Float,
        "integer" => integer(schema)?,
        "array" => {
            let items = schema.get("items").ok_or("a list of anything")?;
            Type::List(Box::new(type_of(items)?.0))
        }
        "object" => {
            let values = schema.get("additionalProperties").ok_or("an object without a name")?;
            Type::Map(Box::new(type_of(values)?.0))
        }
        other => return Err(format!("a value of type {other}")),
    };
    Ok((ty, nullable))
}

fn integer(schema: &Value) -> Result<Type> {
    let format = schema.get("format").and_then(Value::as_str).unwrap_or("int64");
    let (signed, bits) = match format.strip_prefix('u') {
        Some(rest) => (false, rest),
        None => (true, format),
    };
    let bits = match bits.strip_prefix("int") {
        Some("8") => 8,
        Some("16") => 16,
        Some("32") => 32,
        Some("64" | "") => 64,
        _ => return Err(format!("an integer of format {format}")),
    };
    Ok(Type::Int { bits, signed })
}

/// Joins what is known of each type as input and as output.
fn merge(
    input: BTreeMap<String, TypeDef>,
    output: BTreeMap<String, TypeDef>,
) -> Result<BTreeMap<String, TypeDef>> {
    let mut all = input;
    for (name, out) in output {
        let Some(both) = all.get_mut(&name) else {
            all.insert(name, out);
            continue;
        };
        both.output = true;
        if let (Shape::Struct(fields), Shape::Struct(outs)) = (&mut both.shape, out.shape) {
            if fields.len() != outs.len() {
                return Err(format!("{name}: it has other fields as a result than as an option"));
            }
            for (field, out) in fields.iter_mut().zip(outs) {
                field.always_present = out.always_present;
            }
        }
    }
    Ok(all)
}

/// Positional arguments that have no default worth the name must be given.
fn require_arguments(operation: &Operation, types: &mut BTreeMap<String, TypeDef>) -> Result<()> {
    let Some(Shape::Struct(fields)) = types.get_mut(&operation.options).map(|t| &mut t.shape) else {
        return Err(format!("{}: its options are no struct", operation.name));
    };
    for argument in &operation.arguments {
        let field = fields
            .iter_mut()
            .find(|f| f.name == *argument)
            .ok_or_else(|| format!("{}: its argument {argument} is no field", operation.name))?;
        if !field.nullable {
            field.must_give = true;
            field.default = None;
        }
    }
    Ok(())
}

fn check_references(api: &Api) -> Result<()> {
    for def in &api.types {
        let Shape::Struct(fields) = &def.shape else { continue };
        for name in fields.iter().filter_map(|f| f.ty.named()) {
            if api.type_named(name).is_none() {
                return Err(format!("{}: it refers to {name}, which is not there", def.name));
            }
        }
    }
    Ok(())
}

fn docs_of(schema: &Value) -> String {
    schema.get("description").and_then(Value::as_str).map(unwrap_docs).unwrap_or_default()
}

fn normalise_docs(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            if let Some(Value::String(text)) = map.get_mut("description") {
                *text = unwrap_docs(text);
            }
            map.values_mut().for_each(normalise_docs);
        }
        Value::Array(list) => list.iter_mut().for_each(normalise_docs),
        _ => {}
    }
}
