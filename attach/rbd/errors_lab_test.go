//go:build lab

package rbd_test

import (
	"strings"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/attach"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/swagger/models"
	"github.com/windlass-hpc/windlass/test/lab/control"
)

// TestErrors: what the kernel and the cluster answer becomes words.
func TestErrors(t *testing.T) {
	c := control.Dial(t)
	image, journal := unique("errors"), unique("journal")
	c.Ceph().Image(t, "rbd/"+image, 1<<20, nil, "v1")
	c.Ceph().Image(t, "rbd/"+journal, 1<<20, []string{"layering", "exclusive-lock", "journaling"})
	reader := c.Ceph().User(t, "client.reader", "mon", "profile rbd", "osd", "profile rbd-read-only pool=rbd")
	stranger := c.Ceph().User(t, "client.stranger", "mon", "profile rbd", "osd", "profile rbd pool=other")

	type r = *models.AttachRbd
	type o = *models.RbdOptions
	for what, tt := range map[string]struct {
		change func(r r, o o)
		kind   fault.Kind // "" for what works
		says   string
		hint   string
	}{
		"no pool":               {func(r r, _ o) { *r.Pool = "nopool" }, fault.NotFound, "there is no pool nopool", "ceph osd pool ls"},
		"no image":              {func(r r, _ o) { *r.Image = "noimage" }, fault.NotFound, "there is no image noimage in pool rbd", "rbd ls rbd"},
		"no image, read-only":   {func(r r, o o) { *r.Image, o.Ro = "noimage", true }, fault.NotFound, "there is no image noimage in pool rbd", "rbd ls rbd"},
		"no snapshot":           {func(r r, _ o) { r.Snapshot = "v9" }, fault.NotFound, "there is no snapshot v9 of rbd/" + image, "rbd snap ls rbd/" + image},
		"no namespace":          {func(_ r, o o) { o.Namespace = "nospace" }, fault.NotFound, "namespace nospace of pool rbd", "rbd ls rbd/nospace"},
		"another's key":         {func(_ r, o o) { o.Secret = reader }, fault.Forbidden, "does not know client.admin with this secret", "ceph auth get client.admin"},
		"no secret":             {func(_ r, o o) { o.Secret = "" }, fault.Forbidden, "wants a secret of client.admin", "rbd.options.secret"},
		"no such user":          {func(_ r, o o) { o.Name = "nobody" }, fault.Forbidden, "does not know client.nobody", "ceph auth get client.nobody"},
		"key to read, to write": {func(_ r, o o) { o.Name, o.Secret = "reader", reader }, fault.Forbidden, "client.reader may not write it", "rbd.options.ro"},
		"key to read, to read":  {func(_ r, o o) { o.Name, o.Secret, o.Ro = "reader", reader, true }, "", "", ""},
		"key to read, snapshot": {func(r r, o o) { o.Name, o.Secret, r.Snapshot = "reader", reader, "v1" }, "", "", ""},
		"key of another pool":   {func(_ r, o o) { o.Name, o.Secret, o.Ro = "stranger", stranger, true }, fault.Forbidden, "client.stranger may not read it", "profile rbd-read-only pool=rbd"},
		"unknown feature":       {func(r r, _ o) { *r.Image = journal }, fault.Unsupported, "journaling", "rbd feature disable rbd/" + journal + " journaling"},
		"exclusive without":     {func(_ r, o o) { o.Exclusive = true }, fault.Invalid, "exclusive-lock feature is not enabled", "rbd feature enable rbd/" + image},
		"dead monitor":          {func(r r, o o) { r.Monitors, o.MountTimeout = []string{"10.99.0.77"}, 3 }, fault.Timeout, "10.99.0.77:6789", "quorum"},
		"closed port":           {func(r r, o o) { r.Monitors, o.MountTimeout = []string{"10.99.0.1:6700"}, 1 }, fault.Timeout, "10.99.0.1:6700 refuses connections", "ms_mode"},
		"the other version":     {func(r r, o o) { r.Monitors, o.MountTimeout = []string{"10.99.0.1:3300"}, 1 }, fault.Timeout, "speaks version 2 of the protocol only", "ms_mode"},
		"the other version, 2":  {func(r r, o o) { r.Monitors, o.MountTimeout, o.MsMode = []string{"10.99.0.1:6789"}, 1, "crc" }, fault.Timeout, "speaks version 1 of the protocol only", "ms_mode"},
		"no monitor":            {func(r r, o o) { r.Monitors, o.MountTimeout = []string{"10.99.0.1:8000"}, 1 }, fault.Timeout, "10.99.0.1:8000", "ms_mode"},
		"another cluster":       {func(_ r, o o) { o.Fsid, o.MountTimeout = "00000000-1111-2222-3333-444444444444", 3 }, fault.Invalid, "rbd.options.fsid", "ceph fsid"},
	} {
		t.Run(what, func(t *testing.T) {
			d := driver(unique("errors"))
			s := spec(t, image, tt.change)
			start := time.Now()
			dev, err := d.Attach(t.Context(), 1, s, attach.Base{Dir: "/"})
			took := time.Since(start)
			t.Logf("%s: %s: %v\nhint: %s", took.Round(time.Millisecond), fault.KindOf(err), err, fault.HintOf(err))
			if tt.kind == "" {
				must(t, err)
				must(t, d.Detach(t.Context(), dev, false))
				return
			}
			if err == nil {
				t.Error("it was attached")
				must(t, d.Detach(t.Context(), dev, false))
				return
			}
			if !fault.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.says) || !strings.Contains(fault.HintOf(err), tt.hint) {
				t.Errorf("want %s that says %q with hint %q", tt.kind, tt.says, tt.hint)
			}
			if secret := s.Rbd.Options.Secret; secret != "" && strings.Contains(err.Error()+fault.HintOf(err), secret) {
				t.Error("the error quotes the secret")
			}
			if took > 10*time.Second {
				t.Errorf("it took %s", took)
			}
			if _, state, err := d.Probe(t.Context(), 1, s); err != nil || state != attach.Gone {
				t.Errorf("left: state %d, %v", state, err)
			}
		})
	}
}

// TestDeadlineBeforeTheKernels: the caller's patience counts, not mount_timeout.
func TestDeadlineBeforeTheKernels(t *testing.T) {
	d := driver(unique("deadline"))
	s := spec(t, "any", func(r *models.AttachRbd, o *models.RbdOptions) {
		r.Monitors, o.MountTimeout = []string{"10.99.0.77"}, 60
	})
	ctx, cancel := contextWithTimeout(t, time.Second)
	defer cancel()
	start := time.Now()
	_, err := d.Attach(ctx, 1, s, attach.Base{Dir: "/"})
	if took := time.Since(start); !fault.Is(err, fault.Timeout) || !strings.Contains(err.Error(), "10.99.0.77") || took > 30*time.Second {
		t.Errorf("%v after %s", err, took)
	}
	if _, state, err := d.Probe(t.Context(), 1, s); err != nil || state != attach.Gone {
		t.Errorf("left: state %d, %v", state, err)
	}
}
