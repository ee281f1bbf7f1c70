package store_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/chunkfs/store"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// childEnv makes the test program a builder or a collector: "WORK DIR NAME".
const childEnv = "WINDLASS_TEST_STORE_CHILD"

func TestMain(m *testing.M) {
	work, args, _ := strings.Cut(os.Getenv(childEnv), " ")
	dir, name, _ := strings.Cut(args, " ")
	var err error
	switch work {
	case "":
		os.Exit(m.Run())
	case "build":
		err = buildForEver(dir, name)
	case "gc":
		err = collectForEver(dir)
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// buildForEver makes image after image, each sharing chunks with the one before, under its name and under "latest"; and says so.
func buildForEver(dir, name string) error {
	ctx := context.Background()
	s, err := store.Create(dir)
	if err != nil {
		return err
	}
	for n := rand.IntN(1 << 20); ; n++ {
		err := func() error {
			txn, err := s.Begin(ctx)
			if err != nil {
				return err
			}
			defer txn.End()
			known, err := txn.Known(ctx, format.BLAKE3)
			if err != nil {
				return err
			}
			d, err := put(ctx, txn, format.BLAKE3, known, n, n+1, n+2, n+3, n+4, n+5, n+6)
			if err != nil {
				return err
			}
			for _, tag := range []string{name, "shared/latest"} {
				if err := txn.Tag(ctx, tag, d); err != nil {
					return err
				}
			}
			_, err = fmt.Println(d)
			return err
		}()
		if err != nil {
			return err
		}
	}
}

func collectForEver(dir string) error {
	s, err := store.Create(dir)
	for err == nil {
		_, err = s.GC(context.Background(), store.GCOptions{})
		fmt.Println("collected")
	}
	return err
}

// child starts the test program as something else. The reader gives what it says.
func child(t *testing.T, work ...string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+strings.Join(work, " "))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd, bufio.NewScanner(out)
}

// kills is how often the test kills a builder; WINDLASS_TEST_KILLS says another number.
func kills() int {
	if n, err := strconv.Atoi(os.Getenv("WINDLASS_TEST_KILLS")); err == nil {
		return n
	}
	return 40
}

func TestAKilledBuilderLeavesTheOldOrTheNewImage(t *testing.T) {
	s := newStore(t)
	var last string // tag that was there before
	for n := range kills() {
		cmd, out := child(t, "build", s.Dir(), "mine")
		said := make(chan []string, 1)
		go func() {
			var lines []string
			for out.Scan() {
				lines = append(lines, out.Text())
			}
			said <- lines
		}()
		time.Sleep(time.Duration(5+rand.IntN(80)) * time.Millisecond) // a kill at any moment is what is tested
		_ = cmd.Process.Kill()
		lines := <-said
		_ = cmd.Wait()
		d, err := s.Tag("mine")
		if fault.Is(err, fault.NotFound) && last == "" && len(lines) == 0 {
			continue
		}
		if err != nil {
			t.Fatalf("kill %d: %v", n, err)
		}
		if n := len(lines); n > 0 && (d.String() == last || slices.Contains(lines[:n-1], d.String())) {
			t.Fatalf("kill %d: the tag names %s, but the builder had said %s", n, d, lines[n-1])
		}
		last = d.String()
		sound(t, s)
		if t.Failed() {
			t.Fatalf("after kill %d, which came after %d images", n, len(lines))
		}
	}
	if last == "" {
		t.Fatal("no builder lived long enough to make an image")
	}
	collect(t, s, store.GCOptions{})
	sound(t, s)
	if left := files(t, s, "leases"); len(left) != 1 {
		t.Errorf("left of the killed: %v", left)
	}
	if left := files(t, s, "blobs"); len(left) > 2*9 { // of two tags
		t.Errorf("%d blobs are left", len(left))
	}
}

func TestBuildersAndCollectorsRunAtOnce(t *testing.T) {
	s := newStore(t)
	var all sync.WaitGroup
	stop := make(chan struct{})
	var mu sync.Mutex
	count := map[string]int{}
	for _, work := range [][]string{{"build", "a"}, {"build", "b"}, {"gc", "-"}} {
		cmd, out := child(t, work[0], s.Dir(), work[1])
		all.Go(func() {
			for out.Scan() {
				mu.Lock()
				count[work[1]]++
				mu.Unlock()
			}
			select {
			case <-stop:
			default:
				t.Errorf("%v ended", work)
			}
		})
		t.Cleanup(func() { _ = cmd.Process.Kill() })
		defer func() { _ = cmd.Process.Kill() }()
	}
	for deadline := time.Now().Add(3 * time.Second); time.Now().Before(deadline) && !t.Failed(); {
		readAll(t, s)
	}
	close(stop)
	mu.Lock()
	for _, c := range []string{"a", "b", "-"} {
		if count[c] < 3 {
			t.Errorf("%s did its work only %d times", c, count[c])
		}
	}
	t.Logf("done: %v", count)
	mu.Unlock()
	t.Cleanup(all.Wait) // runs before the processes are killed: they end it
	sound(t, s)
}

// readAll reads the images that the tags name, as a reader does that takes no lease: within the grace of nothing, what it reads may go,
// but only with the tag.
func readAll(t *testing.T, s *store.Store) {
	t.Helper()
	tags, err := s.Tags()
	if err != nil {
		t.Error(err)
	}
	for _, tag := range tags {
		if tag.Damage != nil {
			t.Errorf("%s: %v", tag.Name, tag.Damage)
			continue
		}
		if err := readImage(s, tag.Image); err != nil {
			if now, _ := s.Tag(tag.Name); now == tag.Image {
				t.Errorf("%s: %v", tag.Name, err)
			}
		}
	}
}

func readImage(s *store.Store, d format.Digest) error {
	m, err := s.Manifest(d)
	if err != nil {
		return err
	}
	x, err := s.Index(m)
	if err != nil {
		return err
	}
	for _, p := range x.Packs {
		f, err := s.OpenPack(p, m.Algorithm)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, f)
		f.Close()
		if err != nil {
			return err
		}
	}
	return nil
}
