//! Where nodes are: for each label that spreads or draws pods together, the domains that its values
//! make.

use std::{collections::BTreeMap, sync::Arc};

use rustc_hash::FxHashMap;
use schemas::labels::HOSTNAME;

/// A node without the label is in no domain.
pub(super) const NOWHERE: u32 = u32::MAX;

/// More domains than this are looked at node by node, not domain by domain.
const COARSE: usize = 64;

/// One label and its domains, by number.
#[derive(Debug, Default)]
pub(super) struct Axis {
    label: Arc<str>,
    domains: FxHashMap<Arc<str>, u32>,
    of: Vec<u32>,
    members: Vec<Vec<u32>>,
}

/// All labels that matter.
#[derive(Debug, Default)]
pub(super) struct Topology {
    axes: Vec<Axis>,
    by_label: FxHashMap<Arc<str>, usize>,
}

impl Axis {
    /// The domain that a node is in.
    pub(super) fn of(&self, node: u32) -> Option<u32> {
        let domain = self.of.get(node as usize).copied()?;
        (domain != NOWHERE).then_some(domain)
    }

    /// The nodes of a domain.
    pub(super) fn members(&self, domain: u32) -> &[u32] {
        self.members.get(domain as usize).map_or(&[], Vec::as_slice)
    }

    pub(super) fn is_hostname(&self) -> bool {
        &*self.label == HOSTNAME
    }

    /// Whether its domains are about as many as nodes.
    pub(super) fn is_fine(&self) -> bool {
        self.is_hostname() || self.domains.len() > COARSE
    }

    fn put(&mut self, node: u32, labels: Option<&BTreeMap<String, String>>) {
        let at = node as usize;
        if self.of.len() <= at {
            self.of.resize(at + 1, NOWHERE);
        }
        let value = labels.and_then(|labels| labels.get(&*self.label));
        let new = value.map_or(NOWHERE, |value| match self.domains.get(value.as_str()) {
            Some(domain) => *domain,
            None => {
                // More domains than numbers would need more nodes than can be.
                let domain = u32::try_from(self.domains.len()).unwrap_or(NOWHERE);
                self.domains.insert(value.as_str().into(), domain);
                self.members.push(Vec::new());
                domain
            }
        });
        let old = std::mem::replace(&mut self.of[at], new);
        if old == new {
            return;
        }
        if old != NOWHERE {
            self.members[old as usize].retain(|member| *member != node);
        }
        if new != NOWHERE {
            self.members[new as usize].push(node);
        }
    }
}

impl Topology {
    pub(super) fn axis(&self, at: usize) -> &Axis {
        &self.axes[at]
    }

    /// The number of a label; `nodes` are asked for it once, when it is new.
    pub(super) fn find<'a>(
        &mut self,
        label: &str,
        nodes: impl Iterator<Item = (u32, &'a BTreeMap<String, String>)>,
    ) -> usize {
        if let Some(at) = self.by_label.get(label) {
            return *at;
        }
        let mut axis = Axis {
            label: label.into(),
            ..Axis::default()
        };
        for (node, labels) in nodes {
            axis.put(node, Some(labels));
        }
        self.by_label.insert(axis.label.clone(), self.axes.len());
        self.axes.push(axis);
        self.axes.len() - 1
    }

    /// Takes in the labels of a node; none when it is gone.
    pub(super) fn put(&mut self, node: u32, labels: Option<&BTreeMap<String, String>>) {
        for axis in &mut self.axes {
            axis.put(node, labels);
        }
    }
}
