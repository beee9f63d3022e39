//! Failure and success policies: what the end of some pods means for the whole.

use k8s_openapi::api::{
    batch::v1::{PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement, SuccessPolicy},
    core::v1::{ContainerStatus, PodStatus},
};
use schemas::{Object, indexes::Indexes};

/// What a failed pod leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// It counts towards the limit of failures.
    Count,
    Ignore,
    FailIndex,
    /// The whole Job fails, and why.
    FailJob(String),
}

/// The first rule that matches a failed pod decides.
pub(super) fn judge(policy: Option<&PodFailurePolicy>, pod: &Object) -> Judgement {
    let Some(policy) = policy else {
        return Judgement::Count;
    };
    let status: PodStatus = pod.status().unwrap_or_default();
    for (at, rule) in policy.rules.iter().enumerate() {
        let matched = match (&rule.on_exit_codes, &rule.on_pod_conditions) {
            (Some(codes), _) => exit_code(&status, codes).map(|(container, code)| {
                format!(
                    "Container {container} for pod {}/{} failed with exit code {code} matching {} rule at index {at}",
                    pod.namespace(),
                    pod.name(),
                    rule.action
                )
            }),
            (None, Some(patterns)) => {
                let conditions = status.conditions.iter().flatten();
                let found = conditions.into_iter().find(|condition| {
                    let fits =
                        |status: &str| status == condition.status || (status.is_empty() && condition.status == "True");
                    patterns
                        .iter()
                        .any(|pattern| pattern.type_ == condition.type_ && fits(&pattern.status))
                });
                found.map(|condition| {
                    format!(
                        "Pod {}/{} has condition {} matching {} rule at index {at}",
                        pod.namespace(),
                        pod.name(),
                        condition.type_,
                        rule.action
                    )
                })
            }
            (None, None) => None,
        };
        if let Some(message) = matched {
            return match rule.action.as_str() {
                "FailJob" => Judgement::FailJob(message),
                "FailIndex" => Judgement::FailIndex,
                "Ignore" => Judgement::Ignore,
                _ => Judgement::Count,
            };
        }
    }
    Judgement::Count
}

/// The first container whose exit code matches. Success never does.
fn exit_code<'s>(status: &'s PodStatus, wanted: &PodFailurePolicyOnExitCodesRequirement) -> Option<(&'s str, i32)> {
    let all = [&status.container_statuses, &status.init_container_statuses];
    let containers = all.into_iter().flatten().flatten();
    let named = |container: &&ContainerStatus| {
        wanted
            .container_name
            .as_ref()
            .is_none_or(|name| *name == container.name)
    };
    containers.filter(named).find_map(|container| {
        let code = container.state.as_ref()?.terminated.as_ref()?.exit_code;
        let listed = wanted.values.contains(&code);
        let fits = if wanted.operator == "NotIn" { !listed } else { listed };
        (code != 0 && fits).then_some((container.name.as_str(), code))
    })
}

/// Why the indexes that have succeeded are enough, if they are.
pub(super) fn is_enough(policy: Option<&SuccessPolicy>, succeeded: &Indexes) -> Option<String> {
    let rules = policy.iter().flat_map(|policy| &policy.rules).enumerate();
    let met = |(at, rule): (usize, &k8s_openapi::api::batch::v1::SuccessPolicyRule)| {
        let wanted = rule.succeeded_indexes.as_deref().map(Indexes::parse);
        let (common, all) = match wanted {
            Some(Ok(wanted)) => (wanted.common(succeeded), Some(wanted.len())),
            // Validation has refused it before.
            Some(Err(_)) => return None,
            None => (succeeded.len(), None),
        };
        let count = rule.succeeded_count.and_then(|count| usize::try_from(count).ok());
        let enough = count.or(all)?;
        (common >= enough).then(|| format!("Matched rules at index {at}"))
    };
    rules.filter_map(met).next()
}

#[cfg(test)]
mod tests;
