//! Puts a row together.

use serde_json::Value;

/// A row of anything that becomes a cell.
macro_rules! row {
    ($($cell:expr),* $(,)?) => { vec![$(serde_json::Value::from($cell)),*] };
}
pub(super) use row;

/// Puts cells behind others.
pub(super) fn with(mut cells: Vec<Value>, more: impl IntoIterator<Item = Value>) -> Vec<Value> {
    cells.extend(more);
    cells
}
