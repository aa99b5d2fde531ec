//! Variables of the cases: what steps saved, what each case has of its own, and the environment.

use crate::Failure;
use serde_json::{Map, Value, json};
use std::path::Path;

/// The environment of the run, with the directory of the agent.
pub(crate) fn environment() -> Result<Value, Failure> {
    let text = std::env::var("DUNNAGE_TEST_ENV").map_err(|_| "set DUNNAGE_TEST_ENV".to_owned())?;
    let mut environment: Value = serde_json::from_str(&text).map_err(|e| format!("DUNNAGE_TEST_ENV: {e}"))?;
    if environment.get("runtime_dir").is_none() {
        let dir = std::env::var("DUNNAGE_RUNTIME_DIR").map_err(|_| "set DUNNAGE_RUNTIME_DIR".to_owned())?;
        environment["runtime_dir"] = dir.into();
    }
    Ok(environment)
}

/// What a string may name.
pub(crate) struct Vars {
    saved: Map<String, Value>,
    own: Map<String, Value>,
    environment: Value,
    named: Vec<String>,
}

impl Vars {
    pub(crate) fn new(environment: Value) -> Self {
        Self { saved: Map::new(), own: Map::new(), environment, named: Vec::new() }
    }

    /// The variables of one case.
    pub(crate) fn for_case(environment: Value, tmp: &Path) -> Self {
        let mut vars = Self::new(environment);
        let fresh = || format!("rust-{}", &uuid::Uuid::now_v7().simple().to_string()[20..]);
        vars.own = Map::from_iter([
            ("ws".to_owned(), json!(fresh())),
            ("ws2".to_owned(), json!(fresh())),
            ("tmp".to_owned(), json!(tmp)),
            ("lang".to_owned(), json!("rust")),
        ]);
        vars
    }

    pub(crate) fn save(&mut self, name: &str, value: Value) {
        self.saved.insert(name.to_owned(), value);
    }

    /// Notes that a step names this workspace.
    pub(crate) fn name_workspace(&mut self, id: &str) {
        if !self.named.iter().any(|known| known == id) {
            self.named.push(id.to_owned());
        }
    }

    /// The workspaces to delete after the case.
    pub(crate) fn workspaces(&self) -> Vec<String> {
        self.own
            .iter()
            .filter(|(name, _)| name.starts_with("ws"))
            .filter_map(|(_, id)| id.as_str())
            .chain(self.named.iter().map(String::as_str))
            .map(str::to_owned)
            .collect()
    }

    /// Whether the environment has something at this path.
    pub(crate) fn has(&self, path: &str) -> bool {
        at(&self.environment, path).is_some_and(|value| !value.is_null())
    }

    /// A text variable, such as an image of the environment.
    pub(crate) fn text(&self, path: &str) -> Result<String, Failure> {
        match self.get(path)? {
            Value::String(text) => Ok(text),
            other => Ok(other.to_string()),
        }
    }

    fn get(&self, path: &str) -> Result<Value, Failure> {
        let first = path.split('.').next().unwrap_or(path);
        for scope in [&self.saved, &self.own] {
            if scope.contains_key(first) {
                let scope = Value::Object(scope.clone());
                return at(&scope, path).cloned().ok_or_else(|| format!("unknown variable ${{{path}}}"));
            }
        }
        at(&self.environment, path).cloned().ok_or_else(|| format!("unknown variable ${{{path}}}"))
    }

    /// The value with every variable in it replaced.
    pub(crate) fn fill(&self, value: &Value) -> Result<Value, Failure> {
        Ok(match value {
            Value::String(text) => self.fill_text(text)?,
            Value::Array(items) => {
                Value::Array(items.iter().map(|v| self.fill(v)).collect::<Result<_, _>>()?)
            }
            Value::Object(fields) => {
                let filled = fields.iter().map(|(key, v)| Ok((key.clone(), self.fill(v)?)));
                Value::Object(filled.collect::<Result<_, Failure>>()?)
            }
            other => other.clone(),
        })
    }

    fn fill_text(&self, text: &str) -> Result<Value, Failure> {
        if let Some(path) = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'))
            && !path.contains('$')
        {
            return self.get(path);
        }
        let mut filled = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let (path, after) =
                after.split_once('}').ok_or_else(|| format!("unclosed variable in {text:?}"))?;
            filled.push_str(before);
            filled.push_str(&self.text(path)?);
            rest = after;
        }
        filled.push_str(rest);
        Ok(Value::String(filled))
    }
}

fn at<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(value, |value, key| match value {
        Value::Array(items) => items.get(key.parse::<usize>().ok()?),
        other => other.get(key),
    })
}
