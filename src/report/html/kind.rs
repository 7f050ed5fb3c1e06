//! The kinds of difference that a chart tells apart: each by colour, pattern and shape.

use crate::compare::Counts;
use std::fmt::{self, Write};

/// Patterns that charts fill areas with. They stand once in a page.
pub(super) const PATTERNS: &str = r#"<svg class="defs" width="0" height="0" aria-hidden="true" focusable="false"><defs>
<pattern id="hatch" width="4" height="4" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect class="p-changed" width="2.2" height="4"/></pattern>
<pattern id="dots" width="3" height="3" patternUnits="userSpaceOnUse"><rect class="p-unstable" width="1.6" height="1.6"/></pattern>
<pattern id="cross" width="6" height="6" patternUnits="userSpaceOnUse"><path class="p-uncovered" d="M0 0L6 6M6 0L0 6"/></pattern>
<pattern id="gap" width="5" height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(-45)"><rect class="p-missing" width="2.5" height="5"/></pattern>
</defs></svg>
"#;

/// A kind of difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Missing,
    Changed,
    Extra,
    Unstable,
}

impl Kind {
    pub(super) const ALL: [Self; 4] = [Self::Missing, Self::Changed, Self::Extra, Self::Unstable];

    /// The kind of which there is most.
    pub(super) fn of(counts: Counts) -> Option<Self> {
        let most = Self::ALL.iter().rev().max_by_key(|kind| kind.count(counts))?;
        (most.count(counts) > 0).then_some(*most)
    }

    fn count(self, counts: Counts) -> u64 {
        match self {
            Self::Missing => counts.missing_in_destination,
            Self::Changed => counts.changed(),
            Self::Extra => counts.extra_in_destination,
            Self::Unstable => counts.unstable,
        }
    }

    /// The class of its style.
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Changed => "changed",
            Self::Extra => "extra",
            Self::Unstable => "unstable",
        }
    }

    /// What it is, in words.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Missing => "missing in the destination (full bar)",
            Self::Changed => "value or type changed (hatched bar)",
            Self::Extra => "extra in the destination (upper half)",
            Self::Unstable => "unstable (lower half, dotted)",
        }
    }

    /// Where its bar begins below the top of a row, and how high it is: told apart however narrow.
    pub(super) fn extent(self) -> (i64, i64) {
        match self {
            Self::Missing | Self::Changed => (0, 10),
            Self::Extra => (0, 5),
            Self::Unstable => (5, 5),
        }
    }
}

/// Says what the shapes of the heat map mean.
pub(super) fn legend(out: &mut String, uncovered: bool, agreement: bool) -> fmt::Result {
    out.write_str("<ul class=\"legend\">")?;
    for kind in Kind::ALL {
        let ((top, height), class) = (kind.extent(), kind.class());
        write!(
            out,
            "<li><svg width=\"22\" height=\"12\" aria-hidden=\"true\"><rect class=\"{class}\" x=\"1\" \
             y=\"{}\" width=\"20\" height=\"{height}\"/></svg>{}</li>",
            top + 1,
            kind.words()
        )?;
    }
    let (line, blank) = match agreement {
        true => (
            "the same on both sides (thin line)",
            "<li><svg width=\"22\" height=\"12\" aria-hidden=\"true\"><rect class=\"blank\" x=\"1\" \
             y=\"1\" width=\"20\" height=\"10\"/></svg>no data (nothing drawn)</li>",
        ),
        false => ("no difference, or no data (thin line)", ""),
    };
    write!(
        out,
        "<li><svg width=\"22\" height=\"12\" aria-hidden=\"true\"><path class=\"same\" d=\"M1 \
         6h20\"/></svg>{line}</li>{blank}"
    )?;
    if uncovered {
        out.write_str(
            "<li><svg width=\"22\" height=\"12\" aria-hidden=\"true\"><rect class=\"uncovered\" \
             width=\"22\" height=\"12\"/></svg>not covered (crosses)</li>",
        )?;
    }
    out.write_str("</ul>\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_of_the_kind_of_which_there_is_most() {
        assert_eq!(Kind::of(Counts { matched: 9, ..Counts::default() }), None);
        let both = Counts {
            missing_in_destination: 2,
            value_changed: 1,
            type_changed: 1,
            ..Counts::default()
        };
        assert_eq!(Kind::of(both), Some(Kind::Missing));
        assert_eq!(Kind::of(Counts { unstable: 3, ..both }), Some(Kind::Unstable));
    }

    #[test]
    fn no_two_kinds_have_one_shape_and_pattern() {
        assert_ne!(Kind::Extra.extent(), Kind::Unstable.extent());
        for kind in [Kind::Extra, Kind::Unstable] {
            assert_ne!(kind.extent(), Kind::Missing.extent());
        }
        assert!(PATTERNS.contains("\"hatch\""), "what is changed is as high as what is missing");
    }
}
