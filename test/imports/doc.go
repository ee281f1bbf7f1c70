// Package imports holds the test that keeps the shape of the tree: who may import whom, and what may not be written anywhere. The rules
// are in rules.go; docs/ARCHITECTURE.md says why they are so.
package imports
