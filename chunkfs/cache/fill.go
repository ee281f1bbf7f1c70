package cache

// Urgency says what may be evicted for a chunk.
type Urgency int

// The urgencies.
const (
	Wanted Urgency = iota // a reader wants it, now or soon: also chunks of images in use that nobody has used lately
	Spare                 // nobody has asked for it: only images that are not in use
)

// Fill writes the plain bytes of extent i, which has a chunk. Verified says that the caller has checked their digest; the extent is then
// Good, else Unchecked. ErrFull says that it was not kept.
func (m *Image) Fill(i int, plain []byte, verified bool, u Urgency) error { return ErrFull }

// MarkBad says that extent i is not what it should be: it is Missing afterwards.
func (m *Image) MarkBad(i int) {}

// Elsewhere looks for the chunk of extent i in the rest of this image and in the other images of the cache. What it returns has been
// verified; it is appended to buf. Nil: not found.
func (m *Image) Elsewhere(i int, buf []byte) []byte { return nil }
