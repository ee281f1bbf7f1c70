//go:build !race

package netboot

const raced = false
