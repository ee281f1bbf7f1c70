// Package docs gives the examples of the documentation to the tests that run them.
package docs

import "embed"

// Files are the pages of attachments and mounts, and the definitions in examples, by their paths below docs.
//
//go:embed attachments/*.md mounts/*.md examples/*.json
var Files embed.FS
