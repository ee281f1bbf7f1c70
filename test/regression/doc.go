// Package regression holds a test for each fault of the forerunner that windlass must never have, named after what a user would see. It
// drives a real daemon on real images over its API.
package regression
