//! What a label selector proves about the namespaces it selects.
//!
//! Invariant: a proof rests only on labels that no tenant can set: the API server's own `kubernetes.io/metadata.name` and the
//! platform's. Everything a selector says about other labels is taken as "may match".

use serde_json::Value;

/// The label the API server keeps equal to a namespace's name (KEP-2161).
pub(super) const NAME: &str = "kubernetes.io/metadata.name";

/// A label selector (`metav1.LabelSelector`): requirements that all hold.
pub(super) struct Selector<'a>(Vec<(&'a str, Requirement<'a>)>);

enum Requirement<'a> {
    In(Vec<&'a str>),
    NotIn(Vec<&'a str>),
    Exists,
    DoesNotExist,
}

impl<'a> Selector<'a> {
    /// Reads a selector; unknown fields, operators and shapes are errors.
    pub(super) fn parse(value: &'a Value) -> Result<Self, String> {
        let fields = value.as_object().ok_or("a selector is an object")?;
        let mut requirements = Vec::new();
        for (field, content) in fields {
            match (field.as_str(), content) {
                ("matchLabels" | "matchExpressions", Value::Null) => {}
                ("matchLabels", Value::Object(labels)) => {
                    for (key, value) in labels {
                        let value = value.as_str().ok_or("a label's value is a string")?;
                        requirements.push((key.as_str(), Requirement::In(vec![value])));
                    }
                }
                ("matchExpressions", Value::Array(expressions)) => {
                    for expression in expressions {
                        requirements.push(parse_expression(expression)?);
                    }
                }
                (unknown, _) => return Err(format!("{unknown:.80} of a selector is not understood")),
            }
        }
        Ok(Self(requirements))
    }

    /// Whether a namespace of this name may be selected, as far as its name decides.
    pub(super) fn may_select_namespace(&self, name: &str) -> bool {
        self.of(NAME).all(|requirement| match requirement {
            Requirement::In(values) => values.contains(&name),
            Requirement::NotIn(values) => !values.contains(&name),
            Requirement::Exists => true,
            Requirement::DoesNotExist => false,
        })
    }

    /// The only namespaces that may be selected, if their names are listed.
    pub(super) fn namespaces(&self) -> Option<Vec<&'a str>> {
        let listed = self.of(NAME).find_map(|requirement| match requirement {
            Requirement::In(values) => Some(values),
            Requirement::NotIn(_) | Requirement::Exists | Requirement::DoesNotExist => None,
        })?;
        Some(listed.iter().copied().filter(|name| self.may_select_namespace(name)).collect())
    }

    /// Whether everything selected carries `key` with this value.
    pub(super) fn requires(&self, key: &str, value: &str) -> bool {
        self.of(key)
            .any(|requirement| matches!(requirement, Requirement::In(values) if values.iter().all(|v| *v == value)))
    }

    /// Whether everything selected carries `key`.
    pub(super) fn requires_key(&self, key: &str) -> bool {
        self.of(key).any(|requirement| matches!(requirement, Requirement::In(_) | Requirement::Exists))
    }

    fn of(&self, key: &str) -> impl Iterator<Item = &Requirement<'a>> {
        self.0.iter().filter(move |(of, _)| *of == key).map(|(_, requirement)| requirement)
    }
}

fn parse_expression(value: &Value) -> Result<(&str, Requirement<'_>), String> {
    let fields = value.as_object().ok_or("an expression of a selector is an object")?;
    let (mut key, mut operator, mut values) = (None, None, Vec::new());
    for (field, content) in fields {
        match (field.as_str(), content) {
            ("key", Value::String(text)) => key = Some(text.as_str()),
            ("operator", Value::String(text)) => operator = Some(text.as_str()),
            ("values", Value::Null) => {}
            ("values", Value::Array(list)) => {
                for value in list {
                    values.push(value.as_str().ok_or("a value of a selector's expression is a string")?);
                }
            }
            (unknown, _) => return Err(format!("{unknown:.80} of a selector's expression is not understood")),
        }
    }
    let key = key.ok_or("an expression of a selector needs a key")?;
    let requirement = match (operator, values.is_empty()) {
        (Some("In"), false) => Requirement::In(values),
        (Some("NotIn"), false) => Requirement::NotIn(values),
        (Some("Exists"), true) => Requirement::Exists,
        (Some("DoesNotExist"), true) => Requirement::DoesNotExist,
        _ => {
            return Err(
                "an expression of a selector is In or NotIn with values, or Exists or DoesNotExist without".to_owned()
            );
        }
    };
    Ok((key, requirement))
}
