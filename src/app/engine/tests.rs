//! What is told while templates are compiled.

use std::{
    io,
    sync::{Mutex, PoisonError},
};

use super::*;

/// Collects what is written. The mutex is held for one write.
#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl io::Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The lines that compiling templates with these base URLs writes.
fn told(base_urls: &[(&str, &str)]) -> Vec<String> {
    let mut config = Config::default();
    config.templates.clear();
    for (name, base_url) in base_urls {
        let mut template = Template::default();
        (*base_url).clone_into(&mut template.model.base_url);
        config.templates.insert((*name).to_owned(), template);
    }
    let paper = Paper::default();
    let writer = paper.clone();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::WARN).with_ansi(false);
    let subscriber = subscriber.with_writer(move || writer.clone()).finish();
    let recipes = tracing::subscriber::with_default(subscriber, || compile(&config, &Metrics::new()));
    assert_eq!(recipes.expect("good templates").len(), base_urls.len());
    let lines = paper.0.lock().expect("no test panics while writing").clone();
    String::from_utf8(lines).expect("text").lines().map(str::to_owned).collect()
}

#[test]
fn a_template_that_sends_keys_in_the_clear_is_named_once() {
    let lines = told(&[
        ("far", "http://10.0.0.5/v1"),
        ("near", "http://127.0.0.1:9090"),
        ("sealed", "https://models.example"),
        ("wide", "http://models.example"),
    ]);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].contains("WARN") && lines[0].contains("template=far") && lines[0].contains("unencrypted"));
    assert!(lines[1].contains("template=wide"), "{lines:?}");
}
