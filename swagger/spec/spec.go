// Package spec holds the contract, swagger.yaml, as JSON. swagger.json is generated; the package never interprets it.
package spec

import (
	_ "embed" // for the directive below
)

//go:embed swagger.json
var document []byte

// JSON is the contract. The caller gets a copy.
func JSON() []byte { return append([]byte(nil), document...) }
