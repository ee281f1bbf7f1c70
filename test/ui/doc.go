// Package ui holds the test that looks at the documentation page as a person would: in a browser.
package ui
