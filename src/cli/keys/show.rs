//! Keys as people read them.

use std::io::Write;

use anyhow::Result;
use jiff::Timestamp;
use serde_json::Value;

use super::choice::chosen;
use crate::{
    auth::manage::KeyView,
    cli::table::{Rows, listed},
    types::Secret,
};

/// A key in lines.
pub(super) fn describe(view: &KeyView, out: &mut impl Write) -> Result<()> {
    let hint = view.hint.as_deref().unwrap_or("?");
    let old = view.old_secret.as_ref();
    let old = old.map(|old| format!("…{} until {}", old.hint, date(Some(old.until))));
    let lines = [
        ("id", Some(view.id.clone())),
        ("name", Some(view.name.clone())),
        ("key", Some(format!("…{hint}"))),
        ("old key", old),
        ("project", Some(view.project.clone())),
        ("tags", Some(view.tags.join(", ")).filter(|tags| !tags.is_empty())),
        ("models", Some(listed(&view.models))),
        ("endpoints", Some(listed(&view.endpoints))),
        ("addresses", Some(listed(&view.addresses))),
        ("max tokens", view.max_tokens.map(|most| most.to_string())),
        ("log content", chosen(view.log_content)),
        ("state", Some(view.state.to_owned())),
        ("expires", Some(date(view.expires))),
    ];
    for (name, value) in lines {
        if let Some(value) = value {
            writeln!(out, "  {name:<11}  {value}")?;
        }
    }
    Ok(())
}

/// A key and its secret as one JSON object.
pub(super) fn with_secret(view: &KeyView, secret: &Secret, out: &mut impl Write) -> Result<()> {
    let mut object = serde_json::to_value(view)?;
    object["key"] = Value::from(secret.expose());
    writeln!(out, "{object}")?;
    Ok(())
}

/// Keys in a table.
pub(super) fn table(views: &[KeyView]) -> String {
    let head = ["id", "name", "key", "project", "state", "expires", "created", "models"];
    let row = |view: &KeyView| {
        vec![
            view.id.clone(),
            view.name.clone(),
            format!("…{}", view.hint.as_deref().unwrap_or("?")),
            view.project.clone(),
            view.state.to_owned(),
            date(view.expires),
            date(view.created),
            listed(&view.models),
        ]
    };
    let rows = views.iter().map(row).collect();
    Rows { head: head.map(str::to_owned).to_vec(), numbers: head.len(), rows }.aligned()
}

/// To the second, which is what people read; JSON has the whole.
pub(in crate::cli) fn date(at: Option<Timestamp>) -> String {
    at.map_or_else(|| "never".to_owned(), |at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}
