//! `towline plan`: what a ref would change.

use std::process::ExitCode;

use serde::Deserialize;
use serde_json::Value;

use crate::{cli::PlanArgs, client::Server, output};

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

/// A text as a query's value.
fn encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ref_is_encoded_for_a_query() {
        assert_eq!(encode("feature/a&b c"), "feature/a%26b%20c");
    }
}
