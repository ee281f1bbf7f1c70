// Package image is what an administrator does with images: build, look, check, compare, unpack, export, trace. It works on stores and
// runs without the daemon.
package image
