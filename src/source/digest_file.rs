//! A digest file in the place of a source: it plans what was digested, and no rows can be read.

use super::{Reader, Source};
use crate::digest_file::DigestFile;
use crate::error::{ErrorKind, Result};
use crate::plan::{Held, Namespace, Partition, Scope};
use crate::window::Window;

/// A digest file as one side of a command.
#[derive(Debug)]
pub struct DigestSource(DigestFile);

impl DigestSource {
    /// The side that a file stands for.
    #[must_use]
    pub fn new(file: DigestFile) -> Self {
        Self(file)
    }
}

impl Source for DigestSource {
    fn name(&self) -> String {
        format!("digest file {}", self.0.path().display())
    }

    fn namespaces(&self) -> Result<Vec<Held>> {
        Ok(self.0.contents().namespaces.iter().map(|entry| entry.held()).collect())
    }

    fn plan(&self, scope: &Scope) -> Result<Vec<Partition>> {
        let namespace = &scope.namespace;
        if self.0.namespace(namespace).is_none() {
            let place = format!("in the digest file {}", self.0.path().display());
            return Err(ErrorKind::NotFound { what: namespace.to_string(), place }.into());
        }
        let windows = self.0.units(namespace, scope.window);
        let windows = windows.filter_map(|unit| unit.window().intersect(scope.window));
        let partition = |window| Partition::new(namespace, window, None);
        Ok(windows.map(partition).collect())
    }

    fn open(&self, _partition: &Partition) -> Result<Box<dyn Reader + '_>> {
        Err(self.0.has_no_rows())
    }

    fn cells(&self, namespace: &Namespace, window: Window) -> Option<u64> {
        Some(self.0.units(namespace, window).map(|unit| unit.digest.cells).sum())
    }

    /// From the first time that any namespace was digested in to the last.
    fn coverage(&self) -> Window {
        let contents = self.0.contents();
        let listed = contents.namespaces.iter().flat_map(|entry| &entry.coverage);
        let spans = || listed.clone().chain(&contents.every_namespace);
        let start = spans().map(|span| span.start).min().unwrap_or_default();
        let end = spans().map(|span| span.end).max().unwrap_or(start);
        Window { start, end }
    }

    fn digest_file(&self) -> Option<&DigestFile> {
        Some(&self.0)
    }

    fn unread(&self) -> Vec<String> {
        let remark = |remark: &String| format!("{remark} (when {} was made)", self.name());
        self.0.contents().not_read.iter().map(remark).collect()
    }

    fn cuts_keys(&self) -> bool {
        self.0.contents().cuts_keys
    }

    fn sees_raw_keys(&self) -> bool {
        self.0.contents().raw_keys
    }
}
