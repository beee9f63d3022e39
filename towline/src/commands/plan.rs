//! `towline plan`: what a ref would change.

use std::process::ExitCode;

use serde::Deserialize;
use serde_json::Value;

use crate::{cli::PlanArgs, client::Server, commands::encode, output};

#[derive(Deserialize)]
struct Answer {
    plan: Value,
    text: String,
}

pub(crate) async fn run(args: &PlanArgs) -> anyhow::Result<ExitCode> {
    let server = Server::find(&args.client)?;
    let head = encode(args.head.as_deref().unwrap_or_default());
    let answer: Answer = server
        .json("GET", &format!("/towline/v1/plan?head={head}"), Vec::new())
        .await?;
    output::print(args.output.output, &answer.plan, |_| {
        output::line(answer.text.trim_end())
    })?;
    Ok(ExitCode::SUCCESS)
}
