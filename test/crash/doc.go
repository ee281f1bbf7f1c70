// Package crash kills the daemon at every step that it takes, and fails and hangs every step, and holds that the node is then as it must
// be: nothing leaked, nothing lost. Its tests are built with the tag failpoint only.
package crash
