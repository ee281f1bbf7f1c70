package initramfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/windlass-hpc/windlass/initramfs/cpio"
	"github.com/windlass-hpc/windlass/initramfs/kmod"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// modules makes the layer of kernel modules.
func (p *Plan) modules(o *Options) (*cpio.Tree, error) {
	dir, err := kmod.Open(o.Modules, p.Release)
	if err != nil {
		return nil, err
	}
	if p.kernel != nil {
		p.kernel.readConfig(filepath.Join(dir.Path(), "config"))
	}
	req := o.Preset.Request()
	req.Names = slices.Concat(o.Module, o.Load)
	set, err := dir.Resolve(req)
	if err != nil {
		return nil, err
	}
	if err := p.sameKernel(dir, set, o.Kernel); err != nil {
		return nil, err
	}
	p.Modules, p.Missing = len(set.Modules), set.Missing
	p.Notes = append(p.Notes, set.Notes...)
	t := &cpio.Tree{}
	root := path.Join("lib/modules", p.Release)
	wrap, err := o.moduleWrap()
	if err != nil {
		return nil, err
	}
	for _, m := range set.Modules {
		e := cpio.Entry{Name: path.Join(root, m.Plain()+wrap.ending), Mode: cpio.TypeRegular | 0o644, Load: func() ([]byte, error) { return wrap.of(m.Read()) }}
		if err := t.Add(e); err != nil {
			return nil, err
		}
	}
	index := dir.Index(set, p.Release, o.Load)
	index.Compressed(wrap.ending)
	dep, aliases := index.Depmod()
	for name, text := range map[string][]byte{kmod.IndexName: index.Text(), kmod.DepName: dep, kmod.AliasesName: aliases} {
		if err := t.File(path.Join(root, name), 0o644, text); err != nil {
			return nil, err
		}
	}
	return t, p.firmware(t, set, o.Firmware)
}

// sameKernel finds the version that the modules are for and refuses those of another one. What depmod calls weak updates was made for another
// kernel of the same interface.
func (p *Plan) sameKernel(dir *kmod.Dir, set *kmod.Set, kernel string) error {
	for _, m := range set.Modules {
		if m.Release() == "" || strings.HasPrefix(m.Path, "weak-updates/") {
			continue
		}
		if p.Release == "" {
			p.Release = m.Release()
		}
		if m.Release() == p.Release {
			continue
		}
		if p.kernel == nil {
			return fault.New(fault.Invalid, "%s holds modules of several kernels: %s is for %s, others for %s", dir.Path(), m.Path, m.Release(), p.Release)
		}
		return fault.Hintf(fault.New(fault.Invalid, "module %s is for kernel %s, and %s is kernel %s, which would not load it", m.Path, m.Release(),
			kernel, p.Release), "name the modules of that kernel, such as --modules /lib/modules/%s", p.Release)
	}
	if p.Release == "" { // no module says
		p.Release = filepath.Base(dir.Path())
	}
	return nil
}

// firmware adds the files that the modules may ask for, as far as they are there: many name files for devices of another age.
func (p *Plan) firmware(t *cpio.Tree, set *kmod.Set, dir string) error {
	asked := map[string]bool{}
	for _, m := range set.Modules {
		for _, f := range m.Firmware {
			asked[f] = filepath.IsLocal(f) && path.Clean(f) == f
		}
	}
	if dir == "" {
		if len(asked) > 0 {
			p.Notes = append(p.Notes, fmt.Sprintf("the modules may ask for %d files of firmware, of which none is packed: --firmware /lib/firmware packs them", len(asked)))
		}
		return nil
	}
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		return fault.New(fault.NotFound, "%s is no directory of firmware", dir)
	}
	found := 0
	for f, plain := range asked {
		if !plain {
			continue
		}
		file, err := firmwareFile(dir, f)
		if err != nil {
			return err
		}
		if file == "" {
			continue
		}
		found++
		load := func() ([]byte, error) { return kmod.ReadPlain(file) }
		if err := t.Add(cpio.Entry{Name: path.Join("lib/firmware", f), Mode: cpio.TypeRegular | 0o644, Load: load}); err != nil {
			return err
		}
	}
	p.Notes = append(p.Notes, fmt.Sprintf("%d of the %d files of firmware that the modules may ask for are in %s", found, len(asked), dir))
	return nil
}

// firmwareFile gives the file, which distributions compress; "" when there is none. It is packed plain: not every kernel unpacks it.
func firmwareFile(dir, name string) (string, error) {
	for _, end := range []string{"", ".zst", ".xz"} {
		file := filepath.Join(dir, name+end)
		st, err := os.Stat(file)
		if err == nil && st.Mode().IsRegular() {
			return file, nil
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("firmware: %w", err)
		}
	}
	return "", nil
}
