//! Jobs and CronJobs on real Docker, with real kubectl.

use std::time::Duration;

use harness::{Cluster, PATIENCE, have_docker, have_kubectl, run_any, wait};

const JOBS: &str = r#"
apiVersion: batch/v1
kind: Job
metadata: {name: hello}
spec:
  completions: 3
  parallelism: 2
  template:
    spec:
      restartPolicy: Never
      containers: [{name: c, image: "towline.local/busybox:1", command: [sh, -c, "echo hello from a job"]}]
---
apiVersion: batch/v1
kind: Job
metadata: {name: parts}
spec:
  completionMode: Indexed
  completions: 2
  parallelism: 2
  template:
    spec:
      restartPolicy: Never
      containers: [{name: c, image: "towline.local/busybox:1", command: [sh, -c, "echo part $JOB_COMPLETION_INDEX on $(hostname)"]}]
---
apiVersion: batch/v1
kind: Job
metadata: {name: failing}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      containers: [{name: c, image: "towline.local/busybox:1", command: [sh, -c, "exit 3"]}]
"#;

const CRON_JOBS: &str = r#"
apiVersion: batch/v1
kind: CronJob
metadata: {name: idle}
spec:
  schedule: "30 3 * * mon-fri"
  timeZone: Europe/Berlin
  suspend: true
  jobTemplate:
    spec:
      template:
        spec:
          restartPolicy: Never
          containers: [{name: c, image: "towline.local/busybox:1", command: [sh, -c, "echo it is time"]}]
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: tick}
spec:
  schedule: "* * * * *"
  jobTemplate:
    spec:
      template:
        spec:
          restartPolicy: Never
          containers: [{name: c, image: "towline.local/busybox:1", command: [sh, -c, "echo it is time"]}]
"#;

