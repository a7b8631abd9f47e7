//! What routing adds to a call: resolve, plan, acquire, report and release.

#![expect(clippy::panic, reason = "a bench that cannot be set up has nothing to say but that")]

use std::{collections::BTreeMap, hint::black_box, sync::Arc, time::Duration};

use criterion::{Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderValue, header::AUTHORIZATION, uri};
use switchboard::{
    providers::{Betas, Deadlines, Formats, Origin, Provider, ProviderKey, Quirks, settings::MaxTokensField},
    routing::{
        Acquire, Outcome, RetryBudget, Routes, plan,
        settings::{HealthSettings, Lossy, ModelSettings, TargetSettings},
    },
    types::Clock,
    wire::openai_chat::convert::ReasoningField,
};

criterion_group!(benches, calls, names, budget);
criterion_main!(benches);

/// The routing of a whole call that succeeds at its first attempt.
fn calls(criterion: &mut Criterion) {
    let routes = routes();
    let mut random = fastrand::Rng::with_seed(1);
    let now = Clock::Real.now();
    let cases = [
        ("one target", "one"),
        ("one target of two keys", "two-keys"),
        ("five ordered", "ordered"),
        ("five weighted", "weighted"),
        ("alias", "alias"),
        ("pattern", "p0/some-model"),
        ("last of the patterns", "x"),
    ];
    let mut group = criterion.benchmark_group("routing/call");
    for (case, name) in cases {
        group.bench_function(case, |bencher| {
            bencher.iter(|| {
                let resolved = routes.resolve(black_box(name))?;
                let planned = plan(&resolved, &mut || random.f64());
                match planned.candidates.first()?.target.acquire(now) {
                    Acquire::Ready(mut permit) => permit.report(Outcome::Success, now),
                    Acquire::Resting { .. } => panic!("{name} rests"),
                }
                Some(planned)
            });
        });
    }
    group.finish();
}

/// The resolver alone, among 200 models, half of them patterns.
fn names(criterion: &mut Criterion) {
    let routes = routes();
    let mut group = criterion.benchmark_group("routing/resolve");
    for (case, name) in [("exact", "one"), ("pattern", "p0/some-model"), ("last pattern", "x"), ("unknown", "a*")] {
        group.bench_function(case, |bencher| bencher.iter(|| routes.resolve(black_box(name))));
    }
    group.bench_function("nearest", |bencher| bencher.iter(|| routes.nearest(black_box("mdel-17"), &|_| true)));
    group.finish();
}

fn budget(criterion: &mut Criterion) {
    let budget = RetryBudget::new(0.2);
    let now = Clock::Real.now();
    criterion.bench_function("routing/budget: deposit and withdraw", |bencher| {
        bencher.iter(|| {
            budget.deposit();
            budget.withdraw(black_box(now))
        });
    });
}

/// 200 models, half of them patterns, and the few that are called.
fn routes() -> Routes {
    let five = ["a/m1", "b/m2", "a/m3", "b/m4", "a/m5"];
    let mut models = BTreeMap::from([
        ("one".to_owned(), model(&["b/one"], None)),
        ("two-keys".to_owned(), model(&["a/two"], None)),
        ("ordered".to_owned(), model(&five, None)),
        ("weighted".to_owned(), model(&five, Some(1.0))),
        ("*".to_owned(), model(&["b/*"], None)),
    ]);
    models.extend((0..97).map(|i| (format!("model-{i}"), model(&["a/model"], None))));
    models.extend((0..98).map(|i| (format!("p{i}/*"), model(&["b/*"], None))));
    let aliases = BTreeMap::from([("alias".to_owned(), "one".to_owned())]);
    let providers = [provider("a", &["1", "2"]), provider("b", &["1"])];
    let providers = providers.map(|provider| (provider.name.to_string(), Arc::new(provider))).into();
    let second = Duration::from_secs(1);
    let deadlines = Deadlines { connect: second, first_output: second, between_chunks: second, total: second };
    match Routes::build(
        &models,
        &aliases,
        &providers,
        &|_| deadlines,
        Lossy::default(),
        &HealthSettings::default(),
        None,
    ) {
        Ok(routes) => routes,
        Err(errors) => panic!("{errors:?}"),
    }
}

fn model(targets: &[&str], weight: Option<f64>) -> ModelSettings {
    let target = |model: &&str| TargetSettings { model: (*model).to_owned(), weight, ..TargetSettings::default() };
    ModelSettings { targets: targets.iter().map(target).collect(), ..ModelSettings::default() }
}

fn provider(name: &str, keys: &[&'static str]) -> Provider {
    let key = |(index, key): (usize, &&'static str)| {
        Arc::new(ProviderKey { index, header: Some((AUTHORIZATION, HeaderValue::from_static(key))), secret: None })
    };
    Provider {
        kind: "openai_compatible",
        region: None,
        name: name.into(),
        origin: Origin { scheme: uri::Scheme::HTTPS, authority: uri::Authority::from_static("provider.example") },
        prefix: "/v1".to_owned(),
        keys: keys.iter().enumerate().map(key).collect(),
        headers: HeaderMap::new(),
        forward_headers: Vec::new(),
        quirks: Quirks {
            ask_usage: true,
            takes_stream_options: true,
            max_tokens: MaxTokensField::Both,
            reasoning: ReasoningField::None,
            cache_control: false,
            top_k: false,
            takes_urls: true,
        },
        formats: Formats { openai: true, messages: None },
        betas: Betas::default(),
    }
}
