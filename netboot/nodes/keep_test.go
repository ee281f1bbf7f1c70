package nodes

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/windlass-hpc/windlass/internal/bootstage"
)

// TestWhatCouldNotBeWrittenIsWrittenLater has lines that find no room: all that is known is written the next time, whether more comes or not.
func TestWhatCouldNotBeWrittenIsWrittenLater(t *testing.T) {
	for name, lose := range map[string]func(*Registry){
		"by a report": func(r *Registry) {
			if err := r.Flush(); err == nil {
				t.Error("lines that are not written are not told")
			}
		},
		"when all is written": func(*Registry) {},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			r, _ := registry()
			if errs := r.Keep(dir); len(errs) > 0 {
				t.Fatal(errs)
			}
			r.See(Seen{MAC: macA, Source: Report, Stage: bootstage.Running})
			full, err := os.Open(os.DevNull) // for reading alone: nothing can be written to it
			if err != nil {
				t.Fatal(err)
			}
			r.keep.f = full
			lose(r)
			if err := r.Save(context.Background()); err != nil {
				t.Fatal(err)
			}
			next, _ := registry()
			if errs := next.Keep(dir); len(errs) > 0 || status(t, next, macA).Stage != bootstage.Running {
				t.Errorf("%v, %+v", errs, status(t, next, macA))
			}
		})
	}
}

// TestAllIsWrittenWhenItCanBe has what failed tried again although nothing has come since.
func TestAllIsWrittenWhenItCanBe(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "later")
	r, _ := registry()
	r.Keep(dir)
	r.See(Seen{MAC: macA, Source: Report, Stage: bootstage.Running})
	if err := r.Save(context.Background()); err == nil {
		t.Fatal("there is no directory, and nothing is told")
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := r.Save(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, fileName)); err != nil {
		t.Error(err)
	}
}
