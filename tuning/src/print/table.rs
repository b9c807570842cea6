//! For people: what is well in one line each, what is not with the reason and the cure, the worst
//! last, where the eye is when the command has ended.

use crate::finding::{Finding, Report, Verdict};

use super::wrap::{plain, wrap};

/// How a table is to look.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Columns of the terminal.
    pub width: usize,
    pub colours: bool,
    /// Tell the reason of what is well, too.
    pub all_reasons: bool,
}

const WIDTH_MIN: usize = 60;
const WIDTH_MAX: usize = 140;
/// Of the column of verdicts, and of the place before reasons.
const VERDICT: usize = 9;
const GAP: usize = 2;
const LABEL_MAX: usize = 30;

pub fn table(report: &Report, look: Look) -> String {
    let width = look.width.clamp(WIDTH_MIN, WIDTH_MAX);
    let mut findings: Vec<&Finding> = report.findings.iter().collect();
    findings.sort_by_key(|finding| finding.verdict);
    let columns = Columns::of(&findings, width);
    let mut text = String::new();
    let head = format!(
        "posthaste doctor: {}, Linux {}, profile {} ({})",
        report.hostname, report.release, report.profile, report.place.evidence
    );
    for line in wrap(&plain(&head), width) {
        push_line(&mut text, &line);
    }
    text.push('\n');
    let titles = ["check", "found", "wanted"].map(|title| vec![title.to_owned()]);
    push_row(&mut text, &columns, &[String::new()], &titles, look, None);
    let mut last = None;
    for finding in findings {
        let has_reasons = finding.verdict >= Verdict::Warn || look.all_reasons;
        // Rows of one line stand close; those with a paragraph stand apart.
        if has_reasons && last.is_some() {
            text.push('\n');
        }
        last = Some(finding.verdict);
        let cells = [
            label(finding),
            plain(&finding.found),
            plain(&finding.wanted),
        ];
        let cells = columns.wrapped(&cells);
        let verdict = [finding.verdict.name().to_owned()];
        push_row(
            &mut text,
            &columns,
            &verdict,
            &cells,
            look,
            Some(finding.verdict),
        );
        if has_reasons {
            push_reason(&mut text, "why", &finding.why, width);
            push_reason(&mut text, "fix", &finding.fix, width);
        }
    }
    text.push('\n');
    for line in wrap(&sum(report), width) {
        push_line(&mut text, &line);
    }
    text
}

fn sum(report: &Report) -> String {
    let [ok, unknown, warn, fatal] = [Verdict::Ok, Verdict::Unknown, Verdict::Warn, Verdict::Fatal]
        .map(|verdict| report.count(verdict));
    let s = if warn == 1 { "" } else { "s" };
    let mut sum = format!("{ok} well, {unknown} not known, {warn} warning{s}, {fatal} fatal.");
    if report
        .findings
        .iter()
        .any(|finding| !finding.steps.is_empty())
    {
        sum.push_str(" `posthaste doctor --script` prints what can be mended, as a shell script.");
    }
    sum
}

fn label(finding: &Finding) -> String {
    let name = finding.check.name();
    match &finding.subject {
        Some(subject) => format!("{name} {}", plain(subject)),
        None => name.to_owned(),
    }
}

/// Widths of check, found and wanted.
struct Columns([usize; 3]);

impl Columns {
    fn of(findings: &[&Finding], width: usize) -> Self {
        let widest = |texts: &dyn Fn(&Finding) -> usize| {
            findings.iter().map(|f| texts(f)).max().unwrap_or(0).max(6)
        };
        let label = widest(&|f| label(f).chars().count()).min((width / 4).min(LABEL_MAX));
        let found = widest(&|f| f.found.chars().count());
        let wanted = widest(&|f| f.wanted.chars().count());
        let rest = width - VERDICT - label - 2 * GAP;
        if found + wanted <= rest {
            return Self([label, found, wanted]);
        }
        let found = found.min((rest * 3 / 5).max(rest.saturating_sub(wanted)));
        Self([label, found, rest - found])
    }

    fn wrapped(&self, cells: &[String; 3]) -> [Vec<String>; 3] {
        let at = |index: usize| wrap(&cells[index], self.0[index]);
        [at(0), at(1), at(2)]
    }
}

fn push_row(
    text: &mut String,
    columns: &Columns,
    verdict: &[String],
    cells: &[Vec<String>; 3],
    look: Look,
    of: Option<Verdict>,
) {
    let height = cells.iter().map(Vec::len).max().unwrap_or(0);
    for row in 0..height {
        let mark = verdict.get(row).map_or("", String::as_str);
        let mut line = format!("{mark:<VERDICT$}");
        for (cell, width) in cells.iter().zip(columns.0) {
            let part = cell.get(row).map_or("", String::as_str);
            line.push_str(&format!("{part:<width$}{:GAP$}", ""));
        }
        let mut line = line.trim_end().to_owned();
        if let (true, true, Some(verdict)) = (look.colours, row == 0, of) {
            line.replace_range(..mark.len(), &coloured(mark, verdict));
        }
        push_line(text, &line);
    }
}

fn coloured(mark: &str, verdict: Verdict) -> String {
    let colour = match verdict {
        Verdict::Ok => 32,
        Verdict::Unknown => 2,
        Verdict::Warn => 33,
        Verdict::Fatal => 31,
    };
    format!("\u{1b}[{colour}m{mark}\u{1b}[0m")
}

fn push_reason(text: &mut String, name: &str, reason: &str, width: usize) {
    if reason.is_empty() {
        return;
    }
    let indent = VERDICT + name.len() + GAP;
    for (index, line) in wrap(&plain(reason), width - indent).iter().enumerate() {
        let name = if index == 0 { name } else { "" };
        let line = format!("{:VERDICT$}{name:<3}{:GAP$}{line}", "", "");
        push_line(text, &line);
    }
}

fn push_line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}
