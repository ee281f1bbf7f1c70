package rbd

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// maxLines is how many lines of the kernel's log are told.
const maxLines = 4

// ours says whether a line of the kernel's log is of rbd, or of what it lies on.
func ours(line string) bool {
	return strings.HasPrefix(line, "rbd: ") || strings.HasPrefix(line, "libceph: ")
}

// explain says in words why an image was not mapped. Said is what the kernel logged meanwhile, which may be about others too.
func (r *request) explain(ctx context.Context, err error, addrs []netip.AddrPort, said []string) error {
	name, user, at := r.holder.name(), "client."+r.user, strings.Join(r.holder.Monitors, ", ")
	switch {
	case errors.Is(err, unix.ENOENT):
		return r.explainMissing(err, said)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EKEYREJECTED):
		err = fault.New(fault.Forbidden, "map %s: the cluster at %s does not know %s with this secret: %w", name, at, user, err)
		return fault.Hintf(err, "compare with what `ceph auth get %s` prints; rbd.options.name is the user without `client.`", user)
	case errors.Is(err, unix.EPERM):
		return r.explainForbidden(err)
	case errors.Is(err, unix.ENXIO):
		return r.explainFeatures(err, said)
	case errors.Is(err, unix.ETIMEDOUT) && !says(said, "failed to acquire lock"):
		return r.explainTimeout(ctx, err, addrs, said)
	case errors.Is(err, unix.EROFS), errors.Is(err, unix.EBUSY), errors.Is(err, unix.ETIMEDOUT):
		err = fault.New(fault.Busy, "map %s: another client has its exclusive lock and keeps it: %w", name, err)
		return fault.Hintf(err, "`rbd status %s` shows who; attach it there no more, or attach it read-only", name)
	case errors.Is(err, unix.ESHUTDOWN):
		err = fault.New(fault.Forbidden, "map %s: the cluster has blocklisted this node: %w", name, err)
		return fault.Hintf(err, "`ceph osd blocklist ls` shows it, `ceph osd blocklist rm ADDRESS` takes it back")
	case errors.Is(err, unix.EINVAL):
		return r.explainInvalid(err, said)
	case errors.Is(err, unix.ENAMETOOLONG):
		return fault.New(fault.Invalid, "map %s: a name is longer than the kernel takes: %w", name, err)
	case errors.Is(err, context.DeadlineExceeded):
		return fault.New(fault.Timeout, "map %s: the cluster at %s has not answered in time: %w", name, at, err)
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("map %s: %w", name, err)
	case network(err):
		return fault.Hintf(fault.New(fault.Backend, "map %s: the cluster at %s: %w%s", name, at, err, quote(said)), "check the network and the monitors")
	}
	return fmt.Errorf("map %s: %w%s", name, err, quote(said))
}

func says(said []string, words string) bool {
	return slices.ContainsFunc(said, func(line string) bool { return strings.Contains(line, words) })
}

