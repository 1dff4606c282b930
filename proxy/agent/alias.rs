//! The one hop of an alias with hooks or a fallback: the request goes to the model as it came, and the reply to the client as it comes.

use std::borrow::Cow;

use super::run::Run;
use crate::error::Result;

/// Works on the run's request until the reply is complete.
pub async fn drive(run: &mut Run) -> Result<()> {
    let prompt = run.whole_prompt();
    for choice in run.ask_model(Cow::Owned(prompt)).await?.choices {
        run.conclude(choice.index, choice.finish_reason().to_owned()).await?;
    }
    Ok(())
}
