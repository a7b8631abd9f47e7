//! Prometheus' text format, version 0.0.4: <https://prometheus.io/docs/instrumenting/exposition_formats/>.
//!
//! The library's own encoder formats every label and every bucket bound anew for each line, which takes longer than
//! gathering the values; here labels are put together once per series and bounds once per family.

use std::fmt::{Display, Write};

use prometheus::proto::{Metric, MetricFamily, MetricType};

/// Appends `family` to `text`. Summaries and untyped metrics, which the gateway does not have, are left out.
pub(super) fn write(text: &mut String, family: &MetricFamily) {
    let name = family.name();
    let kind = match family.get_field_type() {
        MetricType::COUNTER => "counter",
        MetricType::GAUGE => "gauge",
        MetricType::HISTOGRAM => "histogram",
        MetricType::SUMMARY | MetricType::UNTYPED => return,
    };
    add(text, format_args!("# HELP {name} {}\n# TYPE {name} {kind}\n", family.help()));
    let mut labels = String::new();
    let bounds = bounds(family);
    for metric in family.get_metric() {
        write_labels(&mut labels, metric);
        match kind {
            "counter" => sample(text, name, "", &labels, None, metric.get_counter().get_value()),
            "gauge" => sample(text, name, "", &labels, None, metric.get_gauge().get_value()),
            _ => write_histogram(text, name, &labels, &bounds, metric),
        }
    }
}

fn write_histogram(text: &mut String, name: &str, labels: &str, bounds: &[String], metric: &Metric) {
    let histogram = metric.get_histogram();
    for (bucket, bound) in histogram.get_bucket().iter().zip(bounds) {
        sample(text, name, "_bucket", labels, Some(bound), bucket.cumulative_count() as f64);
    }
    let count = histogram.get_sample_count() as f64;
    sample(text, name, "_bucket", labels, Some("+Inf"), count);
    sample(text, name, "_sum", labels, None, histogram.get_sample_sum());
    sample(text, name, "_count", labels, None, count);
}

/// One line: `name_suffix{labels,le="bound"} value`.
fn sample(text: &mut String, name: &str, suffix: &str, labels: &str, bound: Option<&str>, value: f64) {
    text.push_str(name);
    text.push_str(suffix);
    if !labels.is_empty() || bound.is_some() {
        text.push('{');
        text.push_str(labels);
        if let Some(bound) = bound {
            let comma = if labels.is_empty() { "" } else { "," };
            for part in [comma, "le=\"", bound, "\""] {
                text.push_str(part);
            }
        }
        text.push('}');
    }
    text.push(' ');
    // Nearly every value is a count, for which whole numbers are written several times faster.
    if (0.0..1e15).contains(&value) && value.fract() == 0.0 {
        text.push_str(itoa::Buffer::new().format(value as u64));
    } else {
        add(text, value);
    }
    text.push('\n');
}

/// Puts `name="value"` pairs together, without braces.
fn write_labels(labels: &mut String, metric: &Metric) {
    labels.clear();
    for pair in metric.get_label() {
        if !labels.is_empty() {
            labels.push(',');
        }
        labels.push_str(pair.name());
        labels.push_str("=\"");
        for character in pair.value().chars() {
            match character {
                '\\' => labels.push_str("\\\\"),
                '"' => labels.push_str("\\\""),
                '\n' => labels.push_str("\\n"),
                other => labels.push(other),
            }
        }
        labels.push('"');
    }
}

/// The upper bounds of a histogram family, as text. All its series have the same.
fn bounds(family: &MetricFamily) -> Vec<String> {
    let first = family.get_metric().first();
    first.map_or_else(Vec::new, |metric| {
        metric.get_histogram().get_bucket().iter().map(|bucket| bucket.upper_bound().to_string()).collect()
    })
}

fn add(text: &mut String, piece: impl Display) {
    // Writing to a string cannot fail.
    let _ = write!(text, "{piece}");
}

#[cfg(test)]
mod tests {
    use prometheus::{Gauge, Histogram, HistogramOpts, IntCounterVec, Opts, Registry, TextEncoder, core::Collector};

    use super::*;

    #[test]
    fn the_text_is_what_the_library_would_write() {
        let registry = Registry::new();
        let counter = IntCounterVec::new(Opts::new("calls", "Calls."), &["model", "outcome"]).unwrap();
        counter.with_label_values(&["a \"quoted\"\\\n name é", "ok"]).inc_by(12);
        counter.with_label_values(&["b", "cut"]).inc_by(3);
        let histogram =
            Histogram::with_opts(HistogramOpts::new("took", "Time.").buckets(vec![50e-6, 0.1, 2.0])).unwrap();
        [20e-6, 0.07, 1.5, 7.25].into_iter().for_each(|took| histogram.observe(took));
        let gauges = [("half", 0.5), ("minus", -3.0), ("huge", 1e18), ("tiny", 2.5e-9)];
        for (name, value) in gauges {
            let gauge = Gauge::new(name, "A gauge.").unwrap();
            gauge.set(value);
            registry.register(Box::new(gauge)).unwrap();
        }
        for collector in [Box::new(counter) as Box<dyn Collector>, Box::new(histogram)] {
            registry.register(collector).unwrap();
        }
        let families = registry.gather();
        let mut text = String::new();
        families.iter().for_each(|family| write(&mut text, family));
        assert_eq!(text, TextEncoder::new().encode_to_string(&families).unwrap());
    }
}
