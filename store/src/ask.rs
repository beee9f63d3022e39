//! Durable writes beside objects, before and after they are judged.

use std::sync::Arc;

use schemas::Key;

use crate::{
    Unavailable,
    desired::{Desired, Mark, RevisionWrite},
    notes::{Note, Notes},
    staging::{Staged, Staging},
};

/// A durable write beside objects, before it is judged.
#[derive(Clone)]
pub(crate) enum Ask {
    /// Always written.
    Notes(Vec<Note>),
    /// Written unless it is the newest mark already.
    Healthy(Vec<(Key, Mark)>),
    Revision(Arc<RevisionWrite>, Staged),
    /// Written unless a secret of that name is there.
    SecretOr {
        name: String,
        value: Vec<u8>,
    },
    /// Written unless known.
    Delivery(Note),
}

pub(crate) enum Told {
    Done,
    Revision(Arc<Desired>),
    Secret(Vec<u8>),
    First(bool),
}

/// Decides on one note, against what is known and what the batch has so far.
pub(crate) fn judge_note(
    ask: Ask,
    known: &Notes,
    staging: &Staging,
    batch: &mut Vec<Note>,
) -> Result<Told, Unavailable> {
    match ask {
        Ask::Notes(notes) => {
            batch.extend(notes);
            Ok(Told::Done)
        }
        Ask::Healthy(marks) => {
            // Only what came before concerns the same object: a caller names each once.
            let before = batch.len();
            for (key, mark) in marks {
                let notes = known.marking(&batch[..before], key, mark);
                batch.extend(notes);
            }
            Ok(Told::Done)
        }
        Ask::Revision(write, staged) => {
            if !staging.allows(staged) {
                return Err(Unavailable(format!(
                    "the revision of {} was not prepared to its end; it is prepared anew",
                    write.commit
                )));
            }
            let newest = known.desired.revision;
            if batch.iter().any(|note| matches!(note, Note::Revision { .. })) || write.base != newest {
                return Err(Unavailable(format!(
                    "the revision of commit {} was computed against revision {}, but the newest is {newest} or later; \
                     compute it again",
                    write.commit, write.base
                )));
            }
            let desired = Arc::new(known.desired.with(&write));
            batch.push(Note::Revision {
                write,
                staged: staged.rows,
            });
            Ok(Told::Revision(desired))
        }
        Ask::SecretOr { name, value } => {
            let in_batch = batch.iter().find_map(|note| match note {
                Note::Secret { name: other, value } if *other == name => Some(value),
                _ => None,
            });
            if let Some(kept) = in_batch.or_else(|| known.secrets.get(&name)) {
                return Ok(Told::Secret(kept.clone()));
            }
            batch.push(Note::Secret {
                name,
                value: value.clone(),
            });
            Ok(Told::Secret(value))
        }
        Ask::Delivery(note) => {
            let Note::Delivery { source, id, .. } = &note else {
                return Ok(Told::First(false));
            };
            let in_batch = batch
                .iter()
                .any(|other| matches!(other, Note::Delivery { source: s, id: i, .. } if s == source && i == id));
            let first = !in_batch && !known.deliveries.contains_key(&(source.clone(), id.clone()));
            if first {
                batch.push(note);
            }
            Ok(Told::First(first))
        }
    }
}
