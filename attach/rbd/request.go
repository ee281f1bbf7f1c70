package rbd

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/windlass-hpc/windlass/attach"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// maxLine is the longest line that the kernel takes whole: sysfs cuts off what is beyond a page, and shows one byte less.
const maxLine = 4094

// request is an attachment worked out for the kernel. It holds the secret: it is never shown.
type request struct {
	holder   holder
	user     string
	fsid     string // of the cluster, in small letters; "" for any
	monitors []monitor
	v2       bool   // of the protocol
	options  string // with the secret
	readOnly bool
	key      string
}

// request works out what spec asks for, which has been validated. It reads the secret, and changes nothing.
func (d *Driver) request(id attach.ID, spec *models.Attach, base attach.Base) (*request, error) {
	o := *options(spec.Rbd)
	if o.MountTimeout == 0 {
		o.MountTimeout = seconds(d.cfg.MountTimeout)
	}
	if o.OsdRequestTimeout == nil {
		n := seconds(d.cfg.RequestTimeout)
		o.OsdRequestTimeout = &n
	}
	monitors, err := parseMonitors(spec.Rbd.Monitors, secondVersion(&o))
	if err != nil {
		return nil, err
	}
	r := &request{user: user(&o), fsid: strings.ToLower(o.Fsid), monitors: monitors, v2: secondVersion(&o), readOnly: o.Ro || spec.Rbd.Snapshot != "" || base.ReadOnly && !o.Rw}
	r.holder = holder{
		Pool: *spec.Rbd.Pool, Namespace: o.Namespace, Image: *spec.Rbd.Image, Snapshot: spec.Rbd.Snapshot,
		ReadOnly: r.readOnly, RequestTimeout: *o.OsdRequestTimeout, Force: o.Force,
	}
	for _, m := range monitors {
		r.holder.Monitors = append(r.holder.Monitors, m.String())
	}
	text, err := d.cfg.Credentials.Read(source(&o))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", field(&o), err)
	}
	secret, err := secretOf(field(&o), text, r.user)
	if err != nil {
		return nil, err
	}
	own := []string{"name=" + r.user}
	if secret != "" {
		own = append(own, "secret="+secret)
	}
	if r.readOnly {
		own = append(own, "ro")
	}
	r.options = strings.Join(append(slices.Clone(own), words(&o, true)...), ",")
	r.key = r.share(append(own, words(&o, false)...))
	if o.Noshare {
		r.key = digest(r.key, strconv.FormatInt(int64(id), 10))
	}
	return r, nil
}

// share is the name of what can be shared: who asks for the same of the same monitors as the same user with the same secret gets the
// same device. The secret is part of it, so that nobody is given a device that his own secret would not open; it cannot be told from the name.
func (r *request) share(options []string) string {
	names := slices.Sorted(slices.Values(r.holder.Monitors))
	slices.Sort(options)
	return digest(strings.Join(names, ","), strings.Join(options, ","), r.holder.Pool, r.holder.Image, r.holder.Snapshot)
}

// keyLength is that of a key in hexadecimal digits.
const keyLength = 32

// digest makes a key of words, none of which holds a blank.
func digest(words ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(words, " ")))
	return hex.EncodeToString(sum[:])[:keyLength]
}

// line is what is written to the kernel: MON[,MON…] OPTIONS POOL IMAGE SNAPSHOT. What follows it ignores, but keeps.
func (r *request) line(monitors []netip.AddrPort, m mark) (string, error) {
	addrs := make([]string, len(monitors))
	for i, a := range monitors {
		addrs[i] = a.String()
	}
	line := strings.Join([]string{
		strings.Join(addrs, ","), r.options, r.holder.Pool, r.holder.Image, cmp.Or(r.holder.Snapshot, "-"), m.String(),
	}, " ")
	if len(line) > maxLine {
		err := fault.New(fault.Invalid, "rbd: all fields together make %d bytes, of which the kernel takes %d", len(line), maxLine)
		return "", fault.Hintf(err, "name fewer monitors, or leave options out")
	}
	return line, nil
}

// seconds rounds up, since 0 would mean never.
func seconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }
