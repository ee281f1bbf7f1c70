//go:build ceph

package rbd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ceph/go-ceph/rbd"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// mayTake says whether an image may get the name.
func (p *pool) mayTake(image string, o PublishOptions) error {
	name := p.name.named(image)
	there, err := p.exists(image)
	if err != nil || !there {
		return err
	}
	if !o.Replace {
		err := fault.New(fault.Exists, "publish %v: there is such an image", name)
		return fault.Hintf(err, "take another name, or --replace: the image that is there is renamed, and who has mapped it reads on")
	}
	addrs, err := p.openBy(image)
	if err != nil {
		return err
	}
	if len(addrs) > 0 && !o.Force {
		err := fault.New(fault.Busy, "replace %v: it is open to write, by %s", name, strings.Join(addrs, ", "))
		return fault.Hintf(err, "detach it there first; with --force it is renamed all the same, and they go on writing to the renamed one")
	}
	return nil
}

// swap gives the whole image its name. One that has it is renamed; what it is called then is answered.
func (p *pool) swap(part, image string, o PublishOptions) (old string, err error) {
	if err := p.mayTake(image, o); err != nil { // somebody may have come meanwhile
		return "", err
	}
	there, err := p.exists(image)
	if err != nil {
		return "", err
	}
	if there {
		old = oldName(image, time.Now())
		if err := p.rename(image, old); err != nil {
			return "", err
		}
	}
	if err := p.rename(part, image); err != nil {
		if there {
			err = errors.Join(err, p.rename(old, image))
		}
		return "", err
	}
	if there {
		return p.name.named(old).String(), nil
	}
	return "", nil
}

// clearUp removes what attempts to publish or to remove an image have left. Those that go on are left alone.
func (p *pool) clearUp(ctx context.Context, image string, note func(string)) error {
	names, err := p.images()
	if err != nil {
		return err
	}
	if lost, err := p.lostName(image, names); err != nil {
		return err
	} else if lost != "" {
		note(fmt.Sprintf("an earlier attempt was cut short just as %v was to be replaced: until there is another, `rbd mv %s %s` brings back what it was",
			p.name.named(image), p.name.named(lost).bare(), p.name.named(image).bare()))
	}
	for _, n := range names {
		of, mark := marked(n)
		if of != image || mark != partMark && mark != goneMark {
			continue
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := p.clear(n, mark == partMark && isYoung(n, time.Now()), note); err != nil {
			return err
		}
	}
	return nil
}

// clear removes one of them, unless somebody may still be at it.
func (p *pool) clear(image string, young bool, note func(string)) error {
	name := p.name.named(image)
	addrs, err := p.openBy(image)
	switch {
	case err != nil:
		return err
	case len(addrs) > 0:
		note(fmt.Sprintf("%v is being written by %s, or was until less than a minute ago; it is left alone", name, strings.Join(addrs, ", ")))
		return nil
	case young:
		note(fmt.Sprintf("%v was begun just now, and perhaps somebody is at it; it is left alone", name))
		return nil
	}
	note(fmt.Sprintf("removing %v, which an earlier attempt has left", name))
	return p.discard(image)
}

// lostName gives what an image is called now whose name nobody has, because the attempt to replace it has died between the two renames; ""
// when that is not so.
func (p *pool) lostName(image string, names []string) (old string, err error) {
	if slices.Contains(names, image) {
		return "", nil
	}
	whole := false
	for _, n := range names {
		of, mark := marked(n)
		switch {
		case of == image && mark == oldMark:
			old = max(old, n) // the last: their names hold when it was
		case of == image && mark == partMark:
			digest, err := p.digest(n)
			if err != nil {
				return "", err
			}
			whole = whole || digest != ""
		}
	}
	if !whole {
		return "", nil
	}
	return old, nil
}

// digest is what is kept last with an image that is being made; "" before it is whole.
func (p *pool) digest(image string) (string, error) {
	img, err := rbd.OpenImageReadOnly(p.io, image, rbd.NoSnapshot)
	if err == nil {
		defer img.Close()
		var kept map[string]string
		if kept, err = img.ListMetadata(); err == nil {
			return kept[keyDigest], nil
		}
	}
	if errors.Is(err, rbd.ErrNotFound) {
		return "", nil
	}
	return "", failed(err, "read what is kept with %v", p.name.named(image))
}
