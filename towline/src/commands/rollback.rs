//! `towline rollback`: an object's document goes back, as a commit.

use std::process::ExitCode;

use schemas::restore::Restored;

use crate::{
    cli::RollbackArgs,
    client::Server,
    commands::{encode, object},
    output,
};

pub(crate) async fn run(args: &RollbackArgs) -> anyhow::Result<ExitCode> {
    let (kind, name) = object(&args.object)?;
    let server = Server::find(&args.client)?;
    let mut path = format!(
        "/towline/v1/rollback?kind={}&name={}&namespace={}",
        kind.info().plural,
        encode(name),
        encode(&args.namespace)
    );
    if let Some(commit) = &args.to {
        path.push_str(&format!("&to={}", encode(commit)));
    }
    let restored: Restored = server.json("POST", &path, Vec::new()).await?;
    output::print(args.output.output, &restored, |restored| {
        for line in lines(&args.object, restored) {
            output::line(line);
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

fn lines(object: &str, restored: &Restored) -> Vec<String> {
    let Restored {
        commit,
        branch,
        refused,
        from,
        file,
    } = restored;
    let mut lines = Vec::new();
    if let Some(refused) = refused {
        lines.push(format!("Nothing changes yet: {refused}."));
        lines.push(format!("The commit is on {branch}: merge it to roll {object} back."));
    } else {
        lines.push(format!(
            "{object} is as it was at {}; `towline sync --wait` follows it.",
            from.short()
        ));
    }
    lines.push(format!("commit {commit} on {branch} ({file})"));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_the_commit_is_and_what_is_left_to_do() {
        let mut restored = Restored {
            commit: "2222222222222222".into(),
            branch: "main".to_owned(),
            refused: None,
            from: "1111111111111111".into(),
            file: "web.yaml".to_owned(),
        };
        let said = lines("deploy/web", &restored).join("\n");
        assert!(said.starts_with("deploy/web is as it was at 1111111111;"), "{said}");
        assert!(said.ends_with("commit 2222222222222222 on main (web.yaml)"), "{said}");
        restored.refused = Some("protected branch".to_owned());
        restored.branch = "proposals/x".to_owned();
        let said = lines("deploy/web", &restored).join("\n");
        assert!(
            said.contains("protected branch") && said.contains("on proposals/x: merge it"),
            "{said}"
        );
    }
}
