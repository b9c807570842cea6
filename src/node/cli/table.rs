//! Text for people: tables, times, and nothing that a terminal would obey.

/// Columns as wide as they need to be; that numbered `right` is set to the right, the last is free.
pub(super) fn table<const N: usize>(lines: &[[String; N]], right: usize) -> String {
    let width = |column: usize| {
        let cells = lines.iter().map(|line| line[column].chars().count());
        cells.max().unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let mut out = String::new();
    for line in lines {
        let cells = line.iter().zip(widths).enumerate();
        let cells = cells.map(|(column, (cell, width))| {
            let cell = plain(cell);
            if column == right {
                format!("{cell:>width$}")
            } else {
                format!("{cell:<width$}")
            }
        });
        out.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        out.push('\n');
    }
    out
}

/// Nothing that a terminal would obey.
pub(super) fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

/// `2026-11-24 09:30:00 UTC` of an RFC 3339 timestamp in UTC.
pub(super) fn clock(rfc3339: &str) -> String {
    let seconds = rfc3339.split(['.', 'Z']).next().unwrap_or(rfc3339);
    format!("{} UTC", seconds.replacen('T', " ", 1))
}
