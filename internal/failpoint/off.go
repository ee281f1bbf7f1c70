//go:build !failpoint

// Package failpoint lets tests kill, fail or hang the daemon at a named point. Without the build tag `failpoint` every point is
// empty and costs nothing; see on.go for how points are armed.
package failpoint

import "context"

// Enabled says whether points can be armed in this build.
const Enabled = false

// Hit does nothing in this build.
func Hit(context.Context, string) error { return nil }
