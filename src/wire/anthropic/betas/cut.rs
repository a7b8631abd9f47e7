//! Taking out of a request what its backend does not take. Only members that hold such things are written anew.

use bytes::Bytes;

use super::Place;
use crate::wire::{
    conversation::Losses,
    envelope::{Edit, Envelope},
    json::{Kind, Value},
};

const WHY: &str = "this provider does not take the beta that it belongs to";

/// The edits that take what stands at `places` out of a request, each noted as lost.
pub fn without<'p>(envelope: &Envelope, places: &[&'p Place], losses: &mut Losses) -> Vec<Edit<'p>> {
    let holds = |place: &&&Place| memchr::memmem::find(envelope.bytes(), place.needle().as_bytes()).is_some();
    let places: Vec<&Place> = places.iter().filter(holds).copied().collect();
    let mut edits = Vec::new();
    if places.is_empty() {
        return edits;
    }
    for place in &places {
        match place {
            Place::Member(name) if envelope.get(name).is_some_and(|value| !value.is_null()) => {
                losses.note(name, WHY);
                edits.push(Edit::Remove { name });
            }
            _ => {}
        }
    }
    let mut objects: Vec<&str> = Vec::new();
    for place in &places {
        if let Place::Inside(outer, _) | Place::Items(outer, _, _) = place
            && !objects.contains(&outer.as_str())
            && !edits.iter().any(|edit| matches!(edit, Edit::Remove { name } if name == outer))
        {
            objects.push(outer);
        }
    }
    let mut rewrite = |name: &'p str, at: At<'p>| {
        let Some(value) = envelope.get(name) else { return };
        let mut cut = Cut { places: &places, losses, path: name.to_owned(), changed: false };
        let mut out = Vec::with_capacity(value.raw.len());
        cut.write(&mut out, at, value);
        if cut.changed {
            edits.push(Edit::Set { name, value: Bytes::from(out) });
        }
    };
    for outer in objects {
        rewrite(outer, At::Object(outer));
    }
    for (name, at) in
        [("tools", At::Tools), ("system", At::Content), ("messages", At::Messages), ("cache_control", At::Mark)]
    {
        rewrite(name, at);
    }
    edits
}

/// What a value is in a request.
#[derive(Clone, Copy)]
enum At<'p> {
    /// A member of the request with this name.
    Object(&'p str),
    /// A list inside it.
    List(&'p str, &'p str),
    Tools,
    Tool,
    Messages,
    Message,
    Content,
    Block,
    Mark,
    /// Nothing that holds anything.
    Leaf,
}

struct Cut<'a, 'p> {
    places: &'a [&'p Place],
    losses: &'a mut Losses,
    path: String,
    changed: bool,
}

impl<'p> Cut<'_, 'p> {
    fn write(&mut self, out: &mut Vec<u8>, at: At<'p>, value: Value<'_>) {
        match (at, value.kind) {
            (At::Leaf, _) => out.extend_from_slice(value.raw),
            (At::Tools | At::Messages | At::Content | At::List(..), Kind::Array) => self.write_list(out, at, value),
            (At::Tool | At::Message | At::Block | At::Mark | At::Object(_), Kind::Object) => {
                self.write_object(out, at, value);
            }
            _ => out.extend_from_slice(value.raw),
        }
    }

    fn write_list(&mut self, out: &mut Vec<u8>, at: At<'p>, list: Value<'_>) {
        let inner = match at {
            At::Tools => At::Tool,
            At::Messages => At::Message,
            At::Content => At::Block,
            _ => At::Leaf,
        };
        let begin = out.len() + 1;
        out.push(b'[');
        for (index, item) in list.items().enumerate() {
            let length = self.path.len();
            self.path.push_str(&format!("[{index}]"));
            if self.drops_item(at, item) {
                self.lose();
            } else {
                if out.len() > begin {
                    out.push(b',');
                }
                self.write(out, inner, item);
            }
            self.path.truncate(length);
        }
        out.push(b']');
    }

    fn write_object(&mut self, out: &mut Vec<u8>, at: At<'p>, object: Value<'_>) {
        let begin = out.len() + 1;
        out.push(b'{');
        for (name, value) in object.members() {
            let length = self.path.len();
            self.path.push('.');
            self.path.push_str(&name.text());
            let bare = self.path[length + 1..].to_owned();
            if self.drops_member(at, &bare) {
                self.lose();
            } else {
                if out.len() > begin {
                    out.push(b',');
                }
                out.push(b'"');
                out.extend_from_slice(name.spelling());
                out.extend_from_slice(b"\":");
                self.write(out, self.inner(at, &bare), value);
            }
            self.path.truncate(length);
        }
        out.push(b'}');
    }

    /// What the member of an object is.
    fn inner(&self, at: At<'p>, name: &str) -> At<'p> {
        match (at, name) {
            (At::Message | At::Block, "content") => At::Content,
            (At::Tool | At::Block, "cache_control") => At::Mark,
            (At::Object(object), name) => {
                let list = self.places.iter().find_map(|place| match place {
                    Place::Items(outer, list, _) if outer == object && list == name => Some(list.as_str()),
                    _ => None,
                });
                list.map_or(At::Leaf, |list| At::List(object, list))
            }
            _ => At::Leaf,
        }
    }

    fn drops_item(&self, at: At<'_>, item: Value<'_>) -> bool {
        let kind =
            |value: Value<'_>| value.get("type").and_then(|kind| kind.as_str().map(std::borrow::Cow::into_owned));
        let (own, source) = (kind(item), item.get("source").and_then(kind));
        let is = |pattern: &str, kind: &Option<String>| kind.as_deref().is_some_and(|kind| fits(pattern, kind));
        self.places.iter().any(|place| match (at, place) {
            (At::Tools, Place::Tools(pattern)) | (At::Content, Place::Blocks(pattern)) => is(pattern, &own),
            (At::Content, Place::Sources(pattern)) => is(pattern, &source),
            (At::List(object, list), Place::Items(outer, name, pattern)) => {
                outer == object && name == list && is(pattern, &own)
            }
            _ => false,
        })
    }

    fn drops_member(&self, at: At<'_>, name: &str) -> bool {
        self.places.iter().any(|place| match (at, place) {
            (At::Tool, Place::OfTools(member))
            | (At::Message, Place::OfMessages(member))
            | (At::Mark, Place::OfMarks(member)) => member == name,
            (At::Object(object), Place::Inside(outer, inner)) => outer == object && inner == name,
            _ => false,
        })
    }

    fn lose(&mut self) {
        self.losses.note(&self.path, WHY);
        self.changed = true;
    }
}

