//! The finalizer that keeps a pod until its Job has counted it.

use schemas::{Now, Object, labels};
use store::{Op, Write};

use crate::{owners, plan::replace_of};

/// Whether a pod is kept until its Job has counted it.
pub(crate) fn is_tracked(pod: &Object) -> bool {
    let mut finalizers = pod.meta.finalizers.iter().flatten();
    finalizers.any(|finalizer| finalizer == labels::JOB_TRACKING)
}

/// Takes the finalizer off.
pub(crate) fn strip(pod: &mut Object) {
    let mut finalizers = pod.meta.finalizers.take().unwrap_or_default();
    finalizers.retain(|finalizer| finalizer != labels::JOB_TRACKING);
    pod.meta.finalizers = (!finalizers.is_empty()).then_some(finalizers);
}

/// The write that lets a pod go; none if nothing holds it.
pub(crate) fn untrack(pod: &Object) -> Option<Write> {
    is_tracked(pod).then(|| {
        let mut free = pod.clone();
        strip(&mut free);
        replace_of(pod, free)
    })
}

/// The write that deletes a pod and lets it go at once: it is counted already, or shall not be.
pub(super) fn remove(pod: &Object, now: Now) -> Option<Write> {
    let Some(mut write) = owners::delete(pod, None, now) else {
        return untrack(pod);
    };
    if let Op::Replace(marked) = &mut write.op {
        strip(marked);
    }
    Some(write)
}

/// A write that adopts a pod or releases it, with the finalizer that belongs to that.
pub(super) fn claim(mut write: Write, job: &Object) -> Write {
    if let Op::Replace(pod) = &mut write.op {
        let ours = pod.controller().is_some_and(|owner| *owner.uid == *job.uid().0);
        strip(pod);
        if ours {
            let finalizers = pod.meta.finalizers.get_or_insert_default();
            finalizers.push(labels::JOB_TRACKING.to_owned());
        }
    }
    write
}
