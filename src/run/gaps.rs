//! Runs `gaps`: compares, makes windows of what is shown, and fills them where that is wanted.

use super::comparison::Comparison;
use crate::cli::{CopyArgs, GapsArgs};
use crate::compare;
use crate::error::Result;
use crate::gaps::{self, Observer};
use crate::pipeline::Progress;
use crate::progress::Meter;
use crate::report::Printed;
use crate::report::gaps::{Fill, Gaps};
use crate::stop::Stop;
use std::sync::Arc;

/// Runs `gaps`.
///
/// # Errors
/// Where it could not be carried out.
pub fn gaps(arguments: &GapsArgs, stop: &Stop, progress: &Meter) -> Result<Printed> {
    let (pauses, bucket) = (arguments.recheck.pauses()?, arguments.bucket()?);
    let sides = &arguments.sides;
    let mut both = Comparison::open("gaps", sides, pauses, progress)?;
    if let Some(since) = &arguments.touched_since {
        both.leave_out_untouched(since)?;
    }
    let by = arguments.by.as_bytes();
    let observer = Arc::new(Observer::new(by, bucket));
    let options = compare::Options {
        drill_missing: true,
        drill_extra: true,
        observer: Some(Arc::<Observer>::clone(&observer)),
        ..both.job.compare_options(sides, both.job.settings.jobs)
    };
    let outcome = both.run(&options, progress)?;
    let mut found = observer.found();
    let source = &*both.job.side.source;
    if source.digest_file().is_none() {
        let (end, filter) = (both.job.window.end, &both.job.settings.filter);
        gaps::look_behind(source, &mut found.writers, by, end, filter)?;
    }
    let context = both.job.context(sides, progress)?;
    let report = Gaps::of(context, &outcome, &found, &arguments.by, both.is_writable());
    let settings = &both.job.settings;
    let report = match settings.start_given || settings.end_given {
        true => report.of_a_window_alone(),
        false => report,
    };
    match report.fill(arguments.send_shifted) {
        Fill::Wanted if arguments.copy => {
            progress.stage("copy");
            let copied = super::copy(&copy_of(arguments), stop, progress)?;
            report.with_copy(&copied)
        }
        Fill::Shifted if arguments.copy => report.refused().printed(),
        _ => report.printed(),
    }
}

/// The copy that fills what was found.
fn copy_of(arguments: &GapsArgs) -> CopyArgs {
    CopyArgs {
        sides: arguments.sides.clone(),
        create: arguments.create,
        overwrite: false,
        on_type_conflict: "fail".into(),
        dry_run: false,
        journal: None,
        no_read_back: false,
        retry_suspects: false,
        read_back: None,
        consistency: None,
        gzip: false,
        rate: None,
        undo_file: None,
    }
}