/// Whether a type is the one that is meant, or begins as those that are meant.
fn fits(pattern: &str, kind: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => kind.starts_with(beginning),
        None => kind == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::{super::built_in, *};

    fn cut(body: &str, refused: &[&str]) -> (String, String) {
        let features = built_in();
        let refused =
            features.iter().filter(|feature| feature.names.iter().any(|name| refused.contains(&name.as_str())));
        let places: Vec<&Place> = refused.flat_map(|feature| &feature.places).collect();
        let envelope = Envelope::parse(Bytes::copy_from_slice(body.as_bytes())).unwrap();
        let mut losses = Losses::default();
        let edits = without(&envelope, &places, &mut losses);
        (String::from_utf8(envelope.patch(&edits).to_vec()).unwrap(), losses.header())
    }

    #[test]
    fn what_a_beta_gates_is_taken_out_and_named_and_nothing_else() {
        let cases: &[(&[&str], &str, &str, &str)] = &[
            (
                &["context-management"],
                r#"{"a":1,"context_management":{"edits":[]},"b":2}"#,
                r#"{"a":1,"b":2}"#,
                "context_management",
            ),
            (&["mcp-client"], r#"{"mcp_servers":null}"#, r#"{"mcp_servers":null}"#, ""),
            (
                &["compact"],
                r#"{"context_management":{"edits":[{"type":"compact_20260112"}, {"type":"clear_tool_uses_20250919"}]}}"#,
                r#"{"context_management":{"edits":[{"type":"clear_tool_uses_20250919"}]}}"#,
                "context_management.edits[0]",
            ),
            (
                &["tool-search-tool"],
                r#"{"tools":[{"type":"tool_search_tool_regex_20251119","name":"s"},{"name":"a","defer_loading":true,"input_schema":{"defer_loading":1}}]}"#,
                r#"{"tools":[{"name":"a","input_schema":{"defer_loading":1}}]}"#,
                "tools[0], tools[1].defer_loading",
            ),
            (
                &["prompt-caching-scope"],
                r#"{"system":[{"type":"text","text":"cache_control.scope","cache_control":{"type":"ephemeral","scope":"global"}}],"messages":[{"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":[{"type":"text","text":"x","cache_control":{"scope":"org","type":"ephemeral"}}]}]}],"tools":[{"name":"a","cache_control":{"scope":"x"}}]}"#,
                r#"{"system":[{"type":"text","text":"cache_control.scope","cache_control":{"type":"ephemeral"}}],"messages":[{"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":[{"type":"text","text":"x","cache_control":{"type":"ephemeral"}}]}]}],"tools":[{"name":"a","cache_control":{}}]}"#,
                "tools[0].cache_control.scope, system[0].cache_control.scope, messages[0].content[0].content[0].cache_control.scope",
            ),
            (
                &["files-api"],
                r#"{"messages":[{"role":"user","content":"file"},{"role":"user","content":[{"type":"image","source":{"type":"file","file_id":"f"}},{"type":"text","text":"\u0061"}]}]}"#,
                r#"{"messages":[{"role":"user","content":"file"},{"role":"user","content":[{"type":"text","text":"\u0061"}]}]}"#,
                "messages[1].content[0]",
            ),
            (
                &["task-budgets"],
                r#"{"output_config":{"effort":"low","task_budget":{"type":"tokens","total":5}}}"#,
                r#"{"output_config":{"effort":"low"}}"#,
                "output_config.task_budget",
            ),
            (
                &["mid-conversation-system-clear-at", "mid-conversation-output-config"],
                r#"{"messages":[{"role":"user","content":"x"},{"role":"system","clear_at":"never","content":[{"type":"text","text":"clear_at","output_config":1}],"output_config":{"effort":"low"}}],"output_config":{}}"#,
                r#"{"messages":[{"role":"user","content":"x"},{"role":"system","content":[{"type":"text","text":"clear_at","output_config":1}]}],"output_config":{}}"#,
                "messages[1].clear_at, messages[1].output_config",
            ),
            (&["compact"], r#"{"compaction":{"type":"summarize"},"x":1}"#, r#"{"x":1}"#, "compaction"),
            // The word alone, in a text, changes nothing.
            (
                &["fast-mode", "task-budgets"],
                r#"{"messages":[{"role":"user","content":"speed task_budget"}] }"#,
                r#"{"messages":[{"role":"user","content":"speed task_budget"}] }"#,
                "",
            ),
        ];
        for (refused, body, expected, lost) in cases {
            assert_eq!(cut(body, refused), ((*expected).to_owned(), (*lost).to_owned()), "{refused:?}");
        }
    }
}
