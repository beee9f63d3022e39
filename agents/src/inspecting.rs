//! Single containers looked at on request, one after the other: answers come in the order of questions.

use std::sync::Arc;

use schemas::Uid;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio_util::sync::CancellationToken;

use crate::{agent::Message, host::Host, runtime::ContainerId};

/// A container that may be otherwise than it was last seen.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub pod: Uid,
    pub id: ContainerId,
    /// It was known to have ended when this was asked: if it runs, it was started again.
    pub of_dead: bool,
}

pub(crate) struct Inspector {
    pub host: Arc<Host>,
    pub questions: UnboundedReceiver<Question>,
    pub tell: UnboundedSender<Message>,
    pub shutdown: CancellationToken,
}

impl Inspector {
    pub(crate) async fn run(mut self) {
        loop {
            let question = tokio::select! {
                question = self.questions.recv() => question,
                () = self.shutdown.cancelled() => return,
            };
            let Some(question) = question else { return };
            // One that is gone or cannot be looked at now shows in the runtime's events or the next look.
            let found = self.host.runtime.inspect(&question.id).await.ok().map(Box::new);
            let _ = self.tell.send(Message::Inspected { question, found });
        }
    }
}