/// One line of a table, its columns separated by single spaces.
fn line(table: &str, name: &str) -> String {
    let found = table.lines().find(|line| line.split_whitespace().next() == Some(name));
    found.unwrap_or(table).split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn jobs_run_to_their_end_and_kubectl_shows_how() -> anyhow::Result<()> {
    if !have_docker() || !have_kubectl() {
        return Ok(());
    }
    let cluster = Cluster::start()?;
    cluster.repository.write("namespaces/batch/jobs.yaml", JOBS)?;
    let commit = cluster.repository.commit("Jobs")?;
    let batch = |line: &str| {
        let arguments: Vec<&str> = ["-n", "batch"].into_iter().chain(line.split_whitespace()).collect();
        cluster.kubectl(&arguments)
    };
    wait("the jobs to be there", PATIENCE, || {
        batch("get job hello parts failing").map_err(|error| error.to_string())
    });
    batch("wait --for=condition=complete job/hello job/parts --timeout=90s")?;
    batch("wait --for=condition=failed job/failing --timeout=60s")?;

    let table = batch("get jobs")?;
    assert_eq!(line(&table, "NAME"), "NAME STATUS COMPLETIONS DURATION AGE");
    assert!(line(&table, "hello").starts_with("hello Complete 3/3 "), "{table}");
    assert!(line(&table, "parts").starts_with("parts Complete 2/2 "), "{table}");
    assert!(line(&table, "failing").starts_with("failing Failed 0/1 "), "{table}");
    assert_eq!(batch("logs job/hello")?.lines().next(), Some("hello from a job"));
    let parts = batch("logs -l job-name=parts --prefix=false --tail=-1")?;
    let mut parts: Vec<&str> = parts.lines().collect();
    parts.sort_unstable();
    assert_eq!(parts, ["part 0 on parts-0", "part 1 on parts-1"]);
    let described = batch("describe job hello")?;
    for words in [
        "Pods Statuses:    0 Active (0 Ready) / 3 Succeeded / 0 Failed",
        "SuccessfulCreate",
        "Job completed",
    ] {
        assert!(described.contains(words), "{words}: {described}");
    }
    let described = batch("describe job failing")?;
    assert!(described.contains("BackoffLimitExceeded"), "{described}");
    let job = cluster.get(&["-n", "batch", "job", "parts"])?;
    assert_eq!(job["status"]["completedIndexes"], "0,1", "{job:#}");
    cluster.wait_status(&commit, "failed");
    let summary = cluster.repository.status_file("STATUS.md")?;
    assert!(summary.contains("batch/failing"), "{summary}");

    // A changed template runs anew, and the pods of before are gone first.
    let before = cluster.get(&["-n", "batch", "job", "hello"])?["metadata"]["uid"].clone();
    let changed = JOBS.replace("hello from a job", "hello again");
    cluster.repository.write("namespaces/batch/jobs.yaml", &changed)?;
    cluster.repository.commit("Say something else")?;
    wait("the job to be replaced", PATIENCE, || {
        let job = cluster
            .get(&["-n", "batch", "job", "hello"])
            .map_err(|error| error.to_string())?;
        (job["metadata"]["uid"] != before)
            .then_some(())
            .ok_or_else(|| job.to_string())
    });
    batch("wait --for=condition=complete job/hello --timeout=60s")?;
    assert_eq!(batch("logs job/hello")?.lines().next(), Some("hello again"));
    let pods = cluster.get(&["-n", "batch", "pods", "-l", "job-name=hello"])?;
    assert_eq!(pods["items"].as_array().map(Vec::len), Some(3), "{pods:#}");

    // One that git does not declare is its maker's.
    batch("create job own --image=towline.local/busybox:1 -- sh -c true")?;
    batch("wait --for=condition=complete job/own --timeout=60s")?;
    batch("delete job own --wait --timeout=30s")?;
    wait("its pods to be gone", PATIENCE, || {
        let pods = batch("get pods -l job-name=own -o name").map_err(|error| error.to_string())?;
        if pods.trim().is_empty() { Ok(()) } else { Err(pods) }
    });
    let (code, said) = run_any(&mut cluster.kubectl_command(&["-n", "batch", "delete", "job", "hello"]))?;
    assert_ne!(code, 0, "{said}");
    assert!(said.contains("namespaces/batch/jobs.yaml"), "{said}");
    Ok(())
}

#[test]
fn a_job_counts_right_whenever_the_server_is_killed() -> anyhow::Result<()> {
    if !have_docker() || !have_kubectl() {
        return Ok(());
    }
    let mut cluster = Cluster::start()?;
    let many = r#"
apiVersion: batch/v1
kind: Job
metadata: {name: many}
spec:
  completions: 8
  parallelism: 3
  ttlSecondsAfterFinished: 86400
  template:
    spec:
      restartPolicy: Never
      containers: [{name: c, image: "towline.local/busybox:1", command: [sh, -c, "sleep 0.3"]}]
"#;
    cluster.repository.write("namespaces/batch/many.yaml", many)?;
    cluster.repository.commit("Many")?;
    for done in [1, 4] {
        wait(&format!("{done} pods to be counted"), PATIENCE, || {
            let job = cluster
                .get(&["-n", "batch", "job", "many"])
                .map_err(|error| error.to_string())?;
            let counted = job["status"]["succeeded"].as_u64().unwrap_or(0);
            (counted >= done).then_some(()).ok_or_else(|| job["status"].to_string())
        });
        cluster.kill()?;
        cluster.launch()?;
    }
    cluster.kubectl(&[
        "-n",
        "batch",
        "wait",
        "--for=condition=complete",
        "job/many",
        "--timeout=90s",
    ])?;
    let job = cluster.get(&["-n", "batch", "job", "many"])?;
    let pods = cluster.get(&["-n", "batch", "pods", "-l", "job-name=many"])?;
    assert_eq!(job["status"]["succeeded"], 8, "{job:#}");
    assert_eq!(job["status"].get("failed"), None, "{job:#}");
    assert_eq!(
        pods["items"].as_array().map(Vec::len),
        Some(8),
        "each pod ran once: {pods:#}"
    );
    Ok(())
}

#[test]
fn a_job_that_is_not_kept_does_not_come_back() -> anyhow::Result<()> {
    if !have_docker() || !have_kubectl() {
        return Ok(());
    }
    let mut cluster = Cluster::start()?;
    let once = |words: &str| {
        format!(
            "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: once}}\nspec:\n  ttlSecondsAfterFinished: 0\n  template:\n    \
             spec:\n      restartPolicy: Never\n      containers: [{{name: c, image: \"towline.local/busybox:1\", command: [echo, {words}]}}]\n"
        )
    };
    let ran = |cluster: &Cluster| -> Result<usize, String> {
        let made = cluster.get(&["-n", "batch", "events", "--field-selector", "reason=SuccessfulCreate"]);
        let made = made.map_err(|error| error.to_string())?;
        Ok(made["items"].as_array().map_or(0, Vec::len))
    };
    cluster.repository.write("namespaces/batch/once.yaml", &once("one"))?;
    let commit = cluster.repository.commit("Once")?;
    cluster.sync(0);
    wait("the job to be gone", PATIENCE, || {
        let jobs = cluster.kubectl(&["-n", "batch", "get", "jobs,pods", "-o", "name"]);
        let jobs = jobs.map_err(|error| error.to_string())?;
        if jobs.trim().is_empty() && ran(&cluster)? == 1 {
            Ok(())
        } else {
            Err(jobs)
        }
    });
    cluster.wait_status(&commit, "converged");
    cluster.stop()?;
    cluster.launch()?;
    cluster.repository.write(
        "namespaces/batch/other.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: other}\n",
    )?;
    cluster.repository.commit("Something else")?;
    cluster.sync(0);
    assert_eq!(
        ran(&cluster).map_err(anyhow::Error::msg)?,
        1,
        "neither a restart nor a sync runs it again"
    );
    cluster.repository.write("namespaces/batch/once.yaml", &once("two"))?;
    cluster.repository.commit("Once more")?;
    cluster.sync(0);
    wait("the changed job to have run", PATIENCE, || match ran(&cluster)? {
        2 => Ok(()),
        other => Err(format!("{other} pods were made")),
    });
    Ok(())
}

#[test]
fn cron_jobs_start_jobs_on_time_and_by_hand() -> anyhow::Result<()> {
    if !have_docker() || !have_kubectl() {
        return Ok(());
    }
    let cluster = Cluster::start()?;
    cluster.repository.write("namespaces/batch/cron.yaml", CRON_JOBS)?;
    cluster.repository.commit("Cron jobs")?;
    cluster.sync(0);
    let batch = |line: &str| {
        let arguments: Vec<&str> = ["-n", "batch"].into_iter().chain(line.split_whitespace()).collect();
        cluster.kubectl(&arguments)
    };
    let table = batch("get cronjobs")?;
    assert_eq!(
        line(&table, "NAME"),
        "NAME SCHEDULE TIMEZONE SUSPEND ACTIVE LAST SCHEDULE AGE"
    );
    assert!(
        line(&table, "idle").starts_with("idle 30 3 * * mon-fri Europe/Berlin True 0 <none> "),
        "{table}"
    );
    batch("create job by-hand --from=cronjob/idle")?;
    batch("wait --for=condition=complete job/by-hand --timeout=60s")?;
    assert_eq!(batch("logs job/by-hand")?.trim(), "it is time");

    // The next full minute is at most a minute away.
    let job = wait("the minute's job", Duration::from_secs(90), || {
        let jobs = batch("get jobs -o name").map_err(|error| error.to_string())?;
        let tick = jobs.lines().find(|name| name.contains("/tick-")).map(str::to_owned);
        tick.ok_or(jobs)
    });
    batch(&format!("wait --for=condition=complete {job} --timeout=60s"))?;
    assert_eq!(batch(&format!("logs {job}"))?.trim(), "it is time");
    let tick = wait("its success to be known", PATIENCE, || {
        let tick = cluster
            .get(&["-n", "batch", "cronjob", "tick"])
            .map_err(|error| error.to_string())?;
        let known = tick["status"]["lastSuccessfulTime"].is_string();
        if known {
            Ok(tick)
        } else {
            Err(tick["status"].to_string())
        }
    });
    assert!(tick["status"]["lastScheduleTime"].is_string(), "{tick:#}");
    let described = batch("describe cronjob tick")?;
    for words in ["SuccessfulCreate", "SawCompletedJob"] {
        assert!(described.contains(words), "{words}: {described}");
    }
    Ok(())
}
