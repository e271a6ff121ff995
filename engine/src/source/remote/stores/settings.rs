//! The configuration of stores: environment variables, or values in their place.

use std::collections::BTreeMap;
use std::fmt;

/// Names and values of the variables of the stores' tools: `AWS_REGION`, `AZURE_STORAGE_ACCOUNT_KEY`. Never shown.
#[derive(Clone, Default)]
pub struct Settings {
    own: BTreeMap<String, String>,
    is_env: bool,
}

impl Settings {
    /// The environment of the process, and the files that it names or that the tools read by default: profiles, default
    /// credentials.
    pub fn from_env() -> Settings {
        Settings { is_env: true, ..Settings::default() }
    }

    /// Empty: credentials are not looked for either.
    pub fn none() -> Settings {
        Settings::default()
    }

    /// Overrides a variable of the environment.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Settings {
        self.own.insert(name.into(), value.into());
        self
    }

    /// Whether files and services are searched besides variables.
    pub(super) fn is_env(&self) -> bool {
        self.is_env
    }

    /// The value of a variable, if it is not empty.
    pub(super) fn get(&self, name: &str) -> Option<String> {
        let value = self.own.get(name).cloned().or_else(|| std::env::var(name).ok().filter(|_| self.is_env));
        value.filter(|value| !value.is_empty())
    }

    /// Whether a switch is on.
    pub(super) fn is_on(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| matches!(&value.to_ascii_lowercase()[..], "1" | "true" | "yes" | "on"))
    }

    /// All variables with this prefix.
    pub(super) fn all(&self, prefix: &str) -> BTreeMap<String, String> {
        let mut all = self.own.clone();
        for (name, value) in std::env::vars_os().filter(|_| self.is_env) {
            if let (Ok(name), Ok(value)) = (name.into_string(), value.into_string()) {
                all.entry(name).or_insert(value);
            }
        }
        all.retain(|name, value| name.starts_with(prefix) && !value.is_empty());
        all
    }
}

/// Without values, which may be credentials.
impl fmt::Debug for Settings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&String> = self.own.keys().collect();
        formatter.debug_struct("Settings").field("names", &names).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::Settings;

    #[test]
    fn nothing_comes_from_the_environment_unless_it_may() {
        assert_eq!(Settings::none().get("PATH"), None);
        assert!(Settings::none().all("").is_empty());
        assert!(Settings::from_env().get("PATH").is_some() && Settings::from_env().all("PAT").contains_key("PATH"));
        let settings = Settings::from_env().with("PATH", "").with("A", "Yes");
        assert!(settings.get("PATH").is_none() && settings.is_on("A") && !settings.is_on("PATH"));
        assert!(!format!("{settings:?}").contains("Yes"));
    }
}
