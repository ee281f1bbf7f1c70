// Package build turns a source into an image in a store: it cuts the data device into chunks, stores those that the store does not
// have, and writes index, metadata and manifest. It never holds the content of a file in memory as a whole.
package build
