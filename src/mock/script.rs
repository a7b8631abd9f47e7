//! Which script a request gets. Of the channels, the first that says something decides alone: the queue, the member
//! `mock` of the request body, the model's name, the header `x-mock`, the default.

use std::{
    collections::{HashMap, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use arc_swap::ArcSwap;
use http::HeaderMap;

use super::{ask::Ask, behaviour::Behaviour, endpoint::Format, shorthand};

/// How many scripts may wait in the queue.
const MOST_QUEUED: usize = 10_000;
/// For how many different scripts requests are counted.
const MOST_COUNTED: usize = 4_096;

/// All scripts that wait for a request.
#[derive(Debug, Default)]
pub(super) struct Scripts {
    default: ArcSwap<Behaviour>,
    queue: Mutex<VecDeque<Queued>>,
    /// The queue's length, to be read without its lock.
    queued: AtomicUsize,
    /// Requests so far, by a hash of the script that counts them.
    counts: Mutex<HashMap<u64, u64>>,
}

#[derive(Debug)]
struct Queued {
    /// The model whose next request takes the script; any when unset.
    model: Option<String>,
    script: Arc<Behaviour>,
}

impl Scripts {
    pub(super) fn new(default: Behaviour) -> Self {
        Self { default: ArcSwap::from_pointee(default), ..Self::default() }
    }

    pub(super) fn default_script(&self) -> Arc<Behaviour> {
        self.default.load_full()
    }

    pub(super) fn set_default(&self, script: Behaviour) {
        self.default.store(Arc::new(script));
        lock(&self.counts).clear();
    }

    /// Puts a script at the queue's end. Says whether there was room.
    pub(super) fn enqueue(&self, model: Option<&str>, script: Behaviour) -> bool {
        let mut queue = lock(&self.queue);
        if queue.len() >= MOST_QUEUED {
            return false;
        }
        queue.push_back(Queued { model: model.map(str::to_owned), script: Arc::new(script) });
        self.queued.store(queue.len(), Ordering::Release);
        true
    }

    pub(super) fn queued(&self) -> usize {
        self.queued.load(Ordering::Acquire)
    }

    /// Forgets what is queued and what was counted.
    pub(super) fn clear(&self) {
        lock(&self.queue).clear();
        self.queued.store(0, Ordering::Release);
        lock(&self.counts).clear();
    }

    /// The script for a request.
    ///
    /// # Errors
    /// A sentence that says which script of the request is wrong, and how.
    pub(super) fn choose(&self, format: Format, ask: &Ask<'_>, headers: &HeaderMap) -> Result<Arc<Behaviour>, String> {
        let model = ask.model.as_deref().unwrap_or_default();
        let script = if let Some(queued) = self.dequeue(model) {
            queued
        } else if let Some(raw) = ask.mock {
            let script = Behaviour::from_json(raw.get());
            Arc::new(script.map_err(|error| format!("The member `mock` of the request is not a script: {error}."))?)
        } else if let Some(script) = shorthand::script(model, format) {
            Arc::new(script.map_err(|error| format!("The model `{model}` is not a script: {error}."))?)
        } else if let Some(header) = headers.get("x-mock") {
            let text = header.to_str().unwrap_or_default();
            let script = Behaviour::from_json(text);
            Arc::new(script.map_err(|error| format!("The header `x-mock` is not a script: {error}."))?)
        } else {
            self.default_script()
        };
        Ok(if script.is_conditional() { Arc::new(self.decide(&script)) } else { script })
    }

    /// The first script in the queue that this model may take.
    fn dequeue(&self, model: &str) -> Option<Arc<Behaviour>> {
        if self.queued() == 0 {
            return None;
        }
        let mut queue = lock(&self.queue);
        let fits = |queued: &Queued| queued.model.as_deref().is_none_or(|wanted| wanted == model);
        let found = queue.iter().position(fits).and_then(|at| queue.remove(at));
        self.queued.store(queue.len(), Ordering::Release);
        found.map(|queued| queued.script)
    }

    /// Whether this is a request on which a conditional script fails.
    fn decide(&self, script: &Behaviour) -> Behaviour {
        let count = self.count(script);
        let is_hit = script.fail_first.is_none_or(|first| count <= first)
            && script.rate.is_none_or(|rate| count.is_multiple_of(rate.every))
            && script.probability.is_none_or(|probability| fastrand::f64() < probability);
        if is_hit { script.failing() } else { script.calm() }
    }

    /// The number of requests that had this script, this one included.
    fn count(&self, script: &Behaviour) -> u64 {
        let mut hasher = DefaultHasher::new();
        serde_json::to_string(script).unwrap_or_default().hash(&mut hasher);
        let mut counts = lock(&self.counts);
        if counts.len() >= MOST_COUNTED {
            counts.clear();
        }
        let count = counts.entry(hasher.finish()).or_default();
        *count += 1;
        *count
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while one of these locks is held.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(scripts: &Scripts, body: &str, header: Option<&'static str>) -> Option<String> {
        let mut headers = HeaderMap::new();
        if let Some(header) = header {
            headers.insert("x-mock", http::HeaderValue::from_static(header));
        }
        let ask = Ask::read(body.as_bytes()).unwrap();
        let script = scripts.choose(Format::OpenAi, &ask, &headers).unwrap();
        script.text.clone().or(script.status.map(|status| status.to_string()))
    }

    #[test]
    fn the_channels_take_precedence_in_their_order() {
        let scripts = Scripts::new(Behaviour::text("default"));
        scripts.enqueue(Some("other"), Behaviour::text("for another model"));
        scripts.enqueue(None, Behaviour::text("queue"));
        let header = Some(r#"{"text":"header"}"#);
        let body = r#"{"model":"mock-status-503","mock":{"text":"body"}}"#;
        assert_eq!(chosen(&scripts, body, header).as_deref(), Some("queue"));
        assert_eq!(chosen(&scripts, body, header).as_deref(), Some("body"));
        assert_eq!(chosen(&scripts, r#"{"model":"mock-status-503"}"#, header).as_deref(), Some("503"));
        assert_eq!(chosen(&scripts, r#"{"model":"m"}"#, header).as_deref(), Some("header"));
        assert_eq!(chosen(&scripts, r#"{"model":"m"}"#, None).as_deref(), Some("default"));
        assert_eq!(chosen(&scripts, r#"{"model":"other"}"#, None).as_deref(), Some("for another model"));
        assert_eq!(scripts.queued(), 0);
    }

    #[test]
    fn a_wrong_script_says_where_it_stood_and_what_is_wrong() {
        let scripts = Scripts::default();
        let mut headers = HeaderMap::new();
        let wrong = |body: &str, headers: &HeaderMap| {
            scripts.choose(Format::OpenAi, &Ask::read(body.as_bytes()).unwrap(), headers).unwrap_err()
        };
        assert!(
            wrong(r#"{"mock":{"staus":1}}"#, &headers)
                .contains("`mock` of the request is not a script: unknown field `staus`")
        );
        assert!(wrong(r#"{"model":"mock-status-abc"}"#, &headers).contains("model `mock-status-abc`"));
        headers.insert("x-mock", http::HeaderValue::from_static("nonsense"));
        assert!(wrong("{}", &headers).contains("header `x-mock`"));
    }

    #[test]
    fn conditions_spare_the_other_requests() {
        let statuses = |script: &str| {
            let scripts = Scripts::new(Behaviour::from_json(script).unwrap());
            let ask = Ask::default();
            let status = || scripts.choose(Format::OpenAi, &ask, &HeaderMap::new()).unwrap().status.unwrap_or(200);
            (0..5).map(|_| status()).collect::<Vec<_>>()
        };
        assert_eq!(statuses(r#"{"status":503,"fail_first":2}"#), [503, 503, 200, 200, 200]);
        assert_eq!(statuses(r#"{"rate":{"every":2}}"#), [200, 500, 200, 500, 200]);
        assert_eq!(statuses(r#"{"probability":1}"#), [500; 5]);
        assert_eq!(statuses(r#"{"probability":0,"status":500}"#), [200; 5]);
    }

    #[test]
    fn the_queue_has_a_bound() {
        let scripts = Scripts::default();
        for _ in 0..MOST_QUEUED {
            assert!(scripts.enqueue(None, Behaviour::default()));
        }
        assert!(!scripts.enqueue(None, Behaviour::default()));
        scripts.clear();
        assert!(scripts.enqueue(None, Behaviour::default()));
    }
}
