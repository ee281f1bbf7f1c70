//go:build lab

package storage

import (
	"io"
	"net/http"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/swagger/models"
)

// attachOf finds the attachment that a definition lies on; nil when it lies on none of the network.
func attachOf(c *models.Container) *models.Attach {
	m := c.Mount
	if m.Overlay != nil {
		m = m.Overlay.Lower[0]
	}
	if m.Attach == nil {
		return nil
	}
	return m.Attach.Attach
}

func rbdOf(c *models.Container) *models.AttachRbd {
	if a := attachOf(c); a != nil {
		return a.Rbd
	}
	return nil
}

// attach raises an attachment, which must work.
func (w *world) attach(spec *models.Attach) *models.Attach {
	w.t.Helper()
	var a models.Attach
	w.d.Want(http.StatusCreated, http.MethodPost, "/attach", spec, &a)
	return &a
}

// reader reads a device from its beginning to its end, again and again, past the page cache as far as it goes, until it cannot. A device that
// has been taken away reads as an error or as nothing at all.
type reader struct {
	t     *testing.T
	ended chan error
}

func readDevice(t *testing.T, path string) *reader {
	t.Helper()
	r := &reader{t, make(chan error, 1)}
	f, err := os.Open(path)
	must(t, err)
	begun := make(chan bool)
	go func() {
		defer f.Close()
		r.ended <- r.read(f, begun)
	}()
	select {
	case <-begun:
	case err := <-r.ended:
		t.Fatalf("read %s: %v", path, err)
	}
	return r
}

func (r *reader) read(f *os.File, begun chan bool) error {
	for first := true; ; first = false {
		if err := forget(f); err != nil {
			return err
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return err
		}
		switch n, err := io.Copy(io.Discard, f); {
		case err != nil:
			return err
		case n == 0:
			return io.ErrUnexpectedEOF
		}
		if first {
			close(begun)
		}
	}
}

// failed waits until the reader has been told that it cannot read.
func (r *reader) failed() {
	r.t.Helper()
	select {
	case err := <-r.ended:
		r.t.Logf("who read the device was told: %v", err)
	case <-time.After(goneForGood):
		r.t.Error("who read the device still waits")
	}
}

// forget drops what the page cache has of a device.
func forget(f *os.File) error { return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED) }
