// Package docs holds the tests that keep the documentation true: its examples fit the contract and its links lead somewhere.
package docs
