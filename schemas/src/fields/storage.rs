//! Rows for volumes, claims and classes.

use super::{Field, ignored, implemented, refused};

/// A claim, by itself or as a template in a StatefulSet.
pub(super) const CLAIM: &[Field] = &[
    implemented("spec", "What is asked for."),
    implemented(
        "spec.accessModes",
        "ReadWriteOnce or ReadWriteOncePod: a volume is on one node, and its pods are there.",
    ),
    implemented("spec.resources", "How much is asked for."),
    implemented(
        "spec.resources.requests",
        "The size that is noted on the volume. Nothing keeps the data below it.",
    ),
    ignored(
        "spec.resources.limits",
        "a volume may grow as far as its node's disk",
        &[],
    ),
    implemented(
        "spec.storageClassName",
        "The class that makes the volume; the default class if left out, none if empty.",
    ),
    implemented("spec.volumeName", "The volume to take, chosen by hand."),
    implemented(
        "spec.selector",
        "Labels of the volumes that may be taken. A class makes none then.",
    ),
    refused("spec.volumeMode", "volumes are directories", &["\"Filesystem\""]),
    refused("spec.dataSource", "a new volume is empty", &[]),
    refused("spec.dataSourceRef", "a new volume is empty", &[]),
    ignored("spec.volumeAttributesClassName", "volumes have no attributes", &[]),
];

const NO_DRIVER: &str = "there are no storage drivers; mount it on the node and use local or hostPath";

pub(super) const VOLUME: &[Field] = &[
    implemented("spec", "What the volume is."),
    implemented(
        "spec.capacity",
        "How large it is; claims that ask for more do not get it.",
    ),
    implemented(
        "spec.accessModes",
        "How it may be used; a claim asks for some of these.",
    ),
    implemented("spec.claimRef", "The claim that it is bound to, or kept for."),
    implemented(
        "spec.persistentVolumeReclaimPolicy",
        "Retain, the default, or Delete: what happens to it when its claim is gone.",
    ),
    implemented("spec.storageClassName", "The class of the claims that may take it."),
    implemented(
        "spec.nodeAffinity",
        "The nodes that it can be reached from; its pods go there.",
    ),
    implemented("spec.local", "A directory of a node."),
    implemented("spec.local.path", "The path on the node."),
    implemented("spec.hostPath", "A directory of whatever node the pod is on."),
    implemented(
        "spec.csi",
        "A Docker volume of one node. The class local makes these; other drivers there are none.",
    ),
    refused("spec.volumeMode", "volumes are directories", &["\"Filesystem\""]),
    ignored("spec.mountOptions", "directories are mounted as they are", &[]),
    ignored("spec.volumeAttributesClassName", "volumes have no attributes", &[]),
    refused("spec.awsElasticBlockStore", NO_DRIVER, &[]),
    refused("spec.azureDisk", NO_DRIVER, &[]),
    refused("spec.azureFile", NO_DRIVER, &[]),
    refused("spec.cephfs", NO_DRIVER, &[]),
    refused("spec.cinder", NO_DRIVER, &[]),
    refused("spec.fc", NO_DRIVER, &[]),
    refused("spec.flexVolume", NO_DRIVER, &[]),
    refused("spec.flocker", NO_DRIVER, &[]),
    refused("spec.gcePersistentDisk", NO_DRIVER, &[]),
    refused("spec.glusterfs", NO_DRIVER, &[]),
    refused("spec.iscsi", NO_DRIVER, &[]),
    refused("spec.nfs", NO_DRIVER, &[]),
    refused("spec.photonPersistentDisk", NO_DRIVER, &[]),
    refused("spec.portworxVolume", NO_DRIVER, &[]),
    refused("spec.quobyte", NO_DRIVER, &[]),
    refused("spec.rbd", NO_DRIVER, &[]),
    refused("spec.scaleIO", NO_DRIVER, &[]),
    refused("spec.storageos", NO_DRIVER, &[]),
    refused("spec.vsphereVolume", NO_DRIVER, &[]),
];

pub(super) const CLASS: &[Field] = &[
    implemented(
        "provisioner",
        "Who makes the volumes: towline.dev/local on the node of the first pod, or kubernetes.io/no-provisioner for those made by hand.",
    ),
    implemented(
        "reclaimPolicy",
        "Delete, the default, or Retain: what happens to its volumes when their claims are gone.",
    ),
    implemented(
        "volumeBindingMode",
        "WaitForFirstConsumer: a claim is bound once a pod that uses it has a node; or Immediate, for volumes made by hand.",
    ),
    ignored("allowVolumeExpansion", "nothing limits the size of a volume", &[]),
    ignored("parameters", "volumes are plain directories", &[]),
    ignored("mountOptions", "directories are mounted as they are", &[]),
    ignored(
        "allowedTopologies",
        "the volume follows the pod; use the pod's node affinity",
        &[],
    ),
];
