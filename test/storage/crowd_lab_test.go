//go:build lab

package storage

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/swagger/models"
)

// crowd is how many attach and detach at once.
const crowd = 20

// TestCrowd attaches, mounts and detaches many of all kinds at once, twice over: all of them work, the API answers all the time, and neither
// on the node nor in the daemon anything is left.
func TestCrowd(t *testing.T) {
	w := begin(t)
	wants := w.mixture()
	w.round(wants[:len(wants)/4]) // what is made once and stays is there then
	w.emptied(goneTimeout)
	before := w.descriptors()
	p := w.probe()
	began := time.Now()
	for range 2 {
		w.round(wants)
	}
	p.end(fmt.Sprintf("%d attach and detach at once, twice", crowd))
	t.Logf("figure: %d attachments and mounts of five kinds at once, twice: %v", crowd, time.Since(began).Round(100*time.Millisecond))
	w.emptied(goneTimeout)
	lab(t).nobody(t)
	w.d.CloseIdle()
	within(t, 10*time.Second, "descriptors are as many as before", func() bool { return w.descriptors() <= before+2 })
	t.Logf("the daemon had %d descriptors and has %d", before, w.descriptors())
}

// want is what one of the crowd asks for.
type want struct {
	kind string // attach or mount
	body any
}

// mixture gives what the crowd asks for: images that are shared and such that are not, LUNs, directories and files of an NFS server.
func (w *world) mixture() (all []want) {
	shared := w.small("rbd-squashfs", waits)
	own := w.small("rbd-squashfs", waits)
	rbdOf(own).Options.Noshare = true
	lun, dir, file := w.small("iscsi-squashfs", waits), w.small("nfs-directory", waits), w.small("nfs-squashfs", waits)
	for range crowd / 5 {
		all = append(all, want{"attach", attachOf(shared)}, want{"attach", attachOf(own)}, want{"attach", attachOf(lun)},
			want{"mount", dir.Mount.Overlay.Lower[0]}, want{"mount", file.Mount.Overlay.Lower[0]})
	}
	return all
}

// round has all of them attach at once, and then detach at once.
func (w *world) round(wants []want) {
	w.t.Helper()
	ids := make([]models.ID, len(wants))
	w.each(wants, func(ctx context.Context, n int) error {
		var made struct{ ID models.ID }
		err := w.call(ctx, http.StatusCreated, http.MethodPost, "/"+wants[n].kind, wants[n].body, &made)
		ids[n] = made.ID
		return err
	})
	w.each(wants, func(ctx context.Context, n int) error {
		if ids[n] == 0 {
			return nil
		}
		began := time.Now()
		err := w.call(ctx, http.StatusOK, http.MethodDelete, fmt.Sprintf("/%s?id=%d", wants[n].kind, ids[n]), nil, nil)
		if took := time.Since(began); took > answerTimeout {
			w.t.Errorf("DELETE was answered after %v", took)
		}
		return err
	})
}

func (w *world) each(wants []want, do func(ctx context.Context, n int) error) {
	w.t.Helper()
	var wg sync.WaitGroup
	for n := range wants {
		wg.Go(func() {
			if err := do(w.t.Context(), n); err != nil {
				w.t.Error(err)
			}
		})
	}
	wg.Wait()
}

// call is Daemon.Want for who may not end the test. Of what takes long to go, on a busy machine, the daemon says after 4 s that it goes on.
func (w *world) call(ctx context.Context, want int, method, path string, body, out any) error {
	var answer json.RawMessage
	status, err := w.d.Call(ctx, method, path, body, &answer)
	goesOn := method == http.MethodDelete && status == http.StatusGatewayTimeout
	if err == nil && status != want && !goesOn {
		err = fmt.Errorf("%s %s: %d %s", method, path, status, answer)
	}
	if err == nil && out != nil {
		err = json.Unmarshal(answer, out)
	}
	return err
}

// descriptors is how many the daemon has open.
func (w *world) descriptors() int {
	w.t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", w.d.PID()))
	must(w.t, err)
	return len(entries)
}
