package cli

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/windlass-hpc/windlass/initramfs"
	"github.com/windlass-hpc/windlass/initramfs/cpio"
)

func (a *app) initramfsLsCommand() *cobra.Command {
	var parts, quiet bool
	cmd := &cobra.Command{
		Use:     "ls FILE",
		Aliases: []string{"list"},
		Short:   "List what an initramfs holds",
		Long:    `List the parts of an initramfs, by whomever it was built, and the files in each.`,
		Example: `  windlass initramfs ls initramfs.img
  windlass initramfs ls --parts /boot/initrd.img-6.1.0-18-amd64
  windlass initramfs ls initramfs.img -o json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			list, err := initramfs.List(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			answer := newListed(list, parts)
			return a.print(answer, func(w io.Writer) error {
				if quiet {
					return answer.names(w)
				}
				return answer.write(w)
			})
		},
	}
	cmd.Flags().BoolVar(&parts, "parts", false, "only the parts")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "only the names of files")
	return cmd
}

// listedPart and listedFile are what ls answers.
type listedPart struct {
	Layer    string       `json:"layer,omitempty"`
	Offset   int64        `json:"offset"`
	Compress string       `json:"compress"`
	Bytes    int64        `json:"bytes"`
	Stored   int64        `json:"stored"`
	Count    int          `json:"count"`
	Files    []listedFile `json:"files,omitempty"`
}

type listedFile struct {
	Name   string `json:"name"`
	Mode   string `json:"mode"`
	UID    uint32 `json:"uid"`
	GID    uint32 `json:"gid"`
	Size   int64  `json:"size"`
	Target string `json:"target,omitempty"`
	Device string `json:"device,omitempty"`
}

type listed []listedPart

func newListed(parts []initramfs.Part, brief bool) listed {
	var list listed
	for _, p := range parts {
		one := listedPart{Layer: p.Layer(), Offset: p.Offset, Compress: string(p.Compress), Bytes: p.Bytes, Stored: p.Stored, Count: len(p.Entries)}
		for _, h := range p.Entries {
			if !brief {
				one.Files = append(one.Files, newListedFile(&h))
			}
		}
		list = append(list, one)
	}
	return list
}

func newListedFile(h *cpio.Header) listedFile {
	f := listedFile{Name: h.Name, Mode: h.FileMode().String(), UID: h.UID, GID: h.GID, Size: h.Size}
	switch h.Type() {
	case cpio.TypeSymlink:
		f.Target = string(h.Data)
	case cpio.TypeChar, cpio.TypeBlock:
		f.Device = fmt.Sprintf("%d:%d", h.Major, h.Minor)
	}
	return f
}

func (l listed) write(w io.Writer) error {
	for i, p := range l {
		if i > 0 && len(p.Files) > 0 {
			fmt.Fprintln(w)
		}
		name := fmt.Sprint("part ", i+1)
		if p.Layer != "" {
			name += ", " + p.Layer
		}
		_, err := fmt.Fprintf(w, "%s, at byte %d: %s, %d files, %s of %s\n", name, p.Offset, p.Compress, p.Count, size(p.Stored), size(p.Bytes))
		if err != nil {
			return err
		}
		for _, f := range p.Files {
			what := fmt.Sprint(f.Size)
			if f.Device != "" {
				what = f.Device
			}
			name := printable(f.Name)
			if f.Target != "" {
				name += " -> " + printable(f.Target)
			}
			if _, err := fmt.Fprintf(w, "%s %d:%d %9s %s\n", f.Mode, f.UID, f.GID, what, name); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l listed) names(w io.Writer) error {
	for _, p := range l {
		for _, f := range p.Files {
			if _, err := fmt.Fprintln(w, printable(f.Name)); err != nil {
				return err
			}
		}
	}
	return nil
}
