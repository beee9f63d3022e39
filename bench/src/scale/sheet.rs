//! The figures of a run, and how they are printed.

/// One line for each figure, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sheet {
    pub(crate) title: String,
    rows: Vec<(String, String)>,
}

impl Sheet {
    pub(crate) fn new(title: String) -> Self {
        Self {
            title,
            rows: Vec::new(),
        }
    }

    /// Adds a figure, and says it at once: a run takes long.
    pub(crate) fn put(&mut self, what: impl Into<String>, figure: impl Into<String>) {
        let (what, figure) = (what.into(), figure.into());
        eprintln!("{}: {what}: {figure}", self.title);
        self.rows.push((what, figure));
    }
}

/// Prints a Markdown table with a column for each run.
pub(crate) fn print(sheets: &[Sheet]) {
    let titles: Vec<&str> = sheets.iter().map(|sheet| sheet.title.as_str()).collect();
    println!("| | {} |", titles.join(" | "));
    println!("|---|{}", "---|".repeat(sheets.len()));
    let mut order: Vec<&str> = Vec::new();
    for (what, _) in sheets.iter().flat_map(|sheet| &sheet.rows) {
        if !order.contains(&what.as_str()) {
            order.push(what);
        }
    }
    for what in order {
        let cells = sheets.iter().map(|sheet| {
            let row = sheet.rows.iter().find(|(name, _)| name == what);
            row.map_or("–", |(_, figure)| figure.as_str())
        });
        println!("| {what} | {} |", cells.collect::<Vec<_>>().join(" | "));
    }
}
