// Package store is a store of images in a directory, as any web server can serve it: blobs by digest, tags, traces, pins. It publishes
// atomically and collects what nothing holds.
package store
