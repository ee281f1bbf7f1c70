package chain

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/windlass-hpc/windlass/attach"
	"github.com/windlass-hpc/windlass/internal/durable"
	"github.com/windlass-hpc/windlass/internal/idmap"
	"github.com/windlass-hpc/windlass/internal/rundir"
	"github.com/windlass-hpc/windlass/mount"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// recordVersion is raised when an older daemon could misread what a newer one wrote.
const recordVersion = 1

// record is an object on disk: the promise. Who holds an object is not in its record but follows from `client` and from the records
// above it, so that no two records must ever change together. It may hold secrets: mode 0600.
type record struct {
	Version   int               `json:"version"`
	ID        ID                `json:"id"`
	Kind      Kind              `json:"kind"`
	Phase     Phase             `json:"phase"`
	Client    bool              `json:"client"`
	Below     []below           `json:"below,omitempty"`
	Made      time.Time         `json:"made"`
	Error     string            `json:"error,omitempty"`
	ReadOnly  bool              `json:"read_only,omitempty"`
	Forced    bool              `json:"forced,omitempty"`
	Pressed   bool              `json:"pressed,omitempty"`
	IDs       *idmap.Range      `json:"ids,omitempty"`
	Attach    *models.Attach    `json:"attach,omitempty"`
	Mount     *models.Mount     `json:"mount,omitempty"`
	Container *models.Container `json:"container,omitempty"`
	Device    *attach.Device    `json:"device,omitempty"`
	Active    *mount.Active     `json:"active,omitempty"`
	State     *containerState   `json:"state,omitempty"`
	Timeline  []*models.Step    `json:"timeline,omitempty"`
}

// save writes the records of the objects as they are now, in their order. Writers of one object queue, so the last one to come writes
// the latest.
func (c *Chain) save(ctx context.Context, objects ...*object) error {
	for _, o := range objects {
		if err := c.replaceRecord(ctx, o); err != nil {
			return fmt.Errorf("record of %s: %w", o, err)
		}
	}
	return durable.SyncDir(ctx, c.dir.Records())
}

func (c *Chain) replaceRecord(ctx context.Context, o *object) error {
	if err := o.lockRecord(ctx); err != nil {
		return err
	}
	defer o.unlockRecord()
	c.mu.RLock()
	data, err := json.Marshal(o.record())
	gone := c.objects[o.id] != o
	c.mu.RUnlock()
	if err != nil || gone { // gone: its record was deleted, and a late writer must not bring it back
		return err
	}
	return durable.Replace(ctx, c.dir.Record(int64(o.id)), data, 0o600)
}

// forget deletes the object's record and takes it off the list.
func (c *Chain) forget(ctx context.Context, o *object) error {
	ctx, cancel := context.WithTimeout(ctx, recordTimeout)
	defer cancel()
	if err := o.lockRecord(ctx); err != nil {
		return fmt.Errorf("record of %s: %w", o, err)
	}
	defer o.unlockRecord()
	if err := durable.Remove(ctx, c.dir.Record(int64(o.id))); err != nil {
		return fmt.Errorf("record of %s: %w", o, err)
	}
	c.mu.Lock()
	delete(c.objects, o.id)
	if n := o.name(); n != "" && c.names[n] == o {
		delete(c.names, n)
	}
	c.mu.Unlock()
	return nil
}

// recordTimeout bounds the writing of a record where no request's deadline does.
const recordTimeout = 5 * time.Second

// lockRecord makes the caller the only writer of the record.
func (o *object) lockRecord(ctx context.Context) error {
	select {
	case o.writing <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("an earlier write has not ended: %w", ctx.Err())
	}
}

func (o *object) unlockRecord() { <-o.writing }

// record is the object as its record shows it. Chain.mu is held.
func (o *object) record() record {
	r := record{Version: recordVersion, ID: o.id, Kind: o.kind, Phase: o.phase, Client: o.client, Below: o.below, Made: o.made,
		Error: o.err, ReadOnly: o.readOnly, Forced: o.forced, Pressed: o.pressed, IDs: o.ids, Attach: o.attach, Mount: o.mount, Container: o.container, Timeline: o.steps.wire()}
	switch o.kind {
	case KindAttach:
		r.Device = &o.device
	case KindMount:
		r.Active = &o.active
	case KindContainer:
		r.State = &o.ctr
	}
	if r.Phase == Doing {
		r.Phase = Planned
	}
	return r
}

// object makes the object that the record describes.
func (r *record) object(onStep StepFunc) *object {
	o := newObject(r.Kind, onStep)
	o.id, o.phase, o.client, o.below, o.made, o.err, o.readOnly, o.ids = r.ID, r.Phase, r.Client, r.Below, r.Made, r.Error, r.ReadOnly, r.IDs
	o.attach, o.mount, o.container = r.Attach, r.Mount, r.Container
	if r.Device != nil {
		o.device = *r.Device
	}
	if r.Active != nil {
		o.active = *r.Active
	}
	if r.State != nil {
		o.ctr = *r.State
	}
	o.touched, o.forced, o.pressed = true, r.Forced, r.Pressed
	o.steps.load(r.Timeline)
	return o
}

// check refuses a record that this daemon cannot rely on.
func (r *record) check(id int64) error {
	switch {
	case r.Version != recordVersion:
		return fmt.Errorf("version %d, this daemon knows %d", r.Version, recordVersion)
	case int64(r.ID) != id:
		return fmt.Errorf("it is of %d", r.ID)
	case r.Kind == KindAttach && r.Attach != nil, r.Kind == KindMount && r.Mount != nil, r.Kind == KindContainer && r.Container != nil:
		return nil
	}
	return fmt.Errorf("kind %q without its part", r.Kind)
}

// loadRecords reads all records, by id. What cannot be read is answered by id in bad, and left alone. Files that a crash left
// unfinished are removed.
func loadRecords(dir rundir.Dir) (records []*record, bad map[ID]error, err error) {
	entries, err := os.ReadDir(dir.Records())
	if err != nil {
		return nil, nil, fmt.Errorf("read the records: %w", err)
	}
	bad = map[ID]error{}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), durable.TempSuffix) {
			if err := os.Remove(filepath.Join(dir.Records(), e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, nil, err
			}
			continue
		}
		id, ok := rundir.ID(strings.TrimSuffix(e.Name(), ".json"))
		if !ok {
			continue
		}
		r, err := loadRecord(dir, id)
		if err != nil {
			bad[ID(id)] = err
			continue
		}
		records = append(records, r)
	}
	slices.SortFunc(records, func(a, b *record) int { return int(a.ID - b.ID) })
	return records, bad, nil
}

func loadRecord(dir rundir.Dir, id int64) (*record, error) {
	data, err := os.ReadFile(dir.Record(id))
	if err != nil {
		return nil, err
	}
	var r record
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, fmt.Errorf("%s: %w", dir.Record(id), err)
	}
	if err := r.check(id); err != nil {
		return nil, fmt.Errorf("%s: %w", dir.Record(id), err)
	}
	return &r, nil
}
