package linux

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/container/shim/proto"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/safepath"
)

// maxAccounts bounds what is read of an image's /etc/passwd and /etc/group: a large site has a few hundred kilobytes.
const maxAccounts = 16 << 20

// maxGroups is the kernel's NGROUPS_MAX.
const maxGroups = 65536

// account is a line of /etc/passwd.
type account struct {
	name     string
	uid, gid uint32
}

// lookupUser reads whom `user`, `user:group` or numbers mean in the image. The empty string is root. The files come from the image:
// they may be anything, large, or on a file system that hangs.
func lookupUser(ctx context.Context, root int, spec string) (proto.Identity, error) {
	if spec == "" || spec == "0" || spec == "0:0" {
		return proto.Identity{}, nil
	}
	dir, err := unix.FcntlInt(uintptr(root), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return proto.Identity{}, fmt.Errorf("look up a user: %w", err)
	}
	type answer struct {
		who proto.Identity
		err error
	}
	ch := make(chan answer, 1)
	go func() {
		defer unix.Close(dir)
		who, err := resolveUser(dir, spec)
		ch <- answer{who, err}
	}()
	select {
	case a := <-ch:
		return a.who, a.err
	case <-ctx.Done():
		return proto.Identity{}, fmt.Errorf("look up user %s in the image: %w", spec, ctx.Err())
	}
}

func resolveUser(root int, spec string) (proto.Identity, error) {
	user, group, hasGroup := strings.Cut(spec, ":")
	if user == "" || (hasGroup && group == "") {
		return proto.Identity{}, fault.New(fault.Invalid, "user %q: write user, user:group or numbers", spec)
	}
	acc, err := findAccount(root, user)
	if err != nil {
		return proto.Identity{}, err
	}
	who := proto.Identity{UID: acc.uid, GID: acc.gid}
	if hasGroup {
		who.GID, err = findGroup(root, group)
		return who, err
	}
	if acc.name != "" {
		who.Groups, err = groupsOf(root, acc)
	}
	return who, err
}

// findAccount looks a user up. A number without a line is a user all the same, of group 0.
func findAccount(root int, user string) (account, error) {
	number, numeric := parseID(user)
	var acc account
	ok := false
	err := eachLine(root, "/etc/passwd", func(f []string) bool {
		if len(f) < 4 {
			return true
		}
		uid, uok := parseID(f[2])
		gid, gok := parseID(f[3])
		if uok && gok && (f[0] == user || numeric && uid == number) {
			acc, ok = account{f[0], uid, gid}, true
		}
		return !ok
	})
	switch {
	case ok && err == nil:
		return acc, nil
	case numeric && (err == nil || errors.Is(err, unix.ENOENT)):
		return account{uid: number}, nil
	case err != nil:
		return acc, fault.New(fault.Invalid, "user %s: %w", user, err)
	}
	return acc, fault.Hintf(fault.New(fault.Invalid, "user %s: not in the image's /etc/passwd", user), "add it there, or give a number")
}

func findGroup(root int, group string) (uint32, error) {
	if gid, numeric := parseID(group); numeric {
		return gid, nil
	}
	var gid uint32
	ok := false
	err := eachLine(root, "/etc/group", func(f []string) bool {
		if len(f) >= 3 && f[0] == group {
			gid, ok = parseID(f[2])
		}
		return !ok
	})
	if err != nil {
		return 0, fault.New(fault.Invalid, "group %s: %w", group, err)
	}
	if !ok {
		return 0, fault.Hintf(fault.New(fault.Invalid, "group %s: not in the image's /etc/group", group), "add it there, or give a number")
	}
	return gid, nil
}

// groupsOf lists the further groups of a user.
func groupsOf(root int, acc account) ([]uint32, error) {
	var gids []uint32
	err := eachLine(root, "/etc/group", func(f []string) bool {
		if len(f) < 4 {
			return true
		}
		gid, ok := parseID(f[2])
		for _, m := range strings.Split(f[3], ",") {
			if ok && m == acc.name {
				gids = append(gids, gid)
				break
			}
		}
		return len(gids) < maxGroups
	})
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return nil, fault.New(fault.Invalid, "groups of user %s: %w", acc.name, err)
	}
	return gids, nil
}

// parseID reads an id. The largest is what the kernel uses for "none".
func parseID(s string) (uint32, bool) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err == nil && n < math.MaxUint32
}

// eachLine calls fn with the fields of each line of a file in the image until it answers false.
func eachLine(root int, name string, fn func(fields []string) bool) error {
	probe, err := safepath.OpenInRootAt(root, name, unix.O_PATH, 0)
	if err != nil {
		return fmt.Errorf("the image's %s: %w", name, err)
	}
	defer probe.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(probe.Fd()), &st); err != nil {
		return fmt.Errorf("the image's %s: %w", name, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return fmt.Errorf("the image's %s is no regular file", name)
	}
	if st.Size > maxAccounts {
		return fmt.Errorf("the image's %s is larger than %d bytes", name, maxAccounts)
	}
	// Opened through the descriptor that was looked at, so that it is the same file.
	fd, err := unix.Open("/proc/self/fd/"+strconv.Itoa(int(probe.Fd())), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("the image's %s: %w", name, err)
	}
	defer unix.Close(fd)
	sc := bufio.NewScanner(io.LimitReader(fdReader(fd), maxAccounts))
	sc.Buffer(make([]byte, 4096), 1<<20)
	for sc.Scan() {
		if !fn(strings.Split(sc.Text(), ":")) {
			return nil
		}
	}
	if err := sc.Err(); err != nil {
		return fmt.Errorf("the image's %s: %w", name, err)
	}
	return nil
}

type fdReader int

func (r fdReader) Read(b []byte) (int, error) {
	for {
		n, err := unix.Read(int(r), b)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return 0, err
		case n == 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}
