// Package cluster names the programs that are built from what this module requires.
//
// The programs' own modules are of one release: a k8s.io/kubernetes of v1.N.P goes with staging modules of v0.N.P, which its own
// go.mod replaces by folders that a module does not have.
package cluster

import (
	_ "go.etcd.io/etcd/server/v3"
	_ "k8s.io/kubernetes/cmd/kube-apiserver"
)
