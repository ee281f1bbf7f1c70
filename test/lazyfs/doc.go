// Package lazyfs tests chunkfs images as users have them: raised by a real daemon over its API, served by the real server under its
// keeper, fetched from web servers that fail, and read through the kernel, in every mode. It asks whether every byte is right, whether
// anybody gets an error or waits for long, and whether anything stays behind.
//
// The ordinary run is short. `make crash` sets LongVar, and everything runs for longer and dies more often.
package lazyfs

// LongVar names the environment variable that asks for the long run: how often the server is killed. The other tests follow it.
const LongVar = "WINDLASS_LAZY_KILLS"
