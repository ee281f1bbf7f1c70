package cache

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/chunkfs/chunktest"
	"github.com/windlass-hpc/windlass/chunkfs/format"
)

// writerVar makes the test binary a process that fills and evicts in a cache until it is killed.
const writerVar = "WINDLASS_CACHE_TEST_WRITER"

func killImages(t testing.TB) []*chunktest.Image {
	a := chunktest.New(t, chunktest.Options{Seed: 1, Chunks: 100, Largest: 9000, Holes: true})
	return []*chunktest.Image{a, chunktest.New(t, chunktest.Options{Seed: 2, Chunks: 100, Largest: 9000, Like: a})}
}

// TestWriterProcess is the other process; by itself it does nothing.
func TestWriterProcess(t *testing.T) {
	dir := os.Getenv(writerVar)
	if dir == "" {
		return
	}
	c := open(t, dir, 500<<10)
	c.workingSet = 0
	for n, i := range killImages(t) {
		m := add(t, c, i)
		for w := range 2 {
			go func() {
				r := rand.New(rand.NewPCG(uint64(os.Getpid()), uint64(2*n+w)))
				for {
					use(t, m, i, r.IntN(len(i.Decoded.Extents)))
				}
			}()
		}
	}
	fmt.Println("\nwriting")
	select {}
}

// TestKilledWriters kills writers at moments of chance. What the next start finds is right or missing, never wrong.
func TestKilledWriters(t *testing.T) {
	dir := t.TempDir()
	images := killImages(t)
	there := 0
	for range 25 {
		kill(t, dir, time.Duration(rand.IntN(int(60*time.Millisecond))))
		c := open(t, dir, 1<<30)
		for _, i := range images {
			m, err := c.Lookup(t.Context(), i.Digest)
			if err != nil {
				continue // killed in Add
			}
			there += right(t, m, i)
			m.Release()
		}
		if n := c.Stats().Damaged; n != 0 {
			t.Errorf("%d extents are noted as there and are not", n)
		}
		shut(t, c)
	}
	if there == 0 {
		t.Error("nothing survived a kill")
	}
	t.Logf("%d extents found after 25 kills", there)
	c := open(t, dir, 0)
	defer shut(t, c)
	for _, i := range images {
		m := add(t, c, i)
		right(t, m, i) // what is Suspect is checked, and then filled where it is Missing
		for k, x := range i.Decoded.Extents {
			if x.Chunk != format.Zero && m.State(k) == Missing {
				if err := m.Fill(k, plain(i, k), true, Wanted); err != nil {
					t.Fatal(err)
				}
			}
		}
		if !m.Complete() {
			t.Error("the image cannot be completed after the kills")
		}
		m.Release()
	}
}

// kill runs a writer for a while.
func kill(t *testing.T, dir string, after time.Duration) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestWriterProcess$")
	cmd.Env = append(os.Environ(), writerVar+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Wait() }() // it was killed, which is an error
	defer cmd.Process.Kill()
	var said strings.Builder
	b := make([]byte, 512)
	for !strings.Contains(said.String(), "writing") {
		n, err := out.Read(b)
		if err != nil {
			t.Fatalf("the writer ended by itself: %s", said.String())
		}
		said.Write(b[:n])
	}
	// A moment of chance, which no event marks.
	for end := time.Now().Add(after); time.Now().Before(end); {
		runtime.Gosched()
	}
}
