package serve

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/control"
	"github.com/windlass-hpc/windlass/chunkfs/keeper"
	"github.com/windlass-hpc/windlass/chunkfs/lazy"
	"github.com/windlass-hpc/windlass/internal/durable"
	"github.com/windlass-hpc/windlass/internal/fsmount"
)

// roleEnv has the test binary be a keeper or a server instead.
const roleEnv = "WINDLASS_SERVE_TEST"

func TestMain(m *testing.M) {
	var err error
	switch os.Getenv(roleEnv) {
	case "":
		os.Exit(m.Run())
	case "keeper":
		os.Setenv(roleEnv, os.Getenv(roleEnv+"_PROGRAM"))
		err = keeper.Run(os.Args[1:])
	case "memory":
		err = serveMemory(os.Args[1])
	case "run":
		err = serveRun(os.Args[1], os.Args[2])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// serveRun is the server as it is. Where it is and which start it is, it writes down for waitStart.
func serveRun(runDir, cacheDir string) error {
	start := os.Getenv("WINDLASS_KEEPER_START")
	go func() {
		place := control.PlaceIn(runDir)
		for (control.Client{Socket: place.Socket()}).Ping(context.Background()) != nil {
			time.Sleep(time.Millisecond)
		}
		_ = durable.WriteFile(context.Background(), filepath.Join(string(place), "pid"), fmt.Appendf(nil, "%d %s", os.Getpid(), start), 0o600)
	}()
	return Run(context.Background(), Config{RunDir: runDir, CacheDir: cacheDir})
}

// memory is a device whose content is made up: each 8 bytes tell where they are.
type memory struct {
	size int64
	file *os.File // some of the reads are answered from here
}

func newMemory(size int64) (*memory, error) {
	fd, err := unix.MemfdCreate("device", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	m := &memory{size, os.NewFile(uintptr(fd), "device")}
	_, err = m.file.Write(pattern(0, int(size)))
	return m, err
}

func pattern(off int64, n int) []byte {
	first := off / 8 * 8
	b := make([]byte, 0, n+16)
	for at := first; at < off+int64(n); at += 8 {
		b = binary.LittleEndian.AppendUint64(b, uint64(at)*0x9e3779b97f4a7c15)
	}
	return b[off-first:][:n]
}

func (m *memory) Size() int64 { return m.size }

func (m *memory) Read(ctx context.Context, off int64, n int) (lazy.Span, error) {
	n = int(min(int64(n), m.size-off))
	if rand.IntN(4) == 0 { // as if it had to be fetched, so that there is something under way when the server dies
		select {
		case <-time.After(time.Duration(rand.IntN(4000)) * time.Microsecond):
		case <-ctx.Done():
			return lazy.Span{}, ctx.Err()
		}
	}
	if rand.IntN(2) == 0 {
		return lazy.Span{Fd: int(m.file.Fd()), Offset: off, Size: n}, nil
	}
	return lazy.Span{Fd: -1, Size: n, Bytes: pattern(off, n)}, nil
}

const (
	memoryNode = 2
	memoryName = "7"
	memorySize = 16 << 20
)

// serveMemory serves one device of pattern at DIR/data, and takes over what there is.
func serveMemory(dir string) error {
	k, err := keeper.Connect()
	if err != nil {
		return err
	}
	m, err := newMemory(memorySize)
	if err != nil {
		return err
	}
	fs := newDevices()
	fs.expect(memoryNode, memoryName).settle(m)
	c := newConn("data", fs, false)
	if f := k.Stored()[c.name]; f != nil {
		err = c.continueFrom(f, k.Stored()[journalName(c.name)], filepath.Join(dir, "init"))
	} else {
		err = c.beginAt(k, dir)
	}
	if err == nil {
		err = k.Up()
	}
	if err == nil {
		err = durable.WriteFile(context.Background(), filepath.Join(dir, "pid"), fmt.Appendf(nil, "%d %d", os.Getpid(), k.Start), 0o600)
	}
	if err == nil {
		<-c.ended
	}
	return err
}

func (c *conn) continueFrom(fd, journal *os.File, initFile string) error {
	init, err := os.ReadFile(initFile)
	if err != nil {
		return err
	}
	if err = c.takeOver(fd, journal, init); err == nil {
		c.serve()
	}
	return err
}

func (c *conn) beginAt(k *keeper.Client, dir string) error {
	ctx := context.Background()
	mnt, err := c.open(ctx, 1024, 0, k.Store)
	if err != nil {
		return err
	}
	defer mnt.Close()
	c.serve()
	if err := durable.WriteFile(ctx, filepath.Join(dir, "init"), c.init, 0o600); err != nil {
		return err
	}
	return fsmount.Move(ctx, mnt, filepath.Join(dir, "data"))
}

// samePattern says whether b is what the device has at off.
func samePattern(b []byte, off int64) bool { return bytes.Equal(b, pattern(off, len(b))) }
