//! Configuration: a TOML file, overridden by environment variables, with every mistake reported at once.
//!
//! `VOTUM_COORDINATOR__LOG__DIRECTORY=/var/lib/votum` overrides `directory` in section `[log]` for the
//! prefix `VOTUM_COORDINATOR`. Lists of tables (`[[participants]]`) can only be written in the file.

use std::fmt;
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::error::Kind;
use figment::providers::{Env, Format as _, Toml};
use figment::value::{Dict, Tag, Value};
use serde::de::DeserializeOwned;

/// What types alone cannot say about a configuration.
pub trait Check {
    /// Everything that is wrong, each a sentence that names the key and the remedy. Empty: nothing.
    fn problems(&self) -> Vec<String>;
}

/// All mistakes of one configuration. Displays one line for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    file: PathBuf,
    mistakes: Vec<String>,
}

impl ConfigErrors {
    /// Each mistake, a sentence with its remedy.
    pub fn mistakes(&self) -> &[String] {
        &self.mistakes
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.mistakes.len();
        let noun = if count == 1 { "mistake" } else { "mistakes" };
        write!(f, "the configuration {} has {count} {noun}:", self.file.display())?;
        for mistake in &self.mistakes {
            write!(f, "\n  - {mistake}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Reads `file`, then lays the variables `<env_prefix>__KEY` and `<env_prefix>__SECTION__KEY` over it.
///
/// # Errors
/// Every unknown key, wrong type and missing key, with where it stands and what to do; and, when nothing
/// but unknown keys is wrong with the form, also what [`Check::problems`] finds.
pub fn load<T: DeserializeOwned + Check>(file: &Path, env_prefix: &str) -> Result<T, ConfigErrors> {
    let failed = |mistakes| ConfigErrors { file: file.to_owned(), mistakes };
    if let Err(error) = std::fs::metadata(file) {
        return Err(failed(vec![format!(
            "it cannot be read ({error}): create it, or name another with --config"
        )]));
    }
    let figment =
        Figment::from(Toml::file_exact(file)).merge(Env::prefixed(&format!("{env_prefix}__")).split("__"));
    let value: Value = figment.extract().map_err(|errors| {
        failed(errors.into_iter().map(|error| format!("it is not TOML: {}", error.kind)).collect())
    })?;
    let mut reading =
        Reading { figment: &figment, file, env_prefix, value, mistakes: Vec::new(), reported: Vec::new() };
    let extracted = reading.extract::<T>();
    let mut mistakes = reading.mistakes;
    match extracted {
        Some(config) => {
            mistakes.extend(config.problems());
            if mistakes.is_empty() { Ok(config) } else { Err(failed(mistakes)) }
        }
        None => Err(failed(mistakes)),
    }
}

/// How many mistakes of form are looked for before the rest is left for the next try.
const MAX_PASSES: usize = 256;

/// Keys from the root; an element of a list by its place.
type KeyPath = Vec<String>;

/// Stand-ins for keys that are missing or of a wrong type. Serde stops at its first error; with a stand-in
/// that the type accepts it goes on to the next. What was read with one is thrown away.
fn stand_ins() -> [Value; 8] {
    let tag = Tag::Default;
    [
        Value::from(1u64),
        Value::from("a"),
        Value::from("127.0.0.1:1"),
        Value::from("1s"),
        Value::from(true),
        Value::from(0.5f64),
        Value::Array(tag, Vec::new()),
        Value::Dict(tag, Dict::new()),
    ]
}

/// One configuration while its mistakes are gathered.
struct Reading<'a> {
    figment: &'a Figment,
    file: &'a Path,
    env_prefix: &'a str,
    value: Value,
    mistakes: Vec<String>,
    /// Where a mistake was already reported: what follows from it is not another one.
    reported: Vec<KeyPath>,
}

impl Reading<'_> {
    /// The configuration, if its form has no mistake but unknown keys; else `None`, and every mistake noted.
    fn extract<T: DeserializeOwned>(&mut self) -> Option<T> {
        let mut well_formed = true;
        for _ in 0..MAX_PASSES {
            let mut unknown = Vec::new();
            let error = match read::<T>(&self.value, &mut unknown) {
                Ok(config) => {
                    for path in unknown {
                        self.note_unknown(path);
                    }
                    return well_formed.then_some(config);
                }
                Err(error) => error,
            };
            well_formed = false;
            let path = error_path(&error);
            self.note(&path, &error);
            if !self.put_right::<T>(&path) {
                return None;
            }
        }
        None
    }

    /// Makes the value at `path` acceptable to `T`, or takes it or what encloses it away. False when nothing
    /// is left to do.
    fn put_right<T: DeserializeOwned>(&mut self, path: &[String]) -> bool {
        for stand_in in stand_ins() {
            let mut trial = self.value.clone();
            if !place(&mut trial, path, Some(stand_in)) {
                break;
            }
            let fits = match read::<T>(&trial, &mut Vec::new()) {
                Ok(_) => true,
                Err(error) => error_path(&error) != path,
            };
            if fits {
                self.value = trial;
                return true;
            }
        }
        // No stand-in fits. The key alone is optional, perhaps; else all of its section has to go, so that
        // the sections beside it are read.
        (1..=path.len()).rev().filter_map(|length| path.get(..length)).any(|outer| {
            self.reported.push(outer.to_vec());
            place(&mut self.value, outer, None)
        })
    }

    #[allow(clippy::wildcard_enum_match_arm)] // figment's own sentences do for all other kinds
    fn note(&mut self, path: &KeyPath, error: &figment::Error) {
        if self.reported.contains(path) {
            return;
        }
        self.reported.push(path.clone());
        let key = path.join(".");
        let place = self.provenance(path);
        let line = match &error.kind {
            Kind::MissingField(_) => format!("{key} is missing: {}", self.how_to_set(path)),
            Kind::UnknownField(..) => {
                format!("{key} is not a setting ({place}): {}; remove it or correct it", error.kind)
            }
            Kind::InvalidType(_, expected) if place != self.in_file() && expected.contains("string") => {
                format!("{key} is wrong ({place}): {}; put the text in double quotes", error.kind)
            }
            _ => format!("{key} is wrong ({place}): {}; correct it", error.kind),
        };
        self.mistakes.push(line);
    }

    fn note_unknown(&mut self, path: KeyPath) {
        if self.reported.iter().any(|reported| path.starts_with(reported)) {
            return;
        }
        let place = self.provenance(&path);
        self.mistakes.push(format!(
            "{} is not a setting ({place}): remove it, or correct its spelling or its section",
            path.join(".")
        ));
        self.reported.push(path);
    }

    /// Which of the sources gave the value at `path`, or what stands nearest around it.
    fn provenance(&self, path: &[String]) -> String {
        let from_environment = self
            .figment
            .get_metadata(tag_at(&self.value, path))
            .is_some_and(|metadata| metadata.source.is_none() && metadata.name.contains("environment"));
        if from_environment {
            format!("environment variable {}", self.variable(path))
        } else {
            self.in_file()
        }
    }

    fn in_file(&self) -> String {
        format!("in {}", self.file.display())
    }

    fn variable(&self, path: &[String]) -> String {
        format!("{}__{}", self.env_prefix, path.join("__").to_uppercase())
    }

    fn how_to_set(&self, path: &[String]) -> String {
        let in_list = path.iter().any(|part| part.parse::<usize>().is_ok());
        if in_list {
            format!("add it to {}", self.file.display())
        } else {
            format!("add it to {}, or set {}", self.file.display(), self.variable(path))
        }
    }
}

#[allow(clippy::result_large_err)] // figment's; read a few times in the life of a process
fn read<T: DeserializeOwned>(value: &Value, unknown: &mut Vec<KeyPath>) -> Result<T, figment::Error> {
    serde_ignored::deserialize(value, |path| unknown.push(ignored_path(&path)))
}

/// Where an error belongs: a missing key counts as being there.
fn error_path(error: &figment::Error) -> KeyPath {
    let mut path = error.path.clone();
    if let Kind::MissingField(name) = &error.kind {
        path.push(name.to_string());
    }
    path
}

fn ignored_path(path: &serde_ignored::Path<'_>) -> KeyPath {
    use serde_ignored::Path;
    let (parent, part) = match path {
        Path::Root => return Vec::new(),
        Path::Seq { parent, index } => (parent, Some(index.to_string())),
        Path::Map { parent, key } => (parent, Some(key.clone())),
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => {
            (parent, None)
        }
    };
    let mut keys = ignored_path(parent);
    keys.extend(part);
    keys
}

/// Puts `new` at `path`, or takes away what stands there. False when nothing could be changed: there is no
/// such place, or nothing stood there to take away.
fn place(value: &mut Value, path: &[String], new: Option<Value>) -> bool {
    let Some((part, rest)) = path.split_first() else { return false };
    match value {
        Value::Dict(_, dict) if rest.is_empty() => match new {
            Some(new) => {
                dict.insert(part.clone(), new);
                true
            }
            None => dict.remove(part).is_some(),
        },
        Value::Dict(_, dict) => dict.get_mut(part).is_some_and(|inner| place(inner, rest, new)),
        Value::Array(_, elements) => {
            let Some(index) = part.parse().ok().filter(|index: &usize| *index < elements.len()) else {
                return false;
            };
            match (rest.is_empty(), new) {
                (false, new) => elements.get_mut(index).is_some_and(|inner| place(inner, rest, new)),
                (true, Some(new)) => elements.get_mut(index).map(|element| *element = new).is_some(),
                // Taking one element away would rename those behind it.
                (true, None) => false,
            }
        }
        Value::String(..) | Value::Char(..) | Value::Bool(..) | Value::Num(..) | Value::Empty(..) => false,
    }
}

fn tag_at(value: &Value, path: &[String]) -> Tag {
    let inner = path.split_first().and_then(|(part, rest)| {
        let inner = match value {
            Value::Dict(_, dict) => dict.get(part),
            Value::Array(_, elements) => part.parse().ok().and_then(|index: usize| elements.get(index)),
            Value::String(..) | Value::Char(..) | Value::Bool(..) | Value::Num(..) | Value::Empty(..) => None,
        };
        inner.map(|inner| tag_at(inner, rest))
    });
    inner.unwrap_or_else(|| value.tag())
}

#[cfg(test)]
mod tests;