func network(err error) bool {
	for _, errno := range []unix.Errno{unix.EIO, unix.ECONNREFUSED, unix.ENETUNREACH, unix.EHOSTUNREACH, unix.ECONNRESET, unix.EPROTO} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// explainMissing: the kernel answers the same to whatever is missing, and logs what it was (rbd_print_dne).
func (r *request) explainMissing(err error, said []string) error {
	h := r.holder
	image := holder{Pool: h.Pool, Namespace: h.Namespace, Image: h.Image}
	for _, line := range said {
		switch line {
		case fmt.Sprintf("rbd: pool %s does not exist", h.Pool):
			err = fault.New(fault.NotFound, "map %s: there is no pool %s: %w", h.name(), h.Pool, err)
			return fault.Hintf(err, "`ceph osd pool ls` lists them")
		case fmt.Sprintf("rbd: snap %s does not exist", h.name()):
			err = fault.New(fault.NotFound, "map %s: there is no snapshot %s of %s: %w", h.name(), h.Snapshot, image.name(), err)
			return fault.Hintf(err, "`rbd snap ls %s` lists them", image.name())
		case fmt.Sprintf("rbd: image %s does not exist", image.name()):
			where := "pool " + h.Pool
			if h.Namespace != "" {
				where = fmt.Sprintf("namespace %s of pool %s, or there is no such namespace", h.Namespace, h.Pool)
			}
			err = fault.New(fault.NotFound, "map %s: there is no image %s in %s: %w", h.name(), h.Image, where, err)
			return fault.Hintf(err, "`rbd ls %s` lists them", strings.Trim(h.Pool+"/"+h.Namespace, "/"))
		}
	}
	err = fault.New(fault.NotFound, "map %s: there is no such pool, namespace, image or snapshot: %w", h.name(), err)
	return fault.Hintf(err, "`rbd info %s` shows it where it is", h.name())
}

func (r *request) explainForbidden(err error) error {
	name, user := r.holder.name(), "client."+r.user
	if r.readOnly {
		err = fault.New(fault.Forbidden, "map %s: %s may not read it: %w", name, user, err)
		return fault.Hintf(err, "ceph auth caps %s mon 'profile rbd' osd 'profile rbd-read-only pool=%s'", user, r.holder.Pool)
	}
	err = fault.New(fault.Forbidden, "map %s: %s may not write it: %w", name, user, err)
	return fault.Hintf(err, "set rbd.options.ro, or attach a snapshot, or: ceph auth caps %s mon 'profile rbd' osd 'profile rbd pool=%s'", user, r.holder.Pool)
}

// featureNames are what `rbd info` calls the bits.
var featureNames = [...]string{"layering", "striping", "exclusive-lock", "object-map", "fast-diff", "deep-flatten", "journaling", "data-pool",
	"operations", "migrating", "non-primary", "dirty-cache"}

func features(set uint64) []string {
	var all []string
	for ; set != 0; set &= set - 1 {
		n := bits.TrailingZeros64(set)
		if n < len(featureNames) {
			all = append(all, featureNames[n])
		} else {
			all = append(all, fmt.Sprintf("feature bit %d", n))
		}
	}
	return all
}

func (r *request) explainFeatures(err error, said []string) error {
	name := r.holder.name()
	for _, line := range said {
		_, hex, ok := strings.Cut(line, ": image uses unsupported features: 0x")
		set, perr := strconv.ParseUint(strings.TrimSpace(hex), 16, 64)
		if !ok || perr != nil {
			continue
		}
		all := features(set)
		err = fault.New(fault.Unsupported, "map %s: this kernel does not know what the image uses: %s: %w", name, strings.Join(all, ", "), err)
		return fault.Hintf(err, "rbd feature disable %s/%s %s; or use a newer kernel", r.holder.Pool, r.holder.Image, strings.Join(all, " "))
	}
	err = fault.New(fault.Unsupported, "map %s: this kernel does not know a feature that the image uses: %w", name, err)
	return fault.Hintf(err, "the kernel's log says which; `rbd feature disable` takes it from the image")
}

// explainTimeout: it is the monitors, unless the kernel says that one answered.
func (r *request) explainTimeout(ctx context.Context, err error, addrs []netip.AddrPort, said []string) error {
	name := r.holder.name()
	if says(said, " session established") {
		err = fault.New(fault.Timeout, "map %s: a monitor answers, but not the rest of the cluster at %s: %w%s",
			name, strings.Join(r.holder.Monitors, ", "), err, quote(said))
		return fault.Hintf(err, "`ceph -s` shows which OSDs are down")
	}
	reached := reach(ctx, addrs, r.v2)
	err = fault.New(fault.Timeout, "map %s: no monitor of the cluster answers as one: %s: %w", name, strings.Join(reached, "; "), err)
	return fault.Hintf(err, "check the addresses, that the monitors have a quorum (`ceph -s`), and that rbd.options.ms_mode fits the ports: legacy %d, others %d", portV1, portV2)
}

func (r *request) explainInvalid(err error, said []string) error {
	if says(said, "no secret set") {
		err = fault.New(fault.Forbidden, "map %s: the cluster at %s wants a secret of client.%s, and none is given: %w",
			r.holder.name(), strings.Join(r.holder.Monitors, ", "), r.user, err)
		return fault.Hintf(err, "give rbd.options.secret, secret_file or credential; `ceph auth get-key client.%s` prints it", r.user)
	}
	err = fault.New(fault.Invalid, "map %s: the kernel refuses the request: %w%s", r.holder.name(), err, quote(said))
	if says(said, "exclusive-lock feature is not enabled") {
		return fault.Hintf(err, "rbd feature enable %s/%s exclusive-lock, or leave rbd.options.exclusive and lock_on_read out", r.holder.Pool, r.holder.Image)
	}
	return fault.Hintf(err, "leave out options that this kernel does not know")
}

// quote gives the last lines of the kernel, in parentheses.
func quote(said []string) string {
	if len(said) == 0 {
		return ""
	}
	return " (the kernel says: " + strings.Join(said[max(0, len(said)-maxLines):], "; ") + ")"
}
