package linux

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path"
	"slices"
	"sort"

	"github.com/windlass-hpc/windlass/container"
	"github.com/windlass-hpc/windlass/container/shim/proto"
	"github.com/windlass-hpc/windlass/internal/cgroup"
	"github.com/windlass-hpc/windlass/internal/idmap"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// shimConfig is what the shim of a container is told.
func (r *Runtime) shimConfig(ctx context.Context, id container.ID, spec *models.Container, root string) (*proto.Config, error) {
	f, err := r.check(ctx, spec, root)
	if err != nil {
		return nil, err
	}
	c := &proto.Config{
		ID: int64(id), UUID: r.uuid(id), Dir: r.dir(id), Root: root, Hostname: hostname(id, spec), Path: f.path, Args: f.args,
		WorkDir: path.Clean("/" + spec.WorkingDir), User: f.user, Systemd: spec.Systemd, Cgroup: r.group(id), LogSize: r.cfg.LogSize,
	}
	for _, n := range spec.Namespaces {
		switch n {
		case models.ContainerNamespaceNet:
			c.Net = true
		case models.ContainerNamespaceTime:
			c.Time = true
		case models.ContainerNamespaceUser:
			c.UserNS, c.IDBase = true, r.IDs(id, spec).First
		}
	}
	for _, b := range spec.Binds {
		c.Binds = append(c.Binds, proto.Bind{Source: path.Clean(*b.Source), Target: path.Clean(*b.Target), ReadOnly: isTrue(b.Ro), Recursive: isTrue(b.Recursive)})
	}
	sort.SliceStable(c.Binds, func(i, j int) bool { return c.Binds[i].Target < c.Binds[j].Target }) // what lies below another comes after it
	c.Env = environment(spec, c.UUID)
	return c, nil
}

// IDs implements container.UserMapper.
func (r *Runtime) IDs(id container.ID, spec *models.Container) *idmap.Range {
	if !slices.Contains(spec.Namespaces, models.ContainerNamespaceUser) {
		return nil
	}
	return &idmap.Range{First: r.cfg.IDBase + uint32(int64(id)%idSlots)*proto.IDs, Size: proto.IDs}
}

func isTrue(b *bool) bool { return b != nil && *b }

// environment is what systemd's container interface asks for, and what the caller adds.
func environment(spec *models.Container, uuid string) []string {
	env := map[string]string{"PATH": defaultPath, "TERM": "xterm-256color", "container": "windlass", "container_uuid": uuid}
	for k, v := range spec.Env {
		env[k] = v
	}
	if spec.Systemd {
		env["NOTIFY_SOCKET"] = "/run/host/notify"
	}
	list := make([]string, 0, len(env))
	for k, v := range env {
		list = append(list, k+"="+v)
	}
	sort.Strings(list)
	return list
}

func hostname(id container.ID, spec *models.Container) string {
	switch {
	case spec.Hostname != "":
		return spec.Hostname
	case spec.Name != "" && len(spec.Name) <= 64:
		return string(spec.Name)
	}
	return fmt.Sprintf("windlass-%d", id)
}

// uuid is the same whenever the container is started again, and another for every container of every daemon.
func (r *Runtime) uuid(id container.ID) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "windlass container %s %d", r.cfg.RunDir, id))
	sum[6] = sum[6]&0x0f | 0x80 // version 8: made as the maker likes
	sum[8] = sum[8]&0x3f | 0x80
	return hex.EncodeToString(sum[:16])
}

func limits(spec *models.Container) cgroup.Limits {
	if spec.Limits == nil {
		return cgroup.Limits{}
	}
	return cgroup.Limits{Memory: spec.Limits.Memory, CPU: spec.Limits.CPU, Pids: spec.Limits.Pids}
}
