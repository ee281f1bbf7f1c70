package format

// Algorithm is a digest algorithm. The zero value is none.
type Algorithm uint8

// The algorithms.
const (
	BLAKE3 Algorithm = 1
	SHA256 Algorithm = 2
)

// Sum is the 32 bytes of a digest of either algorithm.
type Sum [32]byte

// Digest names content: `blake3:` or `sha256:` and 64 lower-case hexadecimal digits.
type Digest struct {
	Algorithm Algorithm
	Sum       Sum
}
