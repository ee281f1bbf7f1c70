//go:build ceph

package main

import (
	"slices"
	"strings"

	"github.com/windlass-hpc/windlass/image/rbd"
)

// monitors are the addresses of the cluster's monitors by the two versions of its protocol.
type monitors struct{ v1, v2 []string }

// What follows are the definitions of swagger.yaml, with only what is said here.
type (
	mountDefinition struct {
		Kind   string      `json:"kind"`
		Attach mountAttach `json:"attach"`
	}
	mountAttach struct {
		FSType string           `json:"fs_type"`
		Attach attachDefinition `json:"attach"`
	}
	attachDefinition struct {
		Kind string    `json:"kind"`
		RBD  attachRBD `json:"rbd"`
	}
	attachRBD struct {
		Monitors []string   `json:"monitors"`
		Pool     string     `json:"pool"`
		Image    string     `json:"image"`
		Snapshot string     `json:"snapshot,omitempty"`
		Options  rbdOptions `json:"options"`
	}
	rbdOptions struct {
		Name       string `json:"name"`
		Credential string `json:"credential"`
		Namespace  string `json:"namespace,omitempty"`
		MSMode     string `json:"ms_mode,omitempty"`
	}
)

// definition is what a node is told to mount the image, or to attach it when what it holds is no file system.
func definition(m monitors, user string, r *rbd.Result) any {
	image := attachRBD{Pool: r.Name.Pool, Image: r.Name.Image, Snapshot: r.Name.Snapshot,
		Options: rbdOptions{Name: "node", Credential: "ceph-node", Namespace: r.Name.Namespace}}
	image.Monitors = shortened(m.v1, ":6789")
	if len(m.v1) == 0 {
		image.Monitors, image.Options.MSMode = m.v2, "prefer-crc"
	}
	attach := attachDefinition{Kind: "rbd", RBD: image}
	if !slices.Contains([]string{"squashfs", "erofs", "ext4", "xfs", "btrfs", "iso9660", "f2fs", "cramfs"}, r.Holds) {
		return attach
	}
	return mountDefinition{Kind: "attach", Attach: mountAttach{FSType: r.Holds, Attach: attach}}
}

// shortened leaves out the port that is meant anyway.
func shortened(addrs []string, port string) []string {
	var short []string
	for _, a := range addrs {
		short = append(short, strings.TrimSuffix(a, port))
	}
	return short
}
