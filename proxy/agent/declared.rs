//! The loop that a declared agent follows: ask the model, call the tools that it asks for, until it answers.

use std::borrow::Cow;

use super::run::{Run, Step};
use crate::error::Result;

/// Works on the run's request until the reply is complete.
pub async fn drive(run: &mut Run) -> Result<()> {
    let mut prompt = run.opening_prompt()?;
    loop {
        run.check_limits(&mut prompt);
        let reply = run.ask_model(Cow::Borrowed(&prompt)).await?;
        match run.step(reply)? {
            Step::Final(reply) => {
                let reply = run.settle(&mut prompt, reply).await?;
                return run.finish(reply).await;
            }
            Step::HandBack(turn) => return run.hand_back(turn).await,
            Step::Tools(turn) => {
                prompt.messages.extend(run.call_tools(&turn).await?);
                // `required` and a named tool hold for the first turn; kept, the loop would never end.
                prompt.rest.shift_remove("tool_choice");
            }
        }
    }
}
