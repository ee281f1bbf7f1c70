// Package chunktest makes small images of random chunks, and an origin in memory that can be made to fail, for the tests of the packages
// that keep and serve chunks. Nothing else imports it.
package chunktest

import (
	"io"
	"math/rand/v2"
	"testing"

	"github.com/windlass-hpc/windlass/chunkfs/format"
)

// Options say what an image is like. The zero value is small.
type Options struct {
	Seed      uint64
	Chunks    int          // 64 when 0
	Largest   int          // bytes of a chunk; 20,000 when 0. No chunk is aligned to anything.
	Holes     bool         // there are runs of zeros between the chunks
	Repeats   bool         // some chunks are there more than once
	Like      *Image       // every other chunk is one of this image's
	Codec     format.Codec // None when 0
	Algorithm format.Algorithm
	PackSize  int // bytes; 256 KiB when 0
	Metadata  int // bytes; 10,000 when 0
}

// Image is an image, as an origin has it, and as it must read.
type Image struct {
	Digest                    format.Digest
	Manifest, Index, Metadata []byte // as stored
	PlainMetadata             []byte
	Decoded                   *format.Index
	Device                    []byte
	Packs                     map[format.Sum][]byte

	chunks [][]byte
}

// New makes an image; the same for the same options.
func New(t testing.TB, o Options) *Image {
	t.Helper()
	def(&o.Chunks, 64)
	def(&o.Largest, 20000)
	def(&o.PackSize, 256<<10)
	def(&o.Metadata, 10000)
	if o.Algorithm == 0 {
		o.Algorithm = format.BLAKE3
	}
	m := &maker{t: t, o: o, rand: rand.New(rand.NewPCG(o.Seed, 7)), image: &Image{Packs: map[format.Sum][]byte{}}}
	m.x = &format.Index{Algorithm: o.Algorithm}
	var err error
	if m.encoder, err = format.NewEncoder(o.Codec, 3); err != nil {
		t.Fatal(err)
	}
	m.device()
	m.manifest()
	return m.image
}

func def(v *int, d int) {
	if *v == 0 {
		*v = d
	}
}

type maker struct {
	t       testing.TB
	o       Options
	rand    *rand.Rand
	image   *Image
	x       *format.Index
	encoder *format.Encoder
	pack    []byte
	stored  int64
}

// device makes chunks and lays them on the device and into packs.
func (m *maker) device() {
	for n := range m.o.Chunks {
		m.chunk(m.content(n))
		if m.o.Repeats && m.rand.IntN(4) == 0 {
			m.place(uint32(m.rand.IntN(len(m.x.Chunks))))
		}
		if m.o.Holes && m.rand.IntN(4) == 0 {
			m.hole(1 + m.rand.IntN(40000))
		}
	}
	if rest := len(m.image.Device) % format.BlockSize; rest != 0 {
		m.hole(format.BlockSize - rest)
	}
	m.seal()
	m.x.DeviceSize = int64(len(m.image.Device))
}

func (m *maker) content(n int) []byte {
	if m.o.Like != nil && n%2 == 1 && n < len(m.o.Like.chunks) {
		return m.o.Like.chunks[n]
	}
	b := make([]byte, 1+m.rand.IntN(m.o.Largest))
	for i := range b[:len(b)/2] {
		b[i] = byte(m.rand.Uint32())
	}
	b[0] |= 1 // not a run of zeros
	return b
}

func (m *maker) chunk(b []byte) {
	stored, codec := m.encoder.Encode(nil, b)
	if len(m.pack)+len(stored) > m.o.PackSize {
		m.seal()
	}
	m.x.Chunks = append(m.x.Chunks, format.Chunk{
		Sum: m.o.Algorithm.Of(b).Sum, Size: uint32(len(b)), Pack: uint32(len(m.x.Packs)), Offset: uint32(len(m.pack)),
		Stored: uint32(len(stored)), Codec: codec,
	})
	m.pack = append(m.pack, stored...)
	m.stored += int64(len(stored))
	m.image.chunks = append(m.image.chunks, b)
	m.place(uint32(len(m.x.Chunks) - 1))
}

func (m *maker) place(chunk uint32) {
	b := m.image.chunks[chunk]
	m.x.Extents = append(m.x.Extents, format.Extent{Size: int64(len(b)), Chunk: chunk})
	m.image.Device = append(m.image.Device, b...)
}

func (m *maker) hole(size int) {
	m.image.Device = append(m.image.Device, make([]byte, size)...)
	if last := &m.x.Extents[len(m.x.Extents)-1]; last.Chunk == format.Zero {
		last.Size += int64(size)
		return
	}
	m.x.Extents = append(m.x.Extents, format.Extent{Size: int64(size), Chunk: format.Zero})
}

func (m *maker) seal() {
	if len(m.pack) == 0 {
		return
	}
	sum := m.o.Algorithm.Of(m.pack).Sum
	m.x.Packs = append(m.x.Packs, format.Pack{Sum: sum, Size: int64(len(m.pack))})
	m.image.Packs[sum] = m.pack
	m.pack = nil
}

func (m *maker) manifest() {
	m.t.Helper()
	i := m.image
	index, err := m.x.Encode()
	if err != nil {
		m.t.Fatal(err)
	}
	if i.Decoded, err = format.DecodeIndex(index); err != nil {
		m.t.Fatal(err)
	}
	i.PlainMetadata = make([]byte, m.o.Metadata)
	for k := range i.PlainMetadata {
		i.PlainMetadata[k] = byte(m.rand.IntN(4))
	}
	f := &format.Manifest{
		Version: format.Version, Algorithm: m.o.Algorithm, Device: m.x.DeviceSize, Files: 1, Data: m.x.DeviceSize, Stored: m.stored,
	}
	f.Index, i.Index = m.blob(index)
	f.Metadata, i.Metadata = m.blob(i.PlainMetadata)
	if i.Manifest, err = f.Encode(); err != nil {
		m.t.Fatal(err)
	}
	i.Digest = m.o.Algorithm.Of(i.Manifest)
}

func (m *maker) blob(plain []byte) (format.Blob, []byte) {
	m.t.Helper()
	b, stored, err := format.EncodeBlob(m.o.Algorithm, 3, func(w io.Writer) error { _, err := w.Write(plain); return err })
	if err != nil {
		m.t.Fatal(err)
	}
	return b, stored
}
