package cli

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/windlass-hpc/windlass/image"
)

func (a *app) imageLsCommand() *cobra.Command {
	var quiet bool
	cmd := &cobra.Command{
		Use:     "ls STORE",
		Aliases: []string{"list"},
		Short:   "List the images of a store",
		Example: `  windlass image ls /srv/images
  windlass image ls /srv/images -o json`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			list, err := image.List(args[0])
			if err != nil {
				return err
			}
			if quiet {
				for _, l := range list {
					if _, err := fmt.Fprintln(a.out, printable(orElse(l.Tag, l.Image))); err != nil {
						return err
					}
				}
				return nil
			}
			return a.print(list, func(w io.Writer) error { return a.imageTable(list).write(w) })
		},
	}
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "only the tags")
	return cmd
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

func (a *app) imageTable(list []image.Listed) *table {
	t := &table{head: []string{"TAG", "IMAGE", "FILES", "DATA", "STORED", "CHANGED", "TRACES", "PINNED"}}
	for _, l := range list {
		if l.Error != "" {
			t.add(l.Tag, brief(l.Image), "damaged: "+short(l.Error, 80), "", "", "", "", "")
			continue
		}
		pinned := ""
		if l.Pinned {
			pinned = "yes"
		}
		t.add(l.Tag, brief(l.Image), fmt.Sprint(l.Files), size(l.Data), size(l.Stored), l.Changed.Local().Format("2006-01-02 15:04"),
			strings.Join(l.Roles, " "), pinned)
	}
	return t
}

func (a *app) imageInspectCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "inspect STORE#TAG",
		Short: "Show what an image is made of",
		Example: `  windlass image inspect /srv/images#debian/12
  windlass image inspect http://head:8080#debian/12 -o json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withImage(cmd, args[0], func(i *image.Image) error {
				s, err := i.Summary(cmd.Context())
				if err != nil {
					return err
				}
				return a.print(s, func(w io.Writer) error { return summaryFacts(s).write(w) })
			})
		},
	}
}

func summaryFacts(s *image.Summary) *facts {
	f := &facts{}
	f.add("image", "%s", s.Image)
	f.add("tags", "%s", orElse(strings.Join(s.Tags, " "), "-"))
	if s.Pinned != "" {
		f.add("pinned", "%s", s.Pinned)
	}
	if len(s.Roles) > 0 {
		f.add("traces", "%s", strings.Join(s.Roles, " "))
	}
	for _, k := range slices.Sorted(maps.Keys(s.Labels)) {
		f.add("label", "%s=%s", k, s.Labels[k])
	}
	f.add("holds", "%d files, %s", s.Files, size(s.Data))
	f.add("device", "%s, %s of it holes", size(s.Device), size(s.Holes))
	f.add("stored", "%s in %d chunks and %d packs", size(s.Stored), s.Chunks, len(s.Packs))
	f.add("chunks", "%s to %s, half of them below %s", size(int64(s.Smallest)), size(int64(s.Largest)), size(int64(s.Median)))
	var codecs []string
	for _, c := range slices.Sorted(maps.Keys(s.Codecs)) {
		codecs = append(codecs, fmt.Sprintf("%s %d", c, s.Codecs[c]))
	}
	f.add("codecs", "%s", orElse(strings.Join(codecs, ", "), "-"))
	f.add("digests", "%s", s.Algorithm)
	f.add("at mount", "%s: manifest, index and metadata (%s unpacked)", size(s.Upfront), size(s.Metadata))
	return f
}

func (a *app) imageDiffCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "diff STORE#A STORE#B",
		Short: "Show what distinguishes two images",
		Long: `Show which files came, went or changed from one image to another, and how many bytes a node that has the first must fetch for the
second. The second may lie in another store; a tag alone is of the first's. What changed is content, type, mode, owner, time, attributes,
target, device or links (which names are hard links of one another).`,
		Example: `  windlass image diff /srv/images#debian/12 debian/13
  windlass image diff /srv/images#debian/12 http://head:8080#debian/12 -o json`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !strings.Contains(args[1], "#") {
				at, _ := splitRef(args[0])
				args[1] = at + "#" + args[1]
			}
			return withImage(cmd, args[0], func(from *image.Image) error {
				return withImage(cmd, args[1], func(to *image.Image) error {
					d, err := image.Compare(cmd.Context(), from, to)
					if err != nil {
						return err
					}
					return a.print(d, func(w io.Writer) error { return a.writeDiff(w, d) })
				})
			})
		},
	}
}

func (a *app) writeDiff(w io.Writer, d *image.Diff) error {
	p := a.palette(a.out)
	var b strings.Builder
	line := func(colour, sign, text string) { b.WriteString(p.paint(colour, sign+" "+printable(text)) + "\n") }
	for _, e := range d.Removed {
		line(red, "-", entryText(e))
	}
	for _, e := range d.Added {
		line(green, "+", entryText(e))
	}
	for _, c := range d.Changed {
		text := c.Path + "  " + strings.Join(c.What, ", ")
		if c.Sizes[0] != c.Sizes[1] {
			text += fmt.Sprintf(" (%s → %s)", size(c.Sizes[0]), size(c.Sizes[1]))
		}
		line(yellow, "~", text)
	}
	fmt.Fprintf(&b, "%d removed, %d added, %d changed\n", len(d.Removed), len(d.Added), len(d.Changed))
	s := d.Chunks
	fmt.Fprintf(&b, "to fetch: %s in %d chunks; %s in %d are shared; %s in %d are of no use any more\n",
		size(s.NewBytes), s.New, size(s.SharedBytes), s.Shared, size(s.GoneBytes), s.Gone)
	_, err := io.WriteString(w, b.String())
	return err
}

func entryText(e image.Entry) string {
	if e.Type == "file" {
		return e.Path + "  " + size(e.Size)
	}
	return e.Path + "  " + e.Type
}
