// Package corrupt damages what chunkfs reads and asks what a reader sees: each bit of a small image flipped in turn, bits of a large one
// at random, packs cut, swapped and replayed, whole images replayed, the cache of a node damaged between two starts of its server. What is
// read through origins, cache, device and metadata, as the server reads it, is right or an error that names what is damaged, and checking
// the store finds every damage.
//
// It also bounds what the parsers take: hostile input must not make any of them allocate much.
//
// The ordinary run is short. FlipsVar asks for more.
package corrupt

// FlipsVar names the environment variable that says how many bits of the large image are flipped.
const FlipsVar = "WINDLASS_FLIPS"
