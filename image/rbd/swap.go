//go:build ceph

package rbd

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

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

func random() string {
	var b [4]byte
	_, _ = rand.Read(b[:]) // it does not fail
	return hex.EncodeToString(b[:])
}

// clearUp removes what attempts to publish or to remove an image have left. Those that go on are left alone.
func (p *pool) clearUp(ctx context.Context, image string, note func(string)) error {
	names, err := p.images()
	if err != nil {
		return err
	}
	for _, n := range names {
		of, mark := marked(n)
		if of != image || mark != partMark && mark != goneMark {
			continue
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		name := p.name.named(n)
		addrs, err := p.openBy(n)
		if err != nil {
			return err
		}
		if len(addrs) > 0 {
			note(fmt.Sprintf("%v is being written by %s, or was until less than a minute ago; it is left alone", name, strings.Join(addrs, ", ")))
			continue
		}
		note(fmt.Sprintf("removing %v, which an earlier attempt has left", name))
		if err := p.discard(n); err != nil {
			return err
		}
	}
	return nil
}
